"""Whole load tests with real processes: a null server of known speed, real Locust, and what happens when things die."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploycost.benchmarking.loadtest import agreement, measure
from deploycost.benchmarking.search import PRECISIONS, Precision
from deploycost.benchmarking.soak import Soak, soak
from deploycost.benchmarking.task import LoadSubject, Notes, Task
from deploycost.environment import MachineFacts, machine_facts
from deploycost.errors import LoadTestFailed
from deploycost.experiment import LoadSpec
from deploycost.records import LoadRecord, ServerSettings, SoakRecord, TuningDraft, read_record, write_record

pytestmark = pytest.mark.slow

TEXTS = tuple(f"word{number} and some more words" for number in range(40))
HURRIED = Precision(
    budget_s=4,
    probe_s=0.6,
    requests=110,
    warmup_s=0.2,
    resolution=1.2,
    replicates=1,
    doubt_ratio=0.03,
    curve_ratios=(0.5,),
)


@pytest.fixture(scope="module")
def machine() -> MachineFacts:
    return machine_facts()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)


@pytest.fixture(autouse=True)
def _leaves_nothing_running() -> Iterator[None]:
    yield
    assert not [process.cmdline() for process in psutil.Process().children(recursive=True) if _ours(process)]


def _ours(process: psutil.Process) -> bool:
    return any("loadtests" in part for part in process.cmdline())


def subject(labels: tuple[str, ...] | None = None) -> LoadSubject:
    return LoadSubject("full.null", Path("bundle"), "digest", TEXTS, labels, 7.5, "mark")


def run(machine: MachineFacts, slo_p95_ms: float, *options: str, said: list[str] | None = None) -> LoadRecord:
    spec = LoadSpec(slo_p95_ms=slo_p95_ms, precision="quick")
    labels = tuple(text.split()[0] for text in TEXTS)
    told = said if said is not None else []
    return measure(subject(labels), spec, machine, 1, told.append, lambda _: ("loadtests.null_server", *options))


@pytest.mark.usefixtures("_hurried")
def test_a_server_of_known_speed(machine: MachineFacts, tmp_path: Path) -> None:
    said: list[str] = []
    record = run(machine, 100, "--service-ms", "5", said=said)
    # 200/s at most; an M/D/1 queue answers 185/s in time, and short probes see less of its tail.
    assert record.saturation_rps is not None
    assert 130 < record.saturation_rps <= 215
    assert record.capacity_rps.value is not None
    assert 130 < record.capacity_rps.value <= 215
    assert record.capacity_rps.basis == "measured"
    assert record.first_answer_s is not None
    assert record.startup_s is not None
    assert record.first_answer_s > record.startup_s
    assert record.power is not None
    assert record.power.watts.basis in ("measured", "assumed")
    assert record.core_cpu_ratios
    assert len(said) == len(record.curve)
    assert [point.rate_rps for point in record.curve] == sorted(point.rate_rps for point in record.curve)
    assert 0 < record.memory_bytes.idle <= record.memory_bytes.peak
    assert 0 < record.startup_s < 30
    names = {check.name: check for check in record.certificate.checks}
    assert names["output_parity"].value == 1
    assert names["error_ratio"].value == 0
    path = tmp_path / "load.json"
    path.write_text(write_record(record), encoding="utf-8")
    assert read_record(path, LoadRecord) == record


@pytest.mark.usefixtures("_hurried")
def test_a_server_that_is_slower_than_the_objective(machine: MachineFacts) -> None:
    record = run(machine, 30, "--service-ms", "60")
    assert record.capacity_rps.value == 0
    assert record.capacity_rps.low == 0
    assert "no rate meets p95 <= 30 ms: a lone request takes 6" in record.capacity_reason


@pytest.mark.usefixtures("_hurried")
def test_wrong_labels_are_not_certified(machine: MachineFacts) -> None:
    spec = LoadSpec(precision="quick")
    wrong = subject(("Sports",) * len(TEXTS))
    record = measure(wrong, spec, machine, 1, [].append, lambda _: ("loadtests.null_server", "--service-ms", "5"))
    assert not record.certificate.certified
    assert [check.value for check in record.certificate.checks if check.name == "output_parity"] == [0]


@pytest.mark.usefixtures("_hurried")
def test_a_server_that_only_fails(machine: MachineFacts) -> None:
    with pytest.raises(LoadTestFailed, match=r"endpoint of full\.null gave no good answer: HTTP 500"):
        run(machine, 100, "--status", "500")


def test_a_server_that_does_not_start(machine: MachineFacts) -> None:
    with pytest.raises(
        LoadTestFailed, match=r"the endpoint of full\.null died \(exit code 2\).*unrecognized arguments"
    ):
        run(machine, 100, "--nonsense")


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize(
    ("fault", "message"),
    [("die", r"full\.null died \(exit code 3\)"), ("hang", "did not answer /readyz with 200")],
)
def test_a_server_that_ends_or_says_no_more(
    machine: MachineFacts, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setattr("deploycost.benchmarking.bench.RECOVERY_S", 0.5)
    monkeypatch.setattr("deploycost.benchmarking.bench.DRAIN_S", 0.5)
    with pytest.raises(LoadTestFailed, match=message):
        run(machine, 100, "--service-ms", "5", "--fault", fault, "--fault-after", "400")


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize(
    ("fault", "reason"), [("error", "HTTP 500"), ("reset", "requests failed"), ("slow", "no answer in time")]
)
def test_a_server_that_gets_worse_is_told_as_it_was(
    machine: MachineFacts, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setattr("deploycost.benchmarking.bench.DRAIN_S", 0.5)
    record = run(machine, 30, "--service-ms", "2", "--fault", fault, "--fault-after", "600")
    assert any(reason in point.reason for point in record.curve), [point.reason for point in record.curve]
    assert record.capacity_rps.value is not None
    assert record.capacity_rps.value < 600


@pytest.mark.usefixtures("_hurried")
def test_labels_that_turn_wrong_under_load_are_not_certified(machine: MachineFacts) -> None:
    record = run(machine, 30, "--service-ms", "2", "--fault", "wrong", "--fault-after", "600")
    checks = {check.name: check for check in record.certificate.checks}
    assert checks["output_parity"].ok
    assert not checks["output_parity_under_load"].ok
    assert not record.certificate.certified


@pytest.mark.usefixtures("_hurried")
def test_settings_that_carry_more_are_found_and_kept(machine: MachineFacts) -> None:
    """Batches of a server that takes 4 ms, and 1 ms for each in a batch, whatever window it is asked for."""
    labels = tuple(text.split()[0] for text in TEXTS)

    def server(settings: ServerSettings) -> tuple[str, ...]:
        asked = ("--service-ms", "4", "--item-ms", "1", "--max-batch", str(max(1, settings.max_batch // 8)))
        return ("loadtests.null_server", *asked)

    spec = LoadSpec(slo_p95_ms=100, precision="quick", tune=True)
    said: list[str] = []
    drafts: list[TuningDraft] = []
    notes = Notes(leave=drafts.append)
    record = measure(subject(labels), spec, machine, 1, said.append, server, notes)
    assert record.tuned
    assert record.server is not None
    # 8 -> batches of 1, 200/s; 32 -> batches of 4, 4 of them in 8 ms: 500/s.
    assert record.server.max_batch == 32
    assert record.capacity_rps.value is not None
    assert record.capacity_rps.value > 250
    assert len(record.tried) == 5
    with_capacity = [each for each in record.tried if each.capacity_rps is not None]
    assert {each.settings for each in with_capacity} == {ServerSettings(), record.server}
    assert sum("p95" in line and "--max-batch" in line for line in said) == 10
    # What was left on the way: the settings, then one capacity and both. From the last nothing is missing.
    assert [(len(draft.tried), len(draft.records)) for draft in drafts] == [(5, 0), (5, 1), (5, 2)]
    again: list[str] = []
    assert measure(subject(labels), spec, machine, 1, again.append, server, Notes(draft=drafts[2])) == record
    assert len(again) == 2
    assert again[0].endswith("settings were tried before, which is kept")


@pytest.mark.usefixtures("_hurried")
def test_a_rate_is_held_or_not(machine: MachineFacts) -> None:
    def held(rate_rps: float) -> SoakRecord:
        asked = Soak(rate_rps, "as asked", 3.0, ServerSettings())
        spec = LoadSpec(slo_p95_ms=50, precision="quick")
        server = ("loadtests.null_server", "--service-ms", "5")
        return soak(Task(subject(), spec, machine, 1, [].append, lambda _: server), asked)

    fine = held(100)
    assert (fine.held, fine.point.requests, fine.missed_ratios["errors"].value) == (True, 300, 0)
    assert fine.missed_ratios["p95"].high is not None
    broken = held(400)
    assert not broken.held
    assert not broken.surely
    assert broken.missed_ratios["p95"].low is not None
    assert broken.missed_ratios["p95"].low > 0.05


def _signal_the_server(number: signal.Signals, after_s: float) -> threading.Timer:
    def act() -> None:
        for process in psutil.Process().children(recursive=True):
            if any("null_server" in part for part in process.cmdline()):
                process.send_signal(number)

    timer = threading.Timer(after_s, act)
    timer.start()
    return timer


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, r"full\.null died \(signal 9\)"), (signal.SIGSTOP, "did not answer /readyz with 200")],
)
def test_a_server_that_dies_or_hangs_in_the_middle(
    machine: MachineFacts, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, message: str
) -> None:
    monkeypatch.setattr("deploycost.benchmarking.bench.RECOVERY_S", 0.5)
    monkeypatch.setattr("deploycost.benchmarking.bench.DRAIN_S", 0.5)
    # By then the open-loop probes have begun.
    timer = _signal_the_server(number, after_s=4.5)
    try:
        with pytest.raises(LoadTestFailed, match=message):
            run(machine, 100, "--service-ms", "5")
    finally:
        timer.cancel()


SCRIPT = """
import sys
from pathlib import Path
from deploycost.benchmarking.loadtest import measure
from deploycost.benchmarking.task import LoadSubject
from deploycost.environment import machine_facts
from deploycost.experiment import LoadSpec
subject = LoadSubject("v", Path("bundle"), "d", ("some text",), None, None, "f")
try:
    measure(subject, LoadSpec(), machine_facts(), 1, print, lambda _: ("loadtests.null_server", "--service-ms", "5"))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_is_interrupted_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", SCRIPT]) as process:
        tree = psutil.Process(process.pid)
        # The client and the server; the second that follows finds them at work.
        assert _wait_until(lambda: len(tree.children(recursive=True)) == 2, deadline_s=30)
        time.sleep(1)
        children = tree.children(recursive=True)
        assert len(children) == 2
        os.kill(process.pid, number)
        code = process.wait(timeout=15)
    assert code == (130 if number == signal.SIGINT else -number)
    assert _wait_until(lambda: not any(_alive(child) for child in children))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(condition: Callable[[], bool], deadline_s: float = 10) -> bool:
    end = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_agreement_of_labels_and_of_numbers() -> None:
    answered = SimpleNamespace(answers=[(0, "1.04"), (1, "2.2"), (0, "1.0")])
    fields = {"variant": "v", "bundle_folder": Path(), "bundle_digest": "", "texts": ("a", "b"), "mean_tokens": 1.0}
    numbers = LoadSubject(expected_labels=("1.0", "2.0"), fingerprint="f", tolerance=0.1, **fields)
    assert agreement(numbers, [answered]) == (2, 3)
    labels = LoadSubject(expected_labels=("1.0", "2.0"), fingerprint="f", **fields)
    assert agreement(labels, [answered]) == (1, 3)
    assert agreement(LoadSubject(expected_labels=None, fingerprint="f", **fields), [answered]) is None
