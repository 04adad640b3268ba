from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycost.encoder_shape import EncoderShape
from deploycost.experiment import DatasetSpec, TrainingSpec
from deploycost.methods import METHODS
from deploycost.projecting.method_choice import advise
from deploycost.projecting.method_evidence import KnownStudy
from deploycost.projecting.method_outlook import MethodQuestion, outlook, serving_work_ratio
from deploycost.study_record import CellMeasurement, ServedArtifact
from deploycost.training_memory import Setting, TrainingLoad, load_of, predict
from deploycost.units import GIB, MIB
from deploycost.verdicts import MethodOutlook

# MiniLM-L6's measures, without its files.
SHAPE = EncoderShape("bert", 6, 384, 12, 1536, 30522, 512, 2)
SETTING = Setting(labels=4, tokens=128, half_precision=True)
Measure = Callable[..., CellMeasurement]
MakeStudy = Callable[..., KnownStudy]


def ask(budget_bytes: int = 4 * GIB, **changes: Any) -> MethodQuestion:
    fields: dict[str, Any] = {
        "memory_budget_bytes": budget_bytes,
        "max_accuracy_drop": 0.01,
        "base_model": "minilm",
        "dataset": DatasetSpec(source="ag_news"),
        "dataset_is_known": True,
        "shape": SHAPE,
        "training": TrainingSpec(),
        "setting": SETTING,
        "machine": "Test CPU, 1 core",
    }
    return MethodQuestion(**fields | changes)


def predicted(method: Any, **changes: Any) -> int:
    spec = TrainingSpec(**changes)
    return predict(SHAPE, load_of(METHODS[method], spec, SHAPE, SETTING)).total


@pytest.fixture
def usual(measurement: Measure, study_of: MakeStudy, served_in: Callable[..., ServedArtifact]) -> KnownStudy:
    """Full 90 %; lora a point less and 1.25 x as fast; qlora two points less; prompt as good, but 1.4 x to serve."""
    return study_of(
        {
            "full": [measurement(0.90, 40.0, served=(served_in(5.0),))],
            "lora-r8": [measurement(0.89, 50.0, served=(served_in(5.1),))],
            "qlora-r8": [measurement(0.88, 30.0, served=(served_in(5.0),))],
            "prompt-p20": [measurement(0.90, 60.0, served=(served_in(7.0),))],
        }
    )


def test_cheapest_to_serve_then_fastest_to_train(usual: KnownStudy) -> None:
    advice = advise(ask(), [usual])
    # prompt trains faster and is more accurate, but costs 1.4 times as much to serve.
    assert advice.choice == "lora-r8"
    assert "8 of 8 methods train within 4 GiB" in advice.reason
    assert "of these 3 lose at most 1.00 points to full by estimate, 1 more than that, and of 4 it is not known" in (
        advice.reason
    )
    assert "among those that keep to the limit, the cheapest to serve: full, lora-r8" in advice.reason
    assert advice.reason.endswith("of these lora-r8 trains fastest (1.25 times as fast as full).")
    assert advice.evidence == (
        "shipped study methods: minilm on ag_news, 4,000 training rows, 2 epochs, 1 seed, 1,000 test rows, 2026-11-22",
    )


def test_a_tighter_limit_leaves_full(usual: KnownStudy) -> None:
    assert advise(ask(max_accuracy_drop=0.0), [usual]).choice == "full"


def test_an_interval_beyond_the_limit_is_a_doubt(usual: KnownStudy) -> None:
    (doubt,) = [line for line in advise(ask(), [usual]).doubts if "accuracy drop" in line]
    # 0.01 + 1.96 x sqrt((0.09 + 0.0979) / 1000) = 0.0369
    assert doubt == "The interval of its accuracy drop reaches 3.69 points: the limit of 1.00 points may be missed."


def test_evidence_of_another_training_is_a_doubt(usual: KnownStudy) -> None:
    assert "Its accuracy is projected, from a training with texts of ag_news, not yours." in (
        advise(ask(dataset_is_known=False), [usual]).doubts
    )
    longer = advise(ask(training=TrainingSpec(epochs=9)), [usual])
    assert longer.chosen is not None
    assert longer.chosen.accuracy_drop.basis == "projected"
    assert "Its accuracy is projected, from a training with 5 epochs, not 9." in longer.doubts


