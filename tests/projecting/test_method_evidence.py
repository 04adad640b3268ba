from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploycost.experiment import DatasetSpec, TrainingSpec
from deploycost.projecting.method_evidence import (
    Asked,
    KnownStudy,
    best_evidence,
    mean_tokens,
    measured_memory,
    prediction_ratios,
)
from deploycost.study_record import CellMeasurement, ServedArtifact, conditions_of
from deploycost.units import MIB


def _asked(slug: str = "lora-r8", base_model: str = "minilm", dataset: str | None = "ag_news", **changes: Any) -> Asked:
    method: Any = slug.split("-", maxsplit=1)[0]
    rows = DatasetSpec(train_rows=changes.pop("train_rows", None))
    own, of_full = (conditions_of(each, TrainingSpec(**changes), rows) for each in (method, "full"))
    return Asked(method, slug, base_model, dataset, own, of_full)


LORA = _asked()
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
    drop, speed = evidence.accuracy_drop, evidence.training_speed_ratio("Test CPU, 1 core")
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
        (_asked(dataset="tickets"), "projected"),
        (_asked(dataset=None), "projected"),
        (_asked(epochs=2), "projected"),
        (_asked(train_rows=600), "projected"),
        (_asked(batch_size=8), "projected"),  # lora's own, but not full's
        (_asked(learning_rate=1e-3), "projected"),
        (_asked(seed=7, gradient_checkpointing=True), "measured"),  # changes nothing of what is learnt
        (_asked("lora-r16"), "assumed"),
        (_asked(max_tokens=64), "assumed"),
        (_asked(base_model="distilbert-base-uncased"), "assumed"),
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
        evidence = best_evidence([study_of(cells)], _asked("prompt-p20"))
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
    assert measured_memory([study], _asked("lora-r4", dataset=None), 400 * MIB, "process") is None
    assert measured_memory([study], _asked(base_model="bert", dataset=None), 400 * MIB, "process") is None


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


def test_what_differs_is_told_once(measurement: Measure, study_of: MakeStudy) -> None:
    study = study_of({"full": [measurement(0.90)], "lora-r8": [measurement(0.89)]})
    evidence = best_evidence([study], _asked("lora-r4", dataset="sst2", epochs=3, batch_size=16))
    assert evidence is not None
    assert evidence.differences == (
        "lora-r8, not lora-r4", "texts of ag_news, not sst2", "5 epochs, not 3", "batches of 8, not 16",
    )  # fmt: skip


def test_of_two_machines_nothing_is_one(
    measurement: Measure, study_of: MakeStudy, machine_of: Callable[..., Any]
) -> None:
    faster = measurement(0.89, machine=machine_of(cpu_cores=4))
    evidence = best_evidence([study_of({"full": [measurement(0.90)], "lora-r8": [faster]})], LORA)
    assert evidence is not None
    assert evidence.machine is None
