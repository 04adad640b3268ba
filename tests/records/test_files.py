from collections.abc import Callable
from pathlib import Path

import pytest

from deploycost.errors import UserError
from deploycost.records import LoadRecord, Record, read_record, write_record
from deploycost.records.checks import backward_clocks

MakeLoad = Callable[..., LoadRecord]


def refusal(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_record(path, LoadRecord)
    told = str(refused.value)
    assert "\n" not in told
    return told


def test_a_record_comes_back_as_it_was(tmp_path: Path, make_load: MakeLoad) -> None:
    path = tmp_path / "load.json"
    path.write_text(write_record(make_load()), encoding="utf-8")
    assert read_record(path, LoadRecord) == make_load()


def test_another_format_is_told_as_such(tmp_path: Path, make_load: MakeLoad) -> None:
    # Even where every field is known: what it means may have changed.
    path, text = tmp_path / "load.json", write_record(make_load())
    assert "is a record of format 3, and this deploycost reads format 2: take a newer" in refusal(
        path, text.replace('"format_version": 2', '"format_version": 3', 1)
    )
    older = refusal(path, '{"format_version":1,"anything":"else"}')
    assert "is a record of format 1, and this deploycost reads format 2: run the command again" in older
    assert "is not a LoadRecord of format 2" in refusal(path, '{"format_version": 2, "variant": "x"}')
    assert "is not a LoadRecord of format 2" in refusal(path, "[1, 2")


def test_every_clock_that_ran_backwards_is_told_at_once(tmp_path: Path, make_load: MakeLoad) -> None:
    record = make_load()
    point = record.curve[1].model_copy(update={"duration_s": -3.0, "p95_ms": -1.0})
    bad = record.model_copy(update={"startup_s": -2.5, "curve": (record.curve[0], point)})
    told = refusal(tmp_path / "load.json", write_record(bad))
    for part in ("a clock ran backwards", "startup_s is -2.5", "curve.1.duration_s is -3", "curve.1.p95_ms is -1"):
        assert part in told


def test_an_end_before_its_beginning_is_told() -> None:
    class Timed(Record):
        started_at: str
        finished_at: str

    good = Timed(started_at="2026-01-02T03:04:05+00:00", finished_at="2026-01-02T03:04:05+00:00")
    assert backward_clocks(good) == []
    (told,) = backward_clocks(good.model_copy(update={"finished_at": "2026-01-02T03:04:04+00:00"}))
    assert told.startswith("finished_at 2026-01-02T03:04:04+00:00 is before started_at")
    assert backward_clocks(good.model_copy(update={"finished_at": "yesterday"})) == []
