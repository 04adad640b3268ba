"""Waiting for a moment in a greenlet, to some hundredths of a millisecond where the system has a timer for it.

gevent's timers round up to the next millisecond of epoll, which would be a part of every latency below.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from types import TracebackType

import gevent
from gevent.hub import get_hub

NS_PER_S = 1_000_000_000
_CLOCK_MONOTONIC = 1  # what `perf_counter` reads
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC if hasattr(os, "O_NONBLOCK") and hasattr(os, "O_CLOEXEC") else 0


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("due_s", ctypes.c_long),
        ("due_ns", ctypes.c_long),
    )


class Alarm:
    """Wakes the greenlet that waits on it, as a context manager."""

    def __init__(self) -> None:
        self._spec, self._file = _TimerSpec(), -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._file >= 0:
            self._watcher = get_hub().loop.io(self._file, 1)

    def __enter__(self) -> Alarm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            self._watcher.close()
            os.close(self._file)
            self._file = -1

    def wait_until(self, due_ns: int) -> None:
        """Return at a moment of the `perf_counter_ns` clock; at once, but after others had a turn, if it has passed."""
        left_ns = due_ns - time.perf_counter_ns()
        if left_ns <= 0 or self._file < 0:
            gevent.sleep(max(0, left_ns) / NS_PER_S)
            return
        self._spec.due_s, self._spec.due_ns = divmod(due_ns, NS_PER_S)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(self._spec), None)
        get_hub().wait(self._watcher)
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            # Woken for another reason; the caller looks at the clock itself.
            return
