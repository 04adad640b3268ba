"""The endurance run: what comes to the endpoint, and all of it once, in short."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import endurance
from benchmarks.visitors import visits_of

REPOSITORY = Path(endurance.__file__).parents[1]


def test_the_kinds_of_visits() -> None:
    visits = visits_of(["red", "green", "blue"], "tiny")
    assert [visit.kind for visit in visits[:3]] == ["predict"] * 3
    assert len({visit.request for visit in visits}) == len(visits) - 2  # one is waited for, and left twice
    assert {visit.manner for visit in visits} == {"waits", "leaves", "leaves half-way"}
    assert all(bool(visit.statuses) == (visit.manner == "waits") for visit in visits)
    assert not any(500 in visit.statuses for visit in visits)


@pytest.mark.parametrize("arguments", [["--requests", "99"], ["--connections", "0"]])
def test_a_wrong_request_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["endurance", *arguments])
    with pytest.raises(SystemExit, match="2"):
        endurance.main()
    assert "expected at least 100 requests over at least 1 connection" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it_in_short(served_bundle: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.endurance", "--bundle", str(served_bundle), "--requests", "600"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["strange"] == {}, done.stdout
    assert sum(told["statuses"].values()) == 600
    assert {"200", "400", "404", "413", "415", "422", "left"} <= set(told["statuses"])
    assert all(rest["answers_as_before"] for rest in told["rests"])
