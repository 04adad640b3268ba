"""SIGTERM told as a Ctrl-C is: as an exception, so that what was started is stopped and put away on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTED_CODE = 130  # of a process that a Ctrl-C ended: 128 and the number of SIGINT


class Terminated(KeyboardInterrupt):
    """The process was told to end by SIGTERM. Whatever handles a Ctrl-C handles this."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within it a SIGTERM raises `Terminated`; nothing is changed where somebody else handles or ignores it."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def interrupted_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a process that was interrupted, as shells tell it."""
    return 128 + signal.SIGTERM if isinstance(interrupt, Terminated) else _INTERRUPTED_CODE


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
