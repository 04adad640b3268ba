"""Several workers behind one port: they share the work, and their supervisor keeps them going."""

import errno
import os
import signal
import socket
import time
from typing import Any

import httpx
import psutil
import pytest

from serving.workers import Supervisor

pytestmark = pytest.mark.slow


def pids(url: str, asked: int = 30) -> set[int]:
    """The workers that answered `asked` new connections."""
    return {httpx.get(f"{url}/metadata", trust_env=False).json()["pid"] for _ in range(asked)}


def until(condition: Any) -> None:
    """Return once the condition holds; the test's own time limit is the deadline."""
    while not condition():
        time.sleep(0.05)


def children(running: Any) -> set[int]:
    return {child.pid for child in psutil.Process(running.process.pid).children()}


def test_workers_share_a_port_and_count_together(start_server: Any, shared_bundle: Any) -> None:
    with start_server(shared_bundle.folder, "--workers", "2") as running:
        assert running.announced["pid"] == running.process.pid
        workers = children(running)
        assert len(workers) == 2
        assert pids(running.url) <= workers
        for worker in workers:  # with the other one stopped, each of them answers
            other = next(iter(workers - {worker}))
            os.kill(other, signal.SIGSTOP)
            assert httpx.post(f"{running.url}/predict", json={"text": "red"}, trust_env=False).json()["label"] == "red"
            os.kill(other, signal.SIGCONT)
        until(lambda: 'serving_requests_total{code="200",route="/predict"} 2.0' in metrics(running))
        assert "serving_tokens_total 6.0" in metrics(running)
        assert "serving_requests_in_flight 1.0" in metrics(running)
        running.process.terminate()
        assert running.process.wait(timeout=30) == 0
        assert running.process.stdout.read() == ""
        assert not any(psutil.pid_exists(worker) for worker in workers)


def metrics(running: Any) -> str:
    return httpx.get(f"{running.url}/metrics", trust_env=False).text


def test_a_worker_that_dies_is_replaced(start_server: Any, shared_bundle: Any) -> None:
    with start_server(shared_bundle.folder, "--workers", "2") as running:
        before = children(running)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(running) - {victim}) == 2)
        assert httpx.post(f"{running.url}/predict", json={"text": "red"}, trust_env=False).status_code == 200
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=30) == 0
        assert f"warning: worker {victim} died (SIGKILL); replacing it" in running.process.stderr.read()


def test_workers_that_die_again_and_again_end_it(start_server: Any, shared_bundle: Any) -> None:
    with start_server(shared_bundle.folder, "--workers", "1", "--workers", "2") as running:
        while running.process.poll() is None:
            for child in psutil.Process(running.process.pid).children():
                if child.pid in announced_pids(running.url):
                    child.kill()
            time.sleep(0.05)
        assert running.process.returncode == 1
        assert "error: 5 workers died within 60 s; giving up" in running.process.stderr.read().splitlines()


def test_a_worker_that_cannot_be_replaced_leaves_the_others_at_work(
    start_server: Any, make_bundle: Any, tmp_path: Any
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with start_server(bundle.folder, "--workers", "2") as running:
        # Another model in its place, as `deploycost build` leaves it.
        bundle.folder.rename(tmp_path / "before")
        make_bundle(tmp_path / "bundle", labels=("rot", "gruen", "blau"))
        victim = min(children(running))
        os.kill(victim, signal.SIGKILL)
        lines = iter(running.process.stderr.readline, "")
        assert next(lines) == f"warning: worker {victim} died (SIGKILL); replacing it\n"
        assert "was rebuilt since the others began; restart to serve it" in next(lines)
        assert "did not start (exit code 2); 1 of 2 answer, the next try is in 1 s" in next(lines)
        assert httpx.post(f"{running.url}/predict", json={"text": "red"}, trust_env=False).json()["label"] == "red"
        (tmp_path / "bundle").rename(tmp_path / "after")
        (tmp_path / "before").rename(tmp_path / "bundle")
        until(lambda: len(pids(running.url)) == 2)
        running.process.terminate()
        assert running.process.wait(timeout=30) == 0
        assert running.process.stdout.read() == ""  # it has been announced


def test_a_port_is_given_back_before_the_last_answer(start_server: Any, shared_bundle: Any) -> None:
    body = b'{"text": "blue"}'
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    with start_server(shared_bundle.folder, "--workers", "2") as running:
        address = running.announced["host"], running.announced["port"]
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(head)
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # the request is in hand
            running.process.terminate()
            until(lambda: is_refused(address))
            connection.sendall(body)
            assert b'"label":"blue"' in b"".join(iter(lambda: connection.recv(65536), b""))
        assert running.process.wait(timeout=30) == 0


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=30).close()
    except ConnectionError:
        return True
    return False


def announced_pids(url: str) -> set[int]:
    try:
        return {httpx.get(f"{url}/metadata", trust_env=False, timeout=5).json()["pid"]}
    except httpx.HTTPError:
        return set()


def test_workers_end_with_their_supervisor(start_server: Any, shared_bundle: Any) -> None:
    with start_server(shared_bundle.folder, "--workers", "2") as running:
        workers = children(running)
        running.process.kill()
        running.process.wait()
        until(lambda: not any(is_alive(worker) for worker in workers))


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_that_cannot_start_end_it_with_their_line(start_server: Any, bundle: Any) -> None:
    bundle.model_path.write_bytes(b"")
    with (
        pytest.raises(AssertionError, match=r"model\.onnx was changed"),
        start_server(bundle.folder, "--workers", "2"),
    ):
        pass


def test_a_worker_is_tried_again_for_ever(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pauses_s: list[float] = []

    class Timer:
        def __init__(self, pause_s: float, *_: Any) -> None:
            pauses_s.append(pause_s)

        def start(self) -> None:
            """Never over."""

    monkeypatch.setattr("serving.workers.threading.Timer", Timer)
    monkeypatch.setattr("serving.workers.subprocess.Popen", refuse_to_fork)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(listener, [], 2, "digest")
        for _ in range(3000):
            supervisor._start_again()
    assert pauses_s[:3] == [1, 2, 4]
    assert pauses_s[-1] == 60
    assert "no worker could be started (Cannot allocate memory); 0 of 2 answer" in capsys.readouterr().err


def refuse_to_fork(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
