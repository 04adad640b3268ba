"""The listening socket and all its connections: accepts, sweeps out those that dawdle, drains at the end."""

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from email.utils import formatdate
from typing import Final, cast

from serving.connection import Application, Connection
from serving.limits import Limits

BACKLOG: Final = 2048
_SWEEP_S: Final = 0.5


class HttpServer:
    """HTTP/1.1 on one socket, for one application, on one event loop."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.date_line = _date_line()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: cast("asyncio.Protocol", Connection(self)),  # one by its methods, not by descent
            sock=listener,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=self.limits.request_timeout_s if tls else None,
        )
        self._sweeper = asyncio.create_task(self._sweep())

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._empty.set()

    async def stop(self) -> None:
        """Accept no more, answer what is in hand, then close; connections that take too long are cut."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self.limits.drain_timeout_s)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _sweep(self) -> None:
        """Twice a second: the date of answers, and connections that dawdle."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.date_line = _date_line()
            now_s = time.monotonic()
            for connection in list(self.connections):
                connection.close_if_late(now_s)


def _date_line() -> bytes:
    return f"date: {formatdate(usegmt=True)}\r\n".encode()
