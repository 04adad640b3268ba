"""The serving benchmark: the figures it works out by hand, what it refuses, and all of it once, in short."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import serving
from benchmarks.closed_rounds import ClosedRounds
from benchmarks.contenders import OURS
from benchmarks.http_channel import requests_of
from benchmarks.instruments import Turn
from benchmarks.pressure import recovery_s
from deploycost.benchmarking.cores import CorePlan

REPOSITORY = Path(serving.__file__).parents[1]
TWO_CORES = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1


def test_a_ratio_is_to_the_loops_on_either_side_and_a_lead_within_its_round() -> None:
    rounds = ClosedRounds()
    for ours_rps, other_rps in ((90.0, 60.0), (110.0, 100.0), (100.0, 80.0)):
        rounds.add(OURS, 8, Turn(ours_rps, 0.01), before_rps=90.0, after_rps=110.0)
        rounds.add("other", 8, Turn(other_rps, 0.01), before_rps=110.0, after_rps=90.0)
    assert rounds.ratio(OURS, 8) == {"value": 1.0, "low": None, "high": None}
    closest = rounds.lead(8)
    assert closest is not None
    assert (closest[0], closest[1]["value"]) == ("other", pytest.approx(1.25))  # of 1.5, 1.1 and 1.25
    rounds.failures["other"] = "died"
    assert rounds.lead(8) is None


def test_recovered_is_who_answers_normally_five_times_in_a_row() -> None:
    fast, slow = {"latency_s": 0.01, "status": 200}, {"latency_s": 0.3, "status": 200}
    refused = {"latency_s": 0.001, "status": 503}
    seen = [slow, fast, fast, refused, *[fast] * 5, slow]
    probes = [probe | {"at_s": number / 10} for number, probe in enumerate(seen)]
    assert recovery_s(probes, normal_s=0.02) == 0.4
    assert recovery_s(probes[:8], normal_s=0.02) is None


def test_a_request_is_whole() -> None:
    (request,) = requests_of(["né\n"], "texts", 250)
    head, _, body = request.partition(b"\r\n\r\n")
    assert json.loads(body) == {"texts": ["né\n"]}
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"X-Deadline-Ms: 250" in head


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rounds", "0"], "--rounds 0: expected 1 or more"),
        (["--servers", "litserv"], "unknown server 'litserv' (did you mean 'litserve'?)"),
        (["--servers", "litserve"], "leaves out deploycost"),
        (["--servers", "deploycost", "--bundle", "nowhere"], "there is no such folder"),
    ],
)
@pytest.mark.skipif(not TWO_CORES, reason="needs two cores")
def test_a_wrong_request_is_one_line(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["serving", *arguments])
    try:
        code = serving.main()
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert told in capsys.readouterr().err


def test_one_core_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(serving, "plan_cores", lambda server_threads: CorePlan((0,), (0,)))
    monkeypatch.setattr("sys.argv", ["serving", "--servers", "deploycost"])
    assert serving.main() == 2
    assert "two cores are needed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not TWO_CORES, reason="needs two cores")
def test_all_of_it_in_short(served_bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Old\n\nold\n\n## What to make of it\n\nWritten by hand.\n")
    process = _start(served_bundle, "--page", str(page))
    done, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    told = json.loads(done.splitlines()[-1])
    assert len(told["targets"]) == 8
    assert {turn["connections"] for turn in told["found"]["rounds"]["turns"]} == {1, 8, 32}
    assert all(turn["ratio"] > 0 for turn in told["found"]["rounds"]["turns"])
    assert set(told["found"]["overload"]["statuses"]) <= {"200", "503"}
    assert told["found"]["overload"]["goodput_rps"] > 0
    written = page.read_text(encoding="utf-8")
    assert "| rate at 32 connections over the raw loop's |" in written
    assert written.endswith("\n\n## What to make of it\n\nWritten by hand.\n")
    assert "Old" not in written
    assert str(tmp_path) not in written + done.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(not TWO_CORES, reason="needs two cores")
def test_an_interrupted_one_leaves_nothing_behind(served_bundle: Path) -> None:
    process = _start(served_bundle)
    root = psutil.Process(process.pid)
    deadline_s = time.monotonic() + 60
    while len(started := root.children(recursive=True)) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    _, alive = psutil.wait_procs(started, timeout=5)
    assert not alive
    process.communicate()


def _start(bundle: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", "--servers", OURS, "--bundle", str(bundle)]
    return subprocess.Popen(
        [*command, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