def test_no_evidence_is_never_preferred_to_evidence(usual: KnownStudy) -> None:
    # Without studies only full is known to lose nothing; where it does not fit, the rest is assumed to do.
    assert advise(ask(), []).choice == "full"
    small = advise(ask(predicted("lora")), [])
    assert small.choice == "lora-r8"
    assert "No study measured the accuracy of lora-r8" in small.doubts[0]
    known = advise(ask(predicted("lora")), [usual])
    assert known.chosen is not None
    assert known.chosen.has_evidence


def test_as_fast_is_settled_by_accuracy(measurement: Measure, study_of: MakeStudy) -> None:
    cells = {"full": [measurement(0.9, 40.0)], "lora-r8": [measurement(0.893, 40.8)]}
    # With others that are as cheap to serve and of unknown speed, speed would have no say.
    advice = advise(ask(), [study_of(cells)])
    assert advice.choice == "full"  # 2 % faster is noise
    assert "of these full loses the least accuracy by estimate and trains about as fast as the fastest, lora-r8" in (
        advice.reason
    )
    cells["lora-r8"] = [measurement(0.893, 44.0)]
    assert advise(ask(), [study_of(cells)]).choice == "lora-r8"


def test_speed_has_no_say_where_one_of_them_is_unknown(usual: KnownStudy) -> None:
    on_gpu = Setting(labels=4, tokens=128, half_precision=True, device="cuda")
    advice = advise(ask(setting=on_gpu), [usual])
    # lora trains 1.25 x as fast as full on a CPU; on a GPU nothing is known, and an unknown speed is not a slow one.
    assert advice.choice == "full"
    assert advice.reason.endswith(
        "speed of training is left out, as that of lora-r8 is not known: full loses the least accuracy by estimate."
    )


def test_speed_has_no_say_across_machines(
    usual: KnownStudy, measurement: Measure, study_of: MakeStudy, machine_of: Callable[..., Any]
) -> None:
    elsewhere = {"machine": machine_of(cpu_model="Other CPU")}
    cells = {"full": [measurement(0.9, 40.0, **elsewhere)], "dynamic-r8": [measurement(0.895, 90.0, **elsewhere)]}
    advice = advise(ask(), [usual, study_of(cells, name="dynamic-rank")])
    by_slug = {each.slug: each for each in advice.outlooks}
    assert by_slug["dynamic-r8"].training_speed_ratio.value == pytest.approx(2.25)
    assert by_slug["dynamic-r8"].training_speed_ratio.basis == "projected"  # measured on another machine than asked
    assert by_slug["lora-r8"].training_speed_ratio.basis == "measured"
    assert "measured on different machines (Other CPU, 1 core; Test CPU, 1 core): full loses the least" in advice.reason


def test_speed_is_compared_at_equal_batches_or_those_asked_for(
    measurement: Measure, study_of: MakeStudy, conditions_with: Callable[..., Any]
) -> None:
    def speed(full: int, lora: int) -> float | None:
        cells = {
            "full": [measurement(0.9, 40.0, conditions=conditions_with("full", batch_size=full))],
            "lora-r8": [measurement(0.9, 50.0, conditions=conditions_with("lora", batch_size=lora))],
        }
        return outlook(ask(), "lora", [study_of(cells)]).training_speed_ratio.value

    assert speed(16, 8) == speed(32, 32) == pytest.approx(1.25)
    assert speed(8, 32) is None


def test_a_budget_that_the_device_caps_is_said(usual: KnownStudy) -> None:
    assert advise(ask(budget_note="16 GiB is all; "), [usual]).reason.startswith("16 GiB is all; 8 of 8 methods")


def test_memory_is_the_model_s_with_the_error_it_is_known_to_have(usual: KnownStudy) -> None:
    found = outlook(ask(), "adapter", [usual])
    memory = predicted("adapter")
    # Every training of the study took 300 MiB where 400 were predicted.
    assert found.memory_bytes.value == memory
    assert found.memory_bytes.low == pytest.approx(0.75 * memory)
    assert found.memory_bytes.high == memory
    assert found.memory_bytes.basis == "projected"
    assert found.memory_source == "memory model; 4 trainings took 0.75 to 0.75 times what it predicts"


def test_a_measured_peak_goes_before_the_model(measurement: Measure, study_of: MakeStudy) -> None:
    same = measurement(0.9, predicted_memory_bytes=predicted("lora"), memory_bytes=350 * MIB)
    found = outlook(ask(), "lora", [study_of({"lora-r8": [same]}, own=True)])
    assert found.memory_bytes.value == 350 * MIB
    assert found.memory_bytes.basis == "measured"


