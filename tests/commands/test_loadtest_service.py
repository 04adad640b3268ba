"""`deploycost loadtest --url` from the command line to the price: a service that somebody else runs, for real."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploycost.benchmarking.endpoint import Endpoint, running_endpoint
from deploycost.benchmarking.search import PRECISIONS, Precision
from deploycost.cli import main
from deploycost.records import LoadFailure, LoadRecord, SoakFailure, SoakRecord, read_record, write_record

pytestmark = pytest.mark.slow
HURRIED = Precision(
    budget_s=3,
    probe_s=0.6,
    requests=110,
    warmup_s=0.2,
    resolution=1.3,
    replicates=1,
    doubt_ratio=0.5,
    curve_ratios=(),
)


@pytest.fixture
def service() -> Iterator[Endpoint]:
    with running_endpoint("a service", ("loadtests.null_server", "--service-ms", "5"), ()) as endpoint:
        yield endpoint


def test_a_running_service_is_tested_and_priced(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.csv").write_text("id,body\n1,one text\n2,another text\n3,a third\n", encoding="utf-8")
    Path("service.yaml").write_text(
        'path: /classify\nbody: {texts: "{{texts}}"}\npointer: /predictions/0/label\n', encoding="utf-8"
    )
    asked = ["--url", service.url, "--name", "mine", "--pid", str(service.child.pid), "--template", "service.yaml"]
    texts = ["--texts", "mine.csv", "--text-column", "body", "--texts-per-request", "2", "--precision", "quick"]
    assert main(["loadtest", *asked, *texts, "--json"]) == 0
    said = capsys.readouterr()
    record = read_record(Path("mine.load.json"), LoadRecord)
    assert json.loads(said.out)["variant"] == record.variant == "mine"
    assert (record.url, record.bundle_digest, record.texts_per_request) == (service.url, "", 2)
    assert record.startup_s is None
    assert record.memory_bytes is not None
    assert record.memory_bytes.peak > 0
    # 200 requests/s at most, two texts in each.
    capacity_rps = record.capacity_rps.value
    assert capacity_rps is not None
    assert 100 < capacity_rps <= 220
    assert f"{capacity_rps * 2:.3g} texts/s" in said.err
    # It was not ours to stop.
    assert service.child.alive
    assert main(["quote", "--record", "mine.load.json", "--cloud", "aws-c7i", "--json"]) == 0
    quotes = json.loads(capsys.readouterr().out)["quotes"]
    assert {each["variant"] for each in quotes} == {"mine"}
    assert all(each["accuracy"]["value"] is None and each["fits_memory"] for each in quotes)


def test_a_service_that_only_fails_leaves_the_reason_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.txt").write_text("one text\n", encoding="utf-8")
    with running_endpoint("a service", ("loadtests.null_server", "--status", "500"), ()) as service:
        asked = ["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt", "--precision", "quick"]
        assert main(asked) == 2
    assert "the endpoint of mine gave no good answer: HTTP 500" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.load-failure.json", "mine.txt"]
    failure = read_record(Path("mine.load-failure.json"), LoadFailure)
    assert failure.reason == "the endpoint of mine gave no good answer: HTTP 500"


def test_what_stopped_a_test_is_kept_beside_what_was_found_before(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("one text\n", encoding="utf-8")
    Path("mine.load.json").write_text("found before", encoding="utf-8")

    def interrupted(*_: object, **__: object) -> LoadRecord:
        raise KeyboardInterrupt

    monkeypatch.setattr("deploycost.benchmarking.loadtest.measure", interrupted)
    assert main(["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt"]) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert Path("mine.load.json").read_text(encoding="utf-8") == "found before"
    failure = read_record(Path("mine.load-failure.json"), LoadFailure)
    assert (failure.variant, failure.reason) == ("mine", "interrupted")


def test_a_running_service_holds_the_rate_that_its_quote_plans(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.txt").write_text("one text\nanother text\n", encoding="utf-8")
    Path("service.yaml").write_text('path: /x\nbody: {text: "{{text}}"}\npointer: /label\n', encoding="utf-8")
    asked = ["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt", "--template", "service.yaml"]
    assert main([*asked, "--rate", "120", "--duration", "2s", "--precision", "quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    record = read_record(Path("mine.soak.json"), SoakRecord)
    assert (told["held"], told["rate_rps"], record.url, record.server) == (True, 120, service.url, None)
    assert record.point.requests == 240
    # Nothing is known of a process that was not named.
    assert (record.memory_bytes, record.server_cpu_ratio) == (None, None)
    assert record.certificate is not None
    assert any("--pid" in text for text in record.certificate.unseen)
    assert any("answers are right" in text for text in record.certificate.unseen)
    assert not next(check for check in record.certificate.checks if check.name == "pinned_apart").ok
    # Too much for it: 200/s at most.
    named = ["--pid", str(service.child.pid), "--out", "other.json", "--precision", "quick"]
    assert main([*asked, *named, "--rate", "400", "--duration", "1s"]) == 1
    assert "did not hold: mine at 400/s" in capsys.readouterr().err
    broken = read_record(Path("other.json"), SoakRecord)
    assert not broken.held
    assert broken.memory_bytes is not None
    assert broken.memory_bytes.peak > 0
    assert broken.certificate is not None
    assert not any("--pid" in text for text in broken.certificate.unseen)
    # It was not ours to stop.
    assert service.child.alive


def test_the_rate_of_a_service_may_come_from_a_quote(
    service: Endpoint,
    tmp_path: Path,
    make_load: Callable[..., LoadRecord],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.txt").write_text("one text\n", encoding="utf-8")
    load = make_load(200.0, variant="mine", url=service.url, bundle_digest="", memory_bytes=None, startup_s=None)
    Path("mine.load.json").write_text(write_record(load), encoding="utf-8")
    priced = ["quote", "--record", "mine.load.json", "--cloud", "aws-c7i", "--utilisation", "0.6", "--slo-p95", "90"]
    assert main(priced) == 0
    asked = ["loadtest", "--url", service.url, "--texts", "mine.txt", "--verify", "newest", "--duration", "1s"]
    assert main([*asked, "--name", "other"]) == 2
    assert "knows no capacity of other; load-test it, then quote again; it knows: mine" in capsys.readouterr().err
    assert main([*asked, "--name", "mine", "--precision", "quick"]) == 0
    record = read_record(Path("mine.soak.json"), SoakRecord)
    assert record.rate_rps == pytest.approx(120)
    assert record.rate_reason.startswith("60 % of 200/s, as quote ")
    # What it was priced for.
    assert record.slo.p95_ms == 90


def test_a_service_that_dies_while_a_rate_is_held_leaves_what_was_seen_until_then(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.txt").write_text("one text\n", encoding="utf-8")
    asked = ["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt", "--pid", str(service.child.pid)]
    # The client starts within two seconds or so: by then it has been sent something.
    killer = threading.Timer(6, lambda: os.kill(service.child.pid or 0, signal.SIGKILL))
    killer.start()
    try:
        assert main([*asked, "--rate", "50", "--duration", "12s", "--precision", "quick"]) == 2
    finally:
        killer.cancel()
    assert "mine died" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.soak-failure.json", "mine.txt"]
    told = read_record(Path("mine.soak-failure.json"), SoakFailure)
    assert "mine died" in told.reason
    assert (told.rate_rps, told.duration_s) == (50, 12)
    assert told.point is not None
    assert 0 < told.point.errors < told.point.requests


@pytest.mark.parametrize(
    ("number", "code", "holding"),
    [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, False), (signal.SIGTERM, 143, True)],
)
def test_whoever_is_interrupted_leaves_a_record_of_it_and_nothing_else(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, number: int, code: int, holding: bool
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "mine.txt").write_text("one text\n", encoding="utf-8")
    asked = ["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt"]
    asked += ["--rate", "20", "--duration", "60s"] if holding else []
    command = [sys.executable, "-m", "deploycost", *asked]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        tree, end_s = psutil.Process(process.pid), time.monotonic() + 60
        while not (started := tree.children(recursive=True)) or not list(temporary.glob("deploycost-load-*")):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in told
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert not list(temporary.glob("deploycost-load-*"))
    kind, record = ("soak", SoakFailure) if holding else ("load", LoadFailure)
    assert read_record(tmp_path / f"mine.{kind}-failure.json", record).reason == "interrupted"
