import csv
from math import log
from pathlib import Path

import pytest

from benchmarks.projection import COLUMNS, MEASURED_FILE, by_half, errors_of
from benchmarks.projection_page import page
from deploycost.projecting.fit import LeftOut
from deploycost.projecting.fitted import Novelty, read_fitted
from deploycost.projecting.observations import observe

ROW = {
    "model": "bert-base", "hardware": "T4", "precision": "fp16", "runtime": "TensorRT", "batch_size": "1",
    "seq_len": "128", "metric": "latency_mean", "unit": "ms", "value": "2",
}  # fmt: skip


def row(measured_over_projected: float, deviation: float = 0.1, novelty: Novelty = "device", group: int = 0) -> LeftOut:
    return LeftOut(observe(ROW), (novelty, group), novelty, log(measured_over_projected), deviation)


def test_errors_by_hand() -> None:
    # projected at 1, 0.5 and 2 times what was measured: off by 0, 50 and 100 per cent
    errors = errors_of([row(1.0), row(2.0), row(0.5)], lambda _: 1.0)
    assert (errors.rows, errors.median) == (3, pytest.approx(0.5))
    assert errors.covered == pytest.approx(1 / 3)  # ln 2 is seven deviations away
    assert errors_of([row(1.0), row(2.0), row(0.5)], lambda _: 7.0).covered == 1.0


def test_the_halves_of_the_target_pool_all_that_was_new_on_known_devices() -> None:
    # Off by 100, 50 and 20 per cent, in three groups that were left out.
    every = {
        "gpu/device": [row(2.0)],
        "gpu/runtime": [row(1 / 2.0, novelty="runtime"), row(1 / 1.5, novelty="runtime")],
        "gpu/length": [row(1 / 1.2, novelty="length"), row(1 / 1.2, novelty="length", group=1)],
    }
    fitted = read_fitted().model_copy(update={"widths": {"gpu/device": 7.0, "gpu/runtime": 7.0, "gpu/length": 1.0}})
    (new, groups, shipped, _), known = by_half(fitted, every)
    assert (new, groups, shipped.rows, shipped.median, shipped.covered) == ("device", 1, 1, pytest.approx(0.5), 1.0)
    assert known[:2] == ("known device", 3)
    assert known[2].rows == 4
    assert known[2].median == pytest.approx((0.5 + 0.2) / 2)
    assert known[2].covered == 0.5  # ln 1.2 is nearly two deviations of 0.1 away


def test_the_page_tells_every_table() -> None:
    figures = {"rows": 10, "median": 0.126, "p90": 0.365, "covered": 0.9}
    timed = {
        "model": "6L-768D", "precision": "int8", "batch": 1, "tokens": 64, "threads": 1, "measured_ms": 20.0,
        "projected_ms": 22.0, "low_ms": 15.0, "high_ms": 30.0,
    }  # fmt: skip
    text = page(
        {
            "observations": 1321,
            "settings": 836,
            "groups": {"device": 25, "runtime": 60, "length": 94},
            "by_half": [
                {"new": "device", "groups": 9, "other_groups": figures, "shipped": figures},
                {"new": "known device", "groups": 8, "other_groups": figures, "shipped": figures},
            ],
            "by_kind": [{"new": "device", "kind": "gpu", "groups": 7, "other_groups": figures, "shipped": figures}],
            "by_way": [
                {"left_out": "shape", "kind": "gpu", **figures, "known_device": figures},
                {"left_out": "device", "kind": "cpu", **figures, "known_device": None},
            ],
            "by_source": [{"source": "a table", **figures}],
            "by_device": [{"device": "T4", **figures}],
            "by_runtime": [{"runtime": "T4 with tensorflow", **figures}],
            "here": [{"known": "one core", "asked": "DistilBERT's shape", "errors": figures, "rows": [timed]}],
        }
    )
    assert "| a device that was never measured | all | 10 | 9 | 12.6 % | 35 % | 36.5 % | 90.0 % | 90.0 % |" in text
    assert "length, batch or model that was not measured | all | 10 | 8 | 12.6 % | 15 % | 36.5 % |" in text
    assert "| a device that was never measured | GPUs | 10 | 7 | 12.6 % | 35 % | 36.5 % | 90.0 % | 90.0 % |" in text
    assert "| DistilBERT's shape | 6L-768D | int8 | 1 x 64 | 1 | 22 | 15 to 30 | 20 | +10 % |" in text
    assert "T4 with tensorflow" in text
    assert "| one model shape of a runtime on a device | GPUs | 10 | 12.6 % | 36.5 % | 90.0 % | 10 | 12.6 % |" in text
    assert "| the device | CPUs | 10 | 12.6 % | 36.5 % | 90.0 % | 0 | - |" in text


def test_what_was_measured_here_is_evidence_like_the_published() -> None:
    if not Path(MEASURED_FILE).exists():
        pytest.skip("nothing was measured here yet")
    with MEASURED_FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    for each in rows:
        assert observe(each).seconds > 0
        assert each["source_date"]
