"""Finished searches outlive the run that made them, and a page is made of those of all runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.loadtest import Findings, measure, page, verdicts_of
from benchmarks.search_log import Flattery, RunFacts, Search, open_log, told_runs
from deploycost.errors import UserError

RUN = RunFacts("2026-11-28T10:00:00+00:00", "a CPU", 0.25, "abcdef01")
SEARCH = Search("M/D/1", "normal", 3, 1.01, 0.97, 1.05, True, 9, 70.0)
CLOSED = Flattery("M/D/1", 500.0, 17.0, 143.0, 462.0)


def test_what_is_finished_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    first = open_log(path)
    first.add(SEARCH)
    first.add(CLOSED)
    again = open_log(path)
    assert again.searches == [replace(SEARCH, run=first.run)]
    assert again.flattery == [replace(CLOSED, run=first.run)]
    # Without an upper end: nothing that was tried failed.
    again.add(replace(SEARCH, seed=4, high_ratio=float("inf")))
    assert [each.seed for each in open_log(path).searches] == [3, 4]


def test_a_line_that_was_cut_off_is_lost_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    open_log(path).add(SEARCH)
    with path.open("a") as file:
        file.write('{"kind": "search", "que')
    log = open_log(path)
    log.add(replace(SEARCH, seed=4))
    assert [each.seed for each in open_log(path).searches] == [3, 4]


@pytest.mark.parametrize("line", ["# a page", "{}", "[1]", '{"kind": "search"}', '{"kind": "other", "run": {}}'])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text(f"{line}\nand more")
    with pytest.raises(UserError, match="line 1 is no finished search"):
        open_log(path)
    assert path.read_text() == f"{line}\nand more"
    with pytest.raises(UserError, match="--keep"):
        open_log(tmp_path)


def test_a_run_goes_on_where_the_last_was_cut_off(tmp_path: Path) -> None:
    path, queues = tmp_path / "kept.jsonl", ("M/D/1", "M/M/1")
    log = open_log(path)
    assert log.left(queues, range(2), "normal") == [("M/D/1", 0), ("M/M/1", 0), ("M/D/1", 1), ("M/M/1", 1)]
    for name, seed in log.left(queues, range(2), "normal")[:3]:
        log.add(replace(SEARCH, queue=name, seed=seed))
    assert open_log(path).left(queues, range(2), "normal") == [("M/M/1", 1)]
    # Another part of the same is another part; those of another precision are another question.
    assert open_log(path).left(queues, range(1, 3), "normal") == [("M/M/1", 1), ("M/D/1", 2), ("M/M/1", 2)]
    assert len(open_log(path).left(queues, range(2), "tight")) == 4


def test_findings_are_of_all_runs_and_of_one_precision(tmp_path: Path) -> None:
    path, quiet = tmp_path / "kept.jsonl", Console(quiet=True)
    for seed in range(3):
        open_log(path).add(replace(SEARCH, seed=seed))
    open_log(path).add(CLOSED)
    open_log(path).add(replace(SEARCH, seed=3, goal="quick"))
    found = measure(range(0), 0, "normal", open_log(path), quiet)
    assert [each.seed for each in found.real] == [0, 1, 2]
    assert [each.closed_rps for each in found.flattery] == [500.0]


def test_the_page_says_how_many_runs_it_comes_from() -> None:
    other = replace(RUN, at="2026-11-29T01:00:00+00:00", load_before=1.5)
    real = [replace(SEARCH, run=RUN), replace(SEARCH, seed=4, run=RUN), replace(SEARCH, seed=5, run=other)]
    told = (
        "Real servers were measured in 2 runs, from 2026-11-28 to 2026-11-29, on a CPU, with 1 version of the code; "
        "load average before: 0.2 to 1.5."
    )
    assert told_runs(real) == told
    assert told_runs([SEARCH]) == ""
    found = Findings({"M/D/1": 462.0}, real, [], grid_s=390.0, flattery=[], given_up=[])
    verdicts = verdicts_of(found)
    assert verdicts[0].value == "3 of 3"
    text = page(found, verdicts, {"at": "2026-11-29T02:00:00+00:00", "load_before": 0.0})
    assert told in text
    # Nothing was asked of a closed loop, so there is no table of it.
    assert "closed loop" not in text