def test_settings_are_adapted_and_then_speed_is_unknown(usual: KnownStudy) -> None:
    checkpointed = predicted("lora", gradient_checkpointing=True)
    found = outlook(ask(checkpointed), "lora", [usual])
    assert (found.fits, found.adapted, found.batch_size, found.gradient_checkpointing) == (True, True, 8, True)
    assert found.training_speed_ratio.value is None
    assert found.accuracy_drop.basis == "measured"  # checkpointing changes no result
    halved = outlook(ask(predicted("lora", gradient_checkpointing=True, batch_size=4)), "lora", [usual])
    assert (halved.batch_size, halved.gradient_checkpointing) == (4, True)
    assert halved.accuracy_drop.basis == "assumed"


def test_none_fits_names_the_smallest_that_would() -> None:
    advice = advise(ask(10 * MIB), [])
    assert advice.choice is None
    assert not any(each.fits for each in advice.outlooks)
    smallest = min(predicted(method, batch_size=1, gradient_checkpointing=True) for method in METHODS)
    assert f"give --memory-budget {-(-smallest // MIB)}MiB" in advice.reason
    assert advise(ask(-(-smallest // MIB) * MIB), []).choice is not None


def test_none_accurate_names_the_nearest(measurement: Measure, study_of: MakeStudy) -> None:
    slugs = ("lora-r8", "qlora-r8", "prompt-p20", "prefix-p20", "adapter-pfeiffer-16", "dynamic-r8", "stacked-r8-p20")
    cells = {"full": [measurement(0.9)], **{slug: [measurement(0.85)] for slug in slugs}}
    cells["lora-r8"] = [measurement(0.88)]
    # Too little for full with any batch.
    budget = predicted("full", batch_size=1, gradient_checkpointing=True) - 1
    advice = advise(ask(budget), [study_of(cells)])
    assert advice.choice is None
    assert "none of the 7 methods" in advice.reason
    assert "the nearest is lora-r8 with 2.00 points; relax --max-accuracy-drop" in advice.reason


def test_speed_on_another_kind_of_device_is_unknown(usual: KnownStudy) -> None:
    on_gpu = Setting(labels=4, tokens=128, half_precision=True, device="cuda")
    found = outlook(ask(setting=on_gpu), "lora", [usual])
    assert found.training_speed_ratio.value is None
    assert "another kind of device" in found.training_source
    assert found.memory_source == "memory model, not checked on this kind of device"


def test_merged_methods_serve_as_full_does_whatever_was_measured(usual: KnownStudy) -> None:
    by_method: dict[str, MethodOutlook] = {each.method: each for each in advise(ask(), [usual]).outlooks}
    assert {by_method[name].serving_cost_ratio.value for name in ("full", "lora", "qlora", "dynamic")} == {1.0}
    assert by_method["prompt"].serving_cost_ratio.value == pytest.approx(1.4)
    assert by_method["prompt"].serving_cost_ratio.basis == "measured"
    assert by_method["adapter"].serving_cost_ratio.basis == "projected"
    assert by_method["adapter"].serving_source == "multiplications for a text of 50 tokens"


def _load(**changes: Any) -> TrainingLoad:
    return TrainingLoad(labels=2, batch_size=1, tokens=10, half_precision=False, **changes)


def test_serving_work_by_hand() -> None:
    # One layer of width 2 and feed-forward 4: 4 x 2 x 2 + 2 x 2 x 4 = 32 weights. A text of 10 tokens takes
    # 10 x (32 + 2 x 2 x 10) = 720.
    shape = EncoderShape("bert", 1, 2, 1, 4, 100, 16, 2)
    assert serving_work_ratio(shape, _load(), 10) == 1
    # 5 tokens more in the input: 15 x (32 + 2 x 2 x 15) = 1380.
    assert serving_work_ratio(shape, _load(input_tokens=5), 10) == pytest.approx(1380 / 720)
    # 5 keys more: 10 x 2 x 2 x 5 = 200.
    assert serving_work_ratio(shape, _load(layer_tokens=5, prompted_layers=1), 10) == pytest.approx(920 / 720)
    # Two bottlenecks of width 1: 2 x 2 x 1 x 2 x 10 = 80.
    extra = _load(bottlenecks_per_layer=2, bottleneck_width=1)
    assert serving_work_ratio(shape, extra, 10) == pytest.approx(800 / 720)


@settings(deadline=None)
@given(st.integers(50 * MIB, 2 * GIB), st.integers(0, GIB))
def test_a_larger_budget_never_makes_a_method_unfit(budget: int, more: int) -> None:
    smaller, larger = (advise(ask(size), []).outlooks for size in (budget, budget + more))
    assert all(b.fits for a, b in zip(smaller, larger, strict=True) if a.fits)
