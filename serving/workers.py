"""Several workers behind one port, each a process of its own, and the supervisor that keeps them going.

The supervisor binds the port and hands the socket down; whichever worker is free accepts the next connection. With a
socket for each (SO_REUSEPORT) the kernel would spread connections by hash, blind to who is busy, and those that queue
at a worker that dies would be lost. A worker that dies is replaced; where workers die as fast as they are started,
the whole ends with a line that says so, since a crash on every start is not mended by starting again. One that cannot
be replaced is tried again while others answer. Workers end when their supervisor does, however it ends: each watches a
pipe that only the supervisor holds open.
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
from enum import Enum
from pathlib import Path
from typing import Final

from serving.limits import Limits
from serving.process import TETHERED, StopSignal

MOST_DEATHS: Final = 5
WITHIN_S: Final = 60.0
# Before a worker that could not be started is tried again; twice as long each time.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# More are beyond the longest pause, and some day beyond any number.
_MOST_DOUBLINGS: Final = 10
# Beyond what a worker grants its own clients when it drains.
_STOP_GRACE_S: Final = 5.0


class _Turn(Enum):
    """What makes the supervisor act beside its workers: a signal to stop, and a pause that is over."""

    STOP = "stop"
    RETRY = "retry"


class Supervisor:
    """Starts workers on one bound socket, announces them once, and replaces those that die.

    `digest` is the bundle's: a worker that would serve another one, which lies in its place by then, does not start.
    """

    def __init__(self, listener: socket.socket, arguments: Sequence[str], workers: int, digest: str) -> None:
        self._listener = listener
        # -P: a folder called `serving` where the user stands is not the endpoint.
        self._command = [sys.executable, "-P", "-m", "serving", *arguments]
        self._command += ["--listen-fd", str(listener.fileno()), "--bundle-digest", digest]
        self._number = workers
        self._workers: list[subprocess.Popen[str]] = []
        self._answering: set[int] = set()
        self._announced = False
        self._failed_starts = 0
        self._deaths_s: deque[float] = deque(maxlen=MOST_DEATHS)
        # What has happened: the line by which a worker announced itself, or an empty one where it died; else a turn.
        self._events: queue.SimpleQueue[tuple[subprocess.Popen[str], str] | _Turn] = queue.SimpleQueue()
        self._folder = ""

    def run(self, stop: StopSignal) -> int:
        """Keep the workers going until told to stop; returns the exit code."""
        self._listener.listen()
        stop.drains_with(lambda: self._events.put(_Turn.STOP))
        self._folder = tempfile.mkdtemp(prefix="serving-metrics-")
        try:
            for _ in range(self._number):
                self._start()
            return self._watch()
        finally:
            self._end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        # This package, wherever it lies: a copy of it alone is not installed.
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": self._folder, TETHERED: "1", "PYTHONPATH": path}
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
        while (event := self._events.get()) is not _Turn.STOP:
            if event is _Turn.RETRY:
                self._start_again()
                continue
            worker, line = event
            if line:
                self._announce(worker, line)
                continue
            self._workers.remove(worker)
            code = self._replace(worker) if worker.pid in self._answering else self._try_later(worker)
            if code is not None:
                return code
        return 0

    def _announce(self, worker: "subprocess.Popen[str]", line: str) -> None:
        """A worker answers; once all do, say so."""
        self._answering.add(worker.pid)
        self._failed_starts = 0
        if not self._announced and len(self._answering) == self._number:
            self._announced = True
            print(json.dumps(json.loads(line) | {"pid": os.getpid()}), flush=True)

    def _replace(self, worker: "subprocess.Popen[str]") -> int | None:
        """Start another in the place of one that died; the exit code where too many did."""
        self._answering.remove(worker.pid)
        self._forget_counts(worker.pid)
        now_s = time.monotonic()
        self._deaths_s.append(now_s)
        if len(self._deaths_s) == MOST_DEATHS and now_s - self._deaths_s[0] < WITHIN_S:
            print(f"error: {MOST_DEATHS} workers died within {WITHIN_S:.0f} s; giving up", file=sys.stderr)
            return 1
        print(f"warning: worker {worker.pid} died ({_cause(worker.returncode)}); replacing it", file=sys.stderr)
        self._start_again()
        return None

    def _start_again(self) -> None:
        """Start a worker, now or, where the system has not the means for one, later."""
        try:
            self._start()
        except OSError as error:
            self._wait_to_start(f"no worker could be started ({error.strerror or error})")

    def _try_later(self, worker: "subprocess.Popen[str]") -> int | None:
        """Have one that could not start, and said why on stderr, started again; the exit code if it is the last."""
        if not self._announced or not self._workers:
            return worker.returncode if worker.returncode > 0 else 1
        self._wait_to_start(f"worker {worker.pid} did not start ({_cause(worker.returncode)})")
        return None

    def _wait_to_start(self, why: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failed_starts, _MOST_DOUBLINGS), LONGEST_PAUSE_S)
        self._failed_starts += 1
        print(
            f"warning: {why}; {len(self._answering)} of {self._number} answer, the next try is in {pause_s:g} s",
            file=sys.stderr,
        )
        timer = threading.Timer(pause_s, self._events.put, (_Turn.RETRY,))
        timer.daemon = True
        timer.start()

    def _forget_counts(self, pid: int) -> None:
        """Take a dead worker's requests in flight out of the metrics; what it had counted stays."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._folder
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, self._folder)

    def _end(self) -> None:
        """Have the workers drain, and kill those that do not come to an end."""
        self._listener.close()  # once the workers have closed theirs, clients are refused and not left to wait
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
