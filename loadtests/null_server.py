"""An endpoint that does nothing, for a known time: what the client can offer at best, and a queue with a known answer.

It answers `POST /predict` as the real endpoint does, with the first word of the text as the label. Requests are
served in order by `servers` imaginary workers; a served request takes `service_ms`, always or on average. Or one worker
serves those who wait together, at most `max_batch`, in `service_ms` and `item_ms` for each. Waiting is kept on a
timetable rather than slept for, so that the timer's grain does not add up. For tests it can go wrong in several ways.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heapreplace
from random import Random
from typing import Any

HOST = "127.0.0.1"
# What a server can do wrong from some request on: end, answer nothing any more, answer 500, cut connections, take
# SLOWDOWN times as long, name a wrong label.
FAULTS = ("die", "hang", "error", "reset", "slow", "wrong")
SLOWDOWN = 20


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


@dataclass
class Batches:
    """One imaginary worker that serves together all who wait when it is free, at most `most` of them."""

    service_s: float
    item_s: float
    most: int
    free_s: float = 0.0
    _waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    _due: bool = False

    def arrive(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        """Have `answer` called when a request that arrives now has been served."""
        now_s = loop.time()
        self._waiting.append((now_s, answer))
        if not self._due:
            self._due = True
            loop.call_at(max(now_s, self.free_s), self._start, loop, max(now_s, self.free_s))

    def _start(self, loop: asyncio.AbstractEventLoop, start_s: float) -> None:
        batch: list[Callable[[], None]] = []
        # Who came after the moment that the timetable names waits for the next turn, however late the timer is.
        while self._waiting and len(batch) < self.most and self._waiting[0][0] <= start_s:
            batch.append(self._waiting.popleft()[1])
        self.free_s = start_s + self.service_s + self.item_s * len(batch)
        for answer in batch:
            loop.call_at(self.free_s, answer)
        self._due = bool(self._waiting)
        if self._due:
            next_s = max(self.free_s, self._waiting[0][0])
            loop.call_at(next_s, self._start, loop, next_s)


@dataclass
class Fault:
    """What goes wrong after so many predictions, if anything."""

    kind: str
    after: int
    seen: int = 0

    @property
    def begun(self) -> bool:
        """Whether it has gone wrong by now."""
        return bool(self.kind) and self.seen > self.after


class NullProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1 for a keep-alive client that sends whole requests with a Content-Length."""

    def __init__(self, timetable: Timetable | Batches | None, status: int, fault: Fault) -> None:
        self._timetable, self._status, self._fault = timetable, status, fault
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
        predicts, fault = head.startswith(b"POST "), self._fault
        fault.seen += predicts
        if fault.begun and fault.kind == "hang":
            return
        if not predicts:
            self._write(200, b'{"status":"ready"}')
            return
        status = self._misbehave() if fault.begun else self._status
        content = json.dumps(_answer(json.loads(body), wrong=fault.begun and fault.kind == "wrong")).encode()
        loop = asyncio.get_running_loop()
        if self._timetable is None:
            self._write(status, content)
        elif isinstance(self._timetable, Batches):
            self._timetable.arrive(loop, partial(self._write, status, content))
        else:
            loop.call_at(self._timetable.finish_s(loop.time()), self._write, status, content)

    def _misbehave(self) -> int:
        """Do what goes wrong, once or with every answer; returns the status to answer with."""
        fault = self._fault
        if fault.kind == "die":
            os._exit(3)
        if fault.kind == "reset" and self._transport is not None:
            self._transport.abort()
        if fault.kind == "slow" and self._timetable is not None:
            self._timetable.service_s *= SLOWDOWN
            fault.kind = ""
        return 500 if fault.kind == "error" else self._status

    def _write(self, status: int, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d Null\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(content), content)
            )


def _answer(asked: dict[str, Any], wrong: bool = False) -> dict[str, Any]:
    """As the real endpoint answers one text, several, or a request of the Open Inference Protocol."""
    if wrong and "text" in asked:
        return _prediction("wrong")
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
    timetable: Timetable | Batches | None = None
    if options.max_batch:
        timetable = Batches(options.service_ms / 1000, options.item_ms / 1000, options.max_batch)
    elif options.service_ms > 0:
        timetable = Timetable(options.service_ms / 1000, options.exponential, options.servers, Random(options.seed))
    fault = Fault(options.fault, options.fault_after)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: NullProtocol(timetable, options.status, fault), HOST, options.port, backlog=1024
    )
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
    parser.add_argument("--max-batch", type=int, default=0, help="serve so many together at most; 0 serves one by one")
    parser.add_argument("--item-ms", type=float, default=0.0, help="time that each request of a batch adds")
    parser.add_argument("--fault", choices=FAULTS, default="", help="what goes wrong")
    parser.add_argument("--fault-after", type=int, default=0, help="predictions before it does")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
