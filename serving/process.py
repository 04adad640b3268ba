"""The life of one serving process: from a loaded endpoint to the last answer after SIGTERM."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    import ssl

    from serving.http import Endpoint

# Set by a supervisor in the environment of its workers: standard input is a pipe that ends when the supervisor does.
TETHERED: Final = "SERVING_TETHERED"
# Open files beside the connections: libraries, the event loop, the listener, standard streams, and some spare.
_OWN_FILES: Final = 64


class StopSignal:
    """What SIGTERM and SIGINT do: leave at once while loading, drain when serving, leave at once when told again."""

    def __init__(self) -> None:
        self._loading = True
        self._drain: Callable[[], object] | None = None
        signal.signal(signal.SIGTERM, self)
        signal.signal(signal.SIGINT, self)

    def __call__(self, _: int, __: FrameType | None) -> None:
        """A signal has come."""
        if self._loading:
            # Nothing is lost yet, and an exception in the middle of an import would come out as a fault of that import.
            os._exit(0)
        if self._drain is None:
            sys.exit(0)
        drain, self._drain = self._drain, None
        drain()

    def drains_with(self, drain: Callable[[], object]) -> None:
        """From now on the first signal calls `drain`, and the next one exits."""
        self._loading, self._drain = False, drain


def allow_connections(wanted: int) -> int:
    """How many connections of `wanted` this process may have, once its limit of open files is raised as far as needed.

    Each is an open file, and so is each of as many again that are told that they are too many: without a file to
    accept it by, a connection would be closed without a word.
    """
    try:
        import resource
    except ImportError:  # not on this system
        return wanted
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _OWN_FILES
    if files == resource.RLIM_INFINITY or files >= needed:
        return wanted
    raised = needed if most == resource.RLIM_INFINITY else min(needed, most)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
        files = raised
    return min(wanted, max(1, (files - _OWN_FILES) // 2))


def run(
    endpoint: "Endpoint",
    listener: "socket.socket",
    tls: "ssl.SSLContext | None",
    stop: StopSignal,
    announce: Callable[[], None],
) -> None:
    """Serve until a signal comes, then drain. `OSError` where the socket cannot be listened on."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(endpoint, listener, tls, stop, announce))


async def _serve(
    endpoint: "Endpoint",
    listener: "socket.socket",
    tls: "ssl.SSLContext | None",
    stop: StopSignal,
    announce: Callable[[], None],
) -> None:
    from serving.server import HttpServer

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    stop.drains_with(lambda: loop.call_soon_threadsafe(stopped.set))
    server = HttpServer(endpoint, endpoint.limits)
    endpoint.start()
    await server.start(listener, tls)
    if TETHERED in os.environ:
        loop.add_reader(sys.stdin.fileno(), stopped.set)  # nothing is ever written to it: it is readable when it ends
    announce()
    await stopped.wait()
    if TETHERED in os.environ:
        loop.remove_reader(sys.stdin.fileno())
    await server.stop()
    await endpoint.stop()


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """uvloop's event loop, where there is one for this system."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
