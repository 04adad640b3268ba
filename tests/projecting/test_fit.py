from math import expm1, inf
from statistics import median

import pytest

from deploycost.projecting.evidence_base import evidence_of, words_of
from deploycost.projecting.fit import (
    WAYS,
    LeftOut,
    Way,
    distinct_groups,
    fit,
    groups_of,
    kind_width,
    left_out,
    rows_by_kind,
)
from deploycost.projecting.fitted import NO_FACTOR, Novelty, read_fitted
from deploycost.projecting.observations import Observation, observe, shipped_observations


@pytest.fixture(scope="module")
def rows() -> list[LeftOut]:
    fitted, observations = read_fitted(), shipped_observations()
    return [row for way in WAYS for row in left_out(fitted, observations, way)]


def test_the_shipped_table_is_what_the_script_gives() -> None:
    shipped = read_fitted()
    again = fit(shipped.parameters)
    assert again.parameters == shipped.parameters
    assert again.factors == shipped.factors
    assert again.widths == pytest.approx(shipped.widths, rel=0.01)


ROW = {
    "model": "bert-base", "hardware": "Inferentia2", "precision": "bf16", "runtime": "torch-neuronx", "batch_size": "1",
    "seq_len": "128", "metric": "latency_mean", "unit": "ms",
}  # fmt: skip


def measured(value: int) -> Observation:
    return observe(ROW | {"value": str(value)})


def off(observation: Observation, group: tuple[Way, int], novelty: Novelty, deviations: float) -> LeftOut:
    return LeftOut(observation, group, novelty, error=0.1 * deviations, deviation=0.1)


def test_of_few_groups_the_worst_decides_how_wide_an_interval_is() -> None:
    seen = [measured(number) for number in range(1, 31)]
    # Two tables of ten rows: one off by half a deviation, the other by two.
    two = [
        off(each, ("source", number // 10), "runtime", (0.5, 2.0)[number // 10])
        for number, each in enumerate(seen[:20])
    ]
    assert kind_width("accelerator/runtime", rows_by_kind(two)) == pytest.approx(2.0)
    # One table: the most of it, and of what a new device needed.
    one = [*two[:10], off(seen[20], ("device", 0), "device", 3.0), off(seen[21], ("device", 1), "device", 1.0)]
    assert kind_width("accelerator/runtime", rows_by_kind(one)) == pytest.approx(3.0)
    assert kind_width("accelerator/runtime", rows_by_kind(two[:10])) == pytest.approx(0.5)
    assert kind_width("accelerator/runtime", {}) == inf
    # Five groups and more: nine rows in ten, here all but the three of the last.
    five = [
        off(each, ("source", min(4, number // 6)), "runtime", 5.0 if number > 26 else 1.0)
        for number, each in enumerate(seen)
    ]
    assert kind_width("accelerator/runtime", rows_by_kind(five)) == pytest.approx(1.0)


def test_rows_left_out_together_in_two_ways_are_one_group() -> None:
    one, other = measured(1), measured(2)
    ways: tuple[Way, ...] = ("device", "runtime")
    rows = [off(each, (way, 0), "device", 1.0) for way in ways for each in (one, other)]
    assert len(distinct_groups(rows)) == 1
    assert len(distinct_groups([*rows, off(one, ("length", 0), "device", 1.0)])) == 2


def test_groups_part_the_evidence() -> None:
    settings = evidence_of(shipped_observations()).settings
    for groups in groups_of(settings).values():
        assert sorted(number for group in groups for number in group) == list(range(len(settings)))


@pytest.mark.parametrize(("novelty", "most_median_error"), [("device", 0.35), ("runtime", 0.20), ("length", 0.15)])
def test_rows_left_out_are_within_the_promised_errors(
    rows: list[LeftOut], novelty: Novelty, most_median_error: float
) -> None:
    """The target within a known device is 15 % over lengths and runtimes together: see the next test."""
    errors = [abs(expm1(-row.error)) for row in rows if row.novelty == novelty]
    assert len(errors) > 500
    assert median(errors) <= most_median_error


def test_rows_left_out_on_a_known_device_are_within_the_target(rows: list[LeftOut]) -> None:
    known = [row for row in rows if row.novelty != "device"]
    assert median(abs(expm1(-row.error)) for row in known) <= 0.15


@pytest.mark.parametrize("novelty", ["device", "runtime", "length"])
def test_intervals_hold_nine_in_ten_of_what_was_left_out(rows: list[LeftOut], novelty: Novelty) -> None:
    widths = read_fitted().widths
    held = [abs(row.error) <= widths[row.kind] * row.deviation for row in rows if row.novelty == novelty]
    assert 0.85 <= sum(held) / len(held) <= 0.95


def test_a_runtime_that_is_less_known_has_no_narrower_interval() -> None:
    widths = read_fitted().widths
    for kind in ("gpu", "cpu", "accelerator"):
        assert widths[f"{kind}/runtime"] >= widths[f"{kind}/length"]


def test_a_mean_is_its_own_base_where_it_was_measured() -> None:
    factors = read_fitted().factors
    assert factors["gpu/latency_mean"] == factors["onnxruntime-cpu/latency_mean"] == NO_FACTOR
    # Of these rates and single latencies alone were measured.
    assert not [name for name in factors if name.endswith("latency_mean") and name.startswith(("acc", "neuron"))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NVIDIA TensorRT", "trt"),
        ("ONNX Runtime", "onnxruntime-gpu"),
        ("ort_cuda", "ONNX Runtime"),
        ("TF", "TensorFlow"),
    ],
)
def test_one_runtime_by_several_names(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)
    assert words_of(f"{one} 2.8") > words_of(other)
