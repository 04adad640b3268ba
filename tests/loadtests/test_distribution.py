"""Real Locust in several processes: rates split, results merged, workers killed, and Locust's own ways of running."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

import loadtests
from loadtests.plan import ProbePlan
from loadtests.result import merged, read_result

LOCUSTFILE = Path(loadtests.__path__[0]) / "locustfile.py"
LOCUST = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
SHORT = ["--rate-rps", "60", "--warmup-s", "0.2", "--duration-s", "1"]
StartServer = Callable[..., str]
pytestmark = pytest.mark.slow


@contextmanager
def driver(*options: str, folder: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    python = [sys.executable] if folder is None else [sys.executable, "-P"]
    command = [*python, "-m", "loadtests", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        # Whatever happens to the driver, its workers end.
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        assert not alive


def ask(process: "subprocess.Popen[str]", url: str, **plan: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"host": url, "plan": {**asdict(ProbePlan()), **plan}}) + "\n")
    process.stdin.flush()


def told(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_workers_of_our_own_share_a_probe(start_server: StartServer) -> None:
    url = start_server("--service-ms", "2", "--servers", "8")
    with driver("--workers", "2") as process:
        assert json.loads(told(process)) == {"event": "ready"}
        ask(process, url, rate_rps=75, arrivals="constant", warmup_s=0.2, duration_s=1, answers=5)
        result = read_result(told(process))
        assert (result.workers, result.lost_workers, result.gave_up) == (2, 0, "")
        assert result.requests == result.planned == result.answered == 75
        assert merged([result.latency]).get_total_count() == 75
        # Constant arrivals in a window that both see alike: each of 60 slices has one or two.
        assert sum(each.requests for each in result.slices) == 75
        assert all(1 <= each.requests <= 2 for each in result.slices)
        ask(process, url, mode="closed", concurrency=3, warmup_s=0.2, duration_s=0.5)
        assert read_result(told(process)).achieved_rps > 100

        ask(process, url, rate_rps=0)
        assert "rate_rps must be above 0" in json.loads(told(process))["error"]


def test_workers_take_nothing_from_the_folder_they_are_asked_in(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "loadtests").mkdir()
    (tmp_path / "loadtests" / "__init__.py").write_text("raise SystemExit('not the generator')")
    (tmp_path / "locust.conf").write_text("host = nowhere\nno-such-setting = 1\n")
    with driver("--workers", "1", folder=tmp_path) as process:
        assert json.loads(told(process)) == {"event": "ready"}
        ask(process, start_server(), rate_rps=40, warmup_s=0.2, duration_s=0.5)
        assert read_result(told(process)).answered == 20


def test_a_worker_from_elsewhere_joins_by_the_command_that_is_told(start_server: StartServer) -> None:
    with driver("--expect-workers", "1") as process:
        waiting = json.loads(told(process))
        assert waiting["event"] == "waiting"
        words = waiting["command"].split()
        assert words[:4] == ["python", "-m", "loadtests", "--join"]
        worker = subprocess.Popen([sys.executable, *words[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert json.loads(told(process)) == {"event": "ready"}
            ask(process, start_server(), rate_rps=40, warmup_s=0.2, duration_s=0.5)
            assert read_result(told(process)).answered == 20
        finally:
            worker.terminate()
            worker.wait(timeout=20)


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with driver("--workers", "1", "--port", str(port)) as process:
            assert f"cannot listen for workers on 127.0.0.1:{port}" in json.loads(told(process))["error"]
            assert process.wait(timeout=10) == 2


def test_plain_locust_with_processes(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    port = str(free_port())
    done = subprocess.run(
        [*LOCUST, "--headless", "--processes", "2", "--master-bind-port", port, "--master-port", port,
         "--host", start_server(), *SHORT, "--result", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = read_result(path.read_text(encoding="utf-8"))
    assert (result.workers, result.answered) == (2, 60)
    assert "/predict" in done.stderr + done.stdout


def test_plain_locust_with_a_master_whose_worker_is_killed(start_server: StartServer, tmp_path: Path) -> None:
    path, port = tmp_path / "result.json", str(free_port())
    master = [*LOCUST, "--headless", "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    options = ["--expect-workers", "2", "--host", start_server(), "--rate-rps", "60", "--duration-s", "60"]
    worker = [*LOCUST, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*master, *options, "--result", str(path)], stderr=subprocess.PIPE, text=True) as leader:
        workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]  # type: ignore[call-overload]
        try:
            assert leader.stderr is not None
            # By then both have their shares, or will have them.
            assert any("Sending spawn jobs" in line for line in leader.stderr)
            workers[0].kill()
            said = leader.stderr.read()
            leader.wait(timeout=20)
        finally:
            for process in (*workers, leader):
                process.kill()
                process.wait()
    assert leader.returncode == 1
    assert "1 of 2 workers died" in said
    assert read_result(path.read_text(encoding="utf-8")).lost_workers == 1


def test_locusts_web_page_starts_a_probe(start_server: StartServer, tmp_path: Path) -> None:
    path, port = tmp_path / "result.json", free_port()
    command = [*LOCUST, "--web-host", "127.0.0.1", "--web-port", str(port), "--host", start_server(), *SHORT]
    with subprocess.Popen([*command, "--result", str(path)], stderr=subprocess.DEVNULL) as process:
        try:
            page = _when_answered(f"http://127.0.0.1:{port}/")
            assert b"ocust" in page
            form = b"user_count=1&spawn_rate=1&rate_rps=30&duration_s=0.5"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", data=form, timeout=10) as answer:
                assert json.loads(answer.read())["success"]
            deadline = time.monotonic() + 15
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert read_result(path.read_text(encoding="utf-8")).requests == 15
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests", timeout=10) as answer:
                assert json.loads(answer.read())["total_rps"] is not None
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            finally:
                process.kill()


def test_plain_locust_tells_what_is_wrong_with_the_options(tmp_path: Path) -> None:
    done = subprocess.run(
        [*LOCUST, "--headless", "--host", "http://127.0.0.1:9", "--texts", str(tmp_path / "none.txt")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot read the texts" in done.stderr


def test_a_full_disk_leaves_the_earlier_result(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("earlier", encoding="utf-8")
    # No file may grow: what a full disk is to a program.
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    limited = f"{limit}; os.execv(sys.argv[1], sys.argv[1:])"
    command = [*LOCUST, "--headless", "--host", start_server(), *SHORT, "--result", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", limited, *command], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert f"cannot write {path}: File too large" in done.stderr
    assert path.read_text(encoding="utf-8") == "earlier"
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def _when_answered(url: str) -> bytes:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
