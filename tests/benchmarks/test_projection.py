import csv
from math import log
from pathlib import Path

import pytest

from benchmarks.projection import COLUMNS, MEASURED_FILE, errors_of
from benchmarks.projection_page import page
from deploycost.projecting.fit import LeftOut
from deploycost.projecting.observations import observe

ROW = {
    "model": "bert-base", "hardware": "T4", "precision": "fp16", "runtime": "TensorRT", "batch_size": "1",
    "seq_len": "128", "metric": "latency_mean", "unit": "ms", "value": "2",
}  # fmt: skip


def row(measured_over_projected: float, deviation: float = 0.1) -> LeftOut:
    return LeftOut(observe(ROW), ("device", 0), "device", log(measured_over_projected), deviation)


def test_errors_by_hand() -> None:
    # projected at 1, 0.5 and 2 times what was measured: off by 0, 50 and 100 per cent
    errors = errors_of([row(1.0), row(2.0), row(0.5)], lambda _: 1.0)
    assert (errors.rows, errors.median) == (3, pytest.approx(0.5))
    assert errors.covered == pytest.approx(1 / 3)  # ln 2 is seven deviations away
    assert errors_of([row(1.0), row(2.0), row(0.5)], lambda _: 7.0).covered == 1.0


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
