"""Real Locust against a real server: as a driver that takes probe after probe, and from Locust's own command line."""

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import loadtests
from loadtests.plan import ProbePlan
from loadtests.result import merged, quantile_ms, read_result

LOCUSTFILE = Path(loadtests.__path__[0]) / "locustfile.py"
StartServer = Callable[..., str]
pytestmark = pytest.mark.slow


class Driver:
    """A line out, a line in."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, url: str, **plan: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"host": url, "plan": {**asdict(ProbePlan()), **plan}}) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    command = [sys.executable, "-m", "loadtests"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"event": "ready"}
        yield Driver(process)
        process.kill()


def test_probes_run_one_after_another(driver: Driver, start_server: StartServer) -> None:
    url = start_server("--service-ms", "20")
    for rate_rps in (10, 20):
        result = read_result(driver.ask(url, rate_rps=rate_rps, arrivals="constant", warmup_s=0.2, duration_s=1))
        assert result.requests == result.answered == rate_rps
        assert result.achieved_rps <= rate_rps + 1
        # No answer is faster than the server; how much slower, a busy machine decides.
        assert quantile_ms(merged([result.service]), 0.5) >= 20


def test_a_closed_loop_finds_the_saturation(driver: Driver, start_server: StartServer) -> None:
    url = start_server("--service-ms", "10", "--servers", "2")
    result = read_result(driver.ask(url, mode="closed", concurrency=8, warmup_s=0.2, duration_s=1))
    # Two workers at 10 ms each; one alone, or one request at a time, could not reach the half of it.
    assert 100 < result.achieved_rps <= 220


def test_overload_is_given_up(driver: Driver, start_server: StartServer) -> None:
    url = start_server("--service-ms", "20")
    result = read_result(driver.ask(url, rate_rps=100, warmup_s=0, duration_s=3, late_ms=100, give_up_ratio=0.06))
    assert result.gave_up
    assert result.window_s < 2


def test_errors_are_counted_by_kind_and_kept_out_of_latency(driver: Driver, start_server: StartServer) -> None:
    refused = read_result(driver.ask("http://127.0.0.1:9", rate_rps=20, warmup_s=0, duration_s=0.5))
    assert refused.errors == {"ConnectionRefusedError": 10}
    failing = read_result(driver.ask(start_server("--status", "503"), rate_rps=20, warmup_s=0, duration_s=0.5))
    assert failing.errors == {"HTTP 503": 10}
    assert merged([failing.latency]).get_total_count() == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "ConnectionResetError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not JSON"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"score": 1}', "no label"),
        (b"hello\r\n\r\n", "not HTTP"),
        (None, "no answer in time"),
    ],
)
def test_faults_of_a_server_are_told_apart(driver: Driver, answer: bytes | None, error: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        stopped = threading.Event()
        thread = threading.Thread(target=_answer_wrongly, args=(server, answer, stopped))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        line = driver.ask(url, rate_rps=20, warmup_s=0, duration_s=0.5, drain_s=0.3)
        stopped.set()
        thread.join()
    assert read_result(line).errors == {error: 10}


def _answer_wrongly(server: socket.socket, answer: bytes | None, stopped: threading.Event) -> None:
    """Gives one answer to each connection: nothing (a reset), never (None), or these bytes."""
    kept: list[socket.socket] = []
    server.settimeout(0.05)
    while not stopped.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        kept.append(connection)
        if answer is None:
            continue
        connection.recv(4096)
        if answer:
            connection.sendall(answer)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    for connection in kept:
        connection.close()


def test_answers_are_kept_with_the_number_of_their_text(
    driver: Driver, start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"word{n} more"}) + "\n" for n in range(5)), encoding="utf-8")
    result = read_result(
        driver.ask(start_server(), rate_rps=20, warmup_s=0, duration_s=0.5, texts=str(path), answers=8)
    )
    assert len(result.answers) == 8
    assert all(label == f"word{number}" for number, label in result.answers)


def test_a_bad_plan_gets_one_line(driver: Driver) -> None:
    assert "rate_rps must be above 0" in json.loads(driver.ask("http://127.0.0.1:9", rate_rps=0))["error"]
    assert "cannot read the texts" in json.loads(driver.ask("http://127.0.0.1:9", texts="nowhere.jsonl"))["error"]


def test_the_driver_ends_with_its_stdin_in_the_middle_of_a_probe(start_server: StartServer) -> None:
    command = [sys.executable, "-m", "loadtests"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        plan = {**asdict(ProbePlan()), "duration_s": 60}
        process.stdin.write(json.dumps({"host": start_server(), "plan": plan}) + "\n")
        process.stdin.close()
        try:
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def test_plain_locust_runs_a_probe_and_leaves_its_result(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", start_server()]
    options = ["--rate-rps", "40", "--warmup-s", "0.2", "--result", str(path)]
    environment = {"LOADTEST_DURATION_S": "0.5", "PATH": ""}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    result = read_result(path.read_text(encoding="utf-8"))
    assert result.answered == result.requests == result.planned
    # Locust's own table counts the warm-up too.
    assert "/predict" in done.stderr + done.stdout
