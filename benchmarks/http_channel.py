"""One connection of the load generator: a whole request out, the status of its answer back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Literal, cast

import httptools

HOST = "127.0.0.1"
# The status of a request whose connection broke before the answer was whole.
BROKEN = 0

# The field of a request's JSON that holds its text, or its list of one text.
Field = Literal["text", "texts"]
OnAnswer = Callable[["Channel", int], None]


class Channel(asyncio.Protocol):
    """A connection that has one request under way at most."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._on_answer: OnAnswer | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server is there."""
        self._transport, self.open = cast("asyncio.Transport", transport), True

    def send(self, request: bytes, on_answer: OnAnswer) -> None:
        """Send a whole request; `on_answer` is called once, with its status or `BROKEN`."""
        self._on_answer = on_answer
        if self._transport is None or not self.open:
            self._tell(BROKEN)
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        self._on_answer = None
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        self.open = self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        self._tell(status)

    def connection_lost(self, _: Exception | None) -> None:
        """The server has closed it."""
        self.open = False
        self._tell(BROKEN)

    def _tell(self, status: int) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(self, status)


async def connected(port: int) -> Channel:
    """A new connection; `OSError` where there is no server."""
    _, channel = await asyncio.get_running_loop().create_connection(Channel, HOST, port)
    return channel


def requests_of(texts: Sequence[str], field: Field, deadline_ms: int | None) -> list[bytes]:
    """Each text as a whole request, made ahead so that making it takes no time under load."""
    deadline = "" if deadline_ms is None else f"X-Deadline-Ms: {deadline_ms}\r\n"
    requests: list[bytes] = []
    for text in texts:
        body = json.dumps({field: text if field == "text" else [text]}).encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{deadline}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests
