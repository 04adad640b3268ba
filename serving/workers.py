"""Several workers behind one port, each a process of its own, and the supervisor that keeps them going.

The supervisor binds the port and hands the socket down; whichever worker is free accepts the next connection. With a
socket for each (SO_REUSEPORT) the kernel would spread connections by hash, blind to who is busy, and those that queue
at a worker that dies would be lost. A worker that dies is replaced; where workers die as fast as they are started,
the whole ends with a line that says so, since a crash on every start is not mended by starting again. Workers end when
their supervisor does, however it ends: each watches a pipe that only the supervisor holds open.
"""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from serving.limits import Limits
from serving.process import TETHERED, StopSignal

MOST_DEATHS: Final = 5
WITHIN_S: Final = 60.0
# Beyond what a worker grants its own clients when it drains.
_STOP_GRACE_S: Final = 5.0


class Supervisor:
    """Starts workers on one bound socket, announces them once, and replaces those that die."""

    def __init__(self, listener: socket.socket, arguments: Sequence[str], workers: int, threads: int) -> None:
        self._listener = listener
        # -P: a folder called `serving` where the user stands is not the endpoint.
        self._command = [sys.executable, "-P", "-m", "serving", *arguments, "--listen-fd", str(listener.fileno())]
        self._number = workers
        self._threads = threads
        self._workers: list[subprocess.Popen[str]] = []
        self._deaths_s: deque[float] = deque(maxlen=MOST_DEATHS)
        # What has happened: a worker that announced itself or died, or `None` for a signal to stop.
        self._events: queue.SimpleQueue[tuple[subprocess.Popen[str], str] | None] = queue.SimpleQueue()
        self._folder = ""

    def run(self, stop: StopSignal) -> int:
        """Keep the workers going until told to stop; returns the exit code."""
        _warn_of_too_many_threads(self._number, self._threads)
        self._listener.listen()
        stop.drains_with(lambda: self._events.put(None))
        self._folder = tempfile.mkdtemp(prefix="serving-metrics-")
        try:
            for _ in range(self._number):
                self._start()
            return self._watch()
        finally:
            self._end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": self._folder, TETHERED: "1"}
        worker = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._listener.fileno()],
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the supervisor, which tells the workers
        )
        self._workers.append(worker)
        threading.Thread(target=self._follow, args=(worker,), daemon=True).start()

    def _follow(self, worker: "subprocess.Popen[str]") -> None:
        """On a thread: wait for a worker's announcement, then for its end."""
        assert worker.stdout is not None  # noqa: S101 - it was asked for
        for line in worker.stdout:
            self._events.put((worker, line))
        worker.wait()
        self._events.put((worker, ""))

    def _watch(self) -> int:
        """Act on what happens, until told to stop or until it cannot go on."""
        announced: set[int] = set()
        while (event := self._events.get()) is not None:
            worker, line = event
            if line:
                announced.add(worker.pid)
                if len(announced) == self._number:
                    print(json.dumps(json.loads(line) | {"pid": os.getpid()}), flush=True)
                continue
            self._workers.remove(worker)
            if worker.pid not in announced:  # it said why on stderr
                return worker.returncode if worker.returncode > 0 else 1
            self._forget_counts(worker.pid)
            now_s = time.monotonic()
            self._deaths_s.append(now_s)
            if len(self._deaths_s) == MOST_DEATHS and now_s - self._deaths_s[0] < WITHIN_S:
                print(f"error: {MOST_DEATHS} workers died within {WITHIN_S:.0f} s; giving up", file=sys.stderr)
                return 1
            print(f"warning: worker {worker.pid} died ({_cause(worker.returncode)}); replacing it", file=sys.stderr)
            self._start()
        return 0

    def _forget_counts(self, pid: int) -> None:
        """Take a dead worker's requests in flight out of the metrics; what it had counted stays."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._folder
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, self._folder)

    def _end(self) -> None:
        """Have the workers drain, and kill those that do not come to an end."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        end_s = time.monotonic() + Limits().drain_timeout_s + _STOP_GRACE_S
        for worker in self._workers:
            try:
                worker.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _cause(code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _warn_of_too_many_threads(workers: int, threads: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers * threads > cores:
        print(
            f"warning: {workers} workers of {threads} threads share {cores} cores; they slow each other",
            file=sys.stderr,
        )
