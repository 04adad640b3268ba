"""The socket under a connection's transport, for a thread that has an answer while the event loop sleeps.

A lone client waits for the answer alone. Written by the thread that computed it, it arrives sooner by the time that
waking the event loop takes, and what is left to do there is done while the client reads.
"""

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio


class Early(NamedTuple):
    """An answer of which so many bytes are on their way already."""

    content: bytes
    written: int


class Wire:
    """One connected socket. It stays the transport's: this one only writes, and no more once it is `cut`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()
        self._early: Early | None = None

    def write(self, content: bytes) -> None:
        """Send as much as is taken at once: nothing where the connection is full, broken or gone."""
        with self._lock:
            if self._descriptor is not None:
                with suppress(OSError):
                    self._early = Early(content, os.write(self._descriptor, content))

    @property
    def answered(self) -> bool:
        """Whether a whole answer is on its way that `take_early` was not asked about yet."""
        with self._lock:
            return self._early is not None and self._early.written == len(self._early.content)

    def take_early(self) -> Early | None:
        """What was written, once."""
        early, self._early = self._early, None
        return early

    def cut(self) -> bool:
        """To be called before the socket is closed: its number may be another's at once. Whether an answer went out."""
        with self._lock:
            self._descriptor = None
            return self._early is not None


def wire_of(transport: "asyncio.BaseTransport") -> Wire | None:
    """The wire under a transport; None where bytes must not pass it by: under TLS, or where sockets are no files."""
    socket = transport.get_extra_info("socket")
    if os.name != "posix" or socket is None or transport.get_extra_info("sslcontext") is not None:
        return None
    return Wire(socket.fileno())
