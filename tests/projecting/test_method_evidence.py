from __future__ import annotations

from collections.abc import Callable

import pytest

from deploycost.projecting.method_evidence import (
    Asked,
    KnownStudy,
    best_evidence,
    mean_tokens,
    measured_memory,
    prediction_ratios,
)
from deploycost.study_record import CellMeasurement, ServedArtifact
from deploycost.units import MIB

LORA = Asked("lora", "lora-r8", "minilm", "ag_news")
Measure = Callable[..., CellMeasurement]
MakeStudy = Callable[..., KnownStudy]


def test_drop_and_speed_are_paired_by_seed(measurement: Measure, study_of: MakeStudy) -> None:
    study = study_of(
        {
            "full": [measurement(0.90, 40.0), measurement(0.92, 50.0), measurement(0.91, 40.0)],
            "lora-r8": [measurement(0.89, 50.0), None, measurement(0.89, 60.0)],
        }
    )
    evidence = best_evidence([study], LORA)
    assert evidence is not None
    drop, speed = evidence.accuracy_drop, evidence.training_speed_ratio
    # Seeds 1 and 3: drops of 0.01 and 0.02; half the interval is 12.706 x 0.00707 / sqrt(2).
    assert drop.value == pytest.approx(0.015)
    assert (drop.low, drop.high) == pytest.approx((0.015 - 0.06353, 0.015 + 0.06353), abs=1e-5)
    assert speed.value == pytest.approx((1.25 + 1.5) / 2)
    assert drop.basis == speed.basis == "measured"
    assert evidence.source == "lora-r8 in shipped study methods"


def test_of_one_seed_the_interval_is_that_of_the_rows(measurement: Measure, study_of: MakeStudy) -> None:
    evidence = best_evidence([study_of({"full": [measurement(0.90)], "lora-r8": [measurement(0.89)]})], LORA)
    assert evidence is not None
    # 1.96 x sqrt((0.9 x 0.1 + 0.89 x 0.11) / 1000) = 0.0269
    assert evidence.accuracy_drop.low == pytest.approx(0.01 - 0.02687, abs=1e-5)
    assert evidence.accuracy_drop.high == pytest.approx(0.01 + 0.02687, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "basis"),
    [
        (LORA, "measured"),
        (Asked("lora", "lora-r8", "minilm", "tickets"), "projected"),
        (Asked("lora", "lora-r8", "minilm", None), "projected"),
        (Asked("lora", "lora-r16", "minilm", "ag_news"), "assumed"),
        (Asked("lora", "lora-r8", "distilbert-base-uncased", "ag_news"), "assumed"),
    ],
)
def test_the_farther_the_evidence_the_weaker_its_basis(
    asked: Asked, basis: str, measurement: Measure, study_of: MakeStudy
) -> None:
    evidence = best_evidence([study_of({"full": [measurement(0.90)], "lora-r8": [measurement(0.89)]})], asked)
    assert evidence is not None
    assert evidence.accuracy_drop.basis == basis


def test_without_full_beside_it_a_method_has_no_evidence(measurement: Measure, study_of: MakeStudy) -> None:
    assert best_evidence([], LORA) is None
    assert best_evidence([study_of({"lora-r8": [measurement(0.89)]})], LORA) is None
    failed = study_of({"full": [None, measurement(0.9)], "lora-r8": [measurement(0.89), None]})
    assert best_evidence([failed], LORA) is None


def test_the_nearest_evidence_is_taken(measurement: Measure, study_of: MakeStudy) -> None:
    def study(slug: str = "lora-r8", own: bool = False, name: str = "methods", **changes: object) -> KnownStudy:
        return study_of({"full": [measurement(0.90)], slug: [measurement(0.89)]}, own, name=name, **changes)

    def chosen(*studies: KnownStudy) -> str:
        evidence = best_evidence(studies, LORA)
        assert evidence is not None
        return evidence.study.record.name

    near = study(name="near")
    assert chosen(study("lora-r16", own=True, name="other rank"), near) == "near"
    assert chosen(study(own=True, name="other base", base_model="bert"), near) == "near"
    assert chosen(study(own=True, name="other texts", dataset="sst2"), near) == "near"
    assert chosen(near, study(own=True, name="own")) == "own"
    assert chosen(near, study(name="larger", train_rows=8000)) == "larger"


def test_serving_cost_is_of_the_same_artifact_int8_first(
    measurement: Measure, study_of: MakeStudy, served_in: Callable[..., ServedArtifact]
) -> None:
    def ratio(full: list[ServedArtifact], prompt: list[ServedArtifact]) -> float | None:
        cells = {
            "full": [measurement(0.9, served=tuple(full))],
            "prompt-p20": [measurement(0.9, served=tuple(prompt))],
        }
        evidence = best_evidence([study_of(cells)], Asked("prompt", "prompt-p20", "minilm", "ag_news"))
        assert evidence is not None
        figure = evidence.serving_cost_ratio
        return figure.value if figure else None

    fp32, int8 = served_in(20.0, "onnx-fp32"), served_in(5.0)
    assert ratio([fp32, int8], [served_in(24.0, "onnx-fp32"), served_in(7.0)]) == pytest.approx(1.4)
    assert ratio([fp32, int8], [served_in(24.0, "onnx-fp32"), served_in(None)]) == pytest.approx(1.2)
    assert ratio([fp32], [served_in(7.0)]) is None
    assert ratio([], []) is None


def test_a_measured_peak_is_that_of_the_same_training(measurement: Measure, study_of: MakeStudy) -> None:
    study = study_of({"lora-r8": [measurement(0.9), measurement(0.9, memory_bytes=310 * MIB)]}, own=True)
    found = measured_memory([study], LORA, 400 * MIB, "process")
    assert found is not None
    figure, source = found
    assert (figure.value, figure.low, figure.high) == (310 * MIB, 300 * MIB, 310 * MIB)
    assert figure.basis == "measured"
    assert source == "lora-r8 in own study methods"
    # Another load, another kind of device, another rank, another base.
    assert measured_memory([study], LORA, 420 * MIB, "process") is None
    assert measured_memory([study], LORA, 400 * MIB, "gpu") is None
    assert measured_memory([study], Asked("lora", "lora-r4", "minilm", None), 400 * MIB, "process") is None
    assert measured_memory([study], Asked("lora", "lora-r8", "bert", None), 400 * MIB, "process") is None


def test_what_is_known_of_predictions_and_texts(measurement: Measure, study_of: MakeStudy) -> None:
    unpredicted = measurement(0.9, predicted_memory_bytes=None)
    on_gpu = measurement(0.9, memory_source="gpu", memory_bytes=500 * MIB)
    study = study_of({"full": [measurement(0.9), unpredicted], "lora-r8": [on_gpu, None]})
    assert prediction_ratios([study], "process") == [0.75]
    assert prediction_ratios([study], "gpu") == [1.25]
    longer = study_of({"full": [measurement(0.9, tokens_per_s=40.0 * 30)]}, dataset="sst2")
    assert mean_tokens([study, longer], "sst2") == 30
    assert mean_tokens([study, longer], None) == 50
    assert mean_tokens([], "sst2") is None
