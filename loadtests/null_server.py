"""An endpoint that does nothing, for a known time: what the client can offer at best, and a queue with a known answer.

It answers `POST /predict` as the real endpoint does, with the first word of the text as the label. Requests are
served in order by `servers` imaginary workers; a served request takes `service_ms`, always or on average. Waiting is
kept on a timetable rather than slept for, so that the timer's grain does not add up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from heapq import heapreplace
from random import Random
from typing import Any

HOST = "127.0.0.1"


@dataclass
class Timetable:
    """When each of the imaginary workers is free, on the event loop's clock."""

    service_s: float
    exponential: bool
    servers: int
    source: Random
    free_s: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.free_s = [0.0] * self.servers

    def finish_s(self, now_s: float) -> float:
        """When a request that arrives now will have been served."""
        service_s = self.source.expovariate(1 / self.service_s) if self.exponential else self.service_s
        done_s = max(now_s, self.free_s[0]) + service_s
        heapreplace(self.free_s, done_s)
        return done_s


class NullProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1 for a keep-alive client that sends whole requests with a Content-Length."""

    def __init__(self, timetable: Timetable | None, status: int) -> None:
        self._timetable, self._status = timetable, status
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection to write to."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type; a TCP server makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request received so far."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            size = end + 4 + _content_length(head)
            if len(self._received) < size:
                return
            body, self._received = self._received[end + 4 : size], self._received[size:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST "):
            self._write(200, b'{"status":"ready"}')
            return
        content = json.dumps(_answer(json.loads(body))).encode()
        if self._timetable is None:
            self._write(self._status, content)
            return
        loop = asyncio.get_running_loop()
        loop.call_at(self._timetable.finish_s(loop.time()), self._write, self._status, content)

    def _write(self, status: int, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d Null\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(content), content)
            )


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    """As the real endpoint answers one text, several, or a request of the Open Inference Protocol."""
    if "inputs" in asked:
        labels = [_first_word(text) for text in asked["inputs"][0]["data"]]
        return {"outputs": [{"name": "labels", "datatype": "BYTES", "shape": [len(labels)], "data": labels}]}
    if "texts" in asked:
        return {"predictions": [_prediction(text) for text in asked["texts"]]}
    return _prediction(asked["text"])


def _prediction(text: str) -> dict[str, Any]:
    return {"label": _first_word(text), "score": 1.0}


def _first_word(text: str) -> str:
    return (text.split() or [""])[0]


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(options: argparse.Namespace) -> None:
    """Serve until the process is stopped; one line of JSON on stdout tells the port."""
    timetable = None
    if options.service_ms > 0:
        timetable = Timetable(options.service_ms / 1000, options.exponential, options.servers, Random(options.seed))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: NullProtocol(timetable, options.status), HOST, options.port, backlog=1024)
    host, port = server.sockets[0].getsockname()[:2]
    print(json.dumps({"event": "listening", "host": host, "port": port}), flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.null_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--service-ms", type=float, default=0.0, help="time that one request takes a worker")
    parser.add_argument("--exponential", action="store_true", help="exponential service times of that mean")
    parser.add_argument("--servers", type=int, default=1, help="workers that serve at the same time")
    parser.add_argument("--status", type=int, default=200, help="HTTP status of every prediction")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
