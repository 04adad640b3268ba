"""A process that we start, talk to in lines of JSON, and always stop: with all its children, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any

from deploycost.errors import LoadTestFailed

TETHER = Path(__file__).with_name("tether.py")
STOP_DEADLINE_S = 3.0
# What a process said last, for the line that tells why it died.
_TAIL_LINES = 3


class Child:
    """A Python module run as a process of its own session, pinned to cores, as a context manager.

    `python` is the interpreter that runs it, of another environment where its packages are not those of this one. The
    module is looked for in the current folder only with `from_folder`: what a user keeps there under the name of one of
    ours is not run in its place.

    Its own session keeps a Ctrl-C in the terminal from reaching it before we have stopped it in order.

    Raises:
        LoadTestFailed: from `read` and `send`, where the process died or stayed silent.
    """

    def __init__(
        self,
        name: str,
        module: Sequence[str],
        cores: Sequence[int],
        python: str = sys.executable,
        *,
        from_folder: bool = False,
    ) -> None:
        pinned = ",".join(map(str, cores)) or "-"
        interpreter = (python,) if from_folder else (python, "-P")
        self.name = name
        self._stopped = False
        self._lines: Queue[str | None] = Queue()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), pinned, *interpreter, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_tail, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process id, which `exec` keeps."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def read(self, deadline_s: float) -> dict[str, Any]:
        """The next line of JSON on its stdout, within `deadline_s` seconds; other lines are passed over."""
        while True:
            try:
                line = self._lines.get(timeout=deadline_s)
            except Empty:
                raise LoadTestFailed(f"{self.name} said nothing for {deadline_s:g} s{self._last_words()}") from None
            if line is None:
                raise self.death()
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if isinstance(content, dict):
                return content

    def send(self, content: dict[str, Any]) -> None:
        """Write a line of JSON to its stdin."""
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps(content) + "\n")
                stdin.flush()
        except OSError:
            raise self.death() from None

    def death(self) -> LoadTestFailed:
        """The error that tells how the process ended, with its last words."""
        try:
            code = self._process.wait(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return LoadTestFailed(f"{self.name} closed its output{self._last_words()}")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return LoadTestFailed(f"{self.name} died ({how}){self._last_words()}")

    def stop(self) -> None:
        """Ask the process and its children to end, then end them; safe to call twice."""
        if self._stopped:
            # Its number may be another process's by now.
            return
        try:
            self._signal(signal.SIGTERM)
            self._process.wait(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also after a second Ctrl-C during the wait, and for children that outlived their parent.
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._stopped = True
            self._close()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            # Nobody is left in the group; macOS says "not permitted" of a group of zombies.
            return

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(timeout=STOP_DEADLINE_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def _read_lines(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _read_tail(self) -> None:
        self._tail.extend(line.strip() for line in self._process.stderr or () if line.strip())

    def _last_words(self) -> str:
        self._readers[1].join(timeout=0.5)
        return f"; it last said: {' | '.join(self._tail)}" if self._tail else ""
