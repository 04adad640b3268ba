"""What sends requests to the servers, on a core of its own: raw HTTP/1.1 over asyncio, as light as Python allows.

    python -m benchmarks.load_generator TEXTS

Each line on stdin is a `ClosedLoad` or an `OpenLoad` as JSON, and is answered by a line of JSON when it is over. Each
answer tells what share of its core the generator used: near 1, and it was the generator that was measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import perf_counter, process_time, sleep
from typing import Any

import uvloop

from benchmarks.http_channel import BROKEN, Channel, Field, connected, requests_of
from loadtests.arrivals import NS_PER_S, arrival_offsets_ns
from loadtests.workload import read_texts

# How long answers are waited for once nothing more is sent.
PATIENCE_S = 10.0
# In a closed loop everybody waits: a machine that is slow, or busy with others, is not to be refused for it.
_CLOSED_DEADLINE_MS = 60_000
PROBE_EVERY_S = 0.05


@dataclass(frozen=True)
class ClosedLoad:
    """So many connections, each with one request under way at all times.

    The rate is taken over `answers` after the first `lead`, which is at least 1: where `answers` is a whole number of
    rounds through the texts, each server has done the same work.
    """

    port: int
    field: Field
    connections: int
    lead: int
    answers: int


@dataclass(frozen=True)
class OpenLoad:
    """Poisson arrivals that nothing slows down, each on a free connection or a new one.

    `deadline_ms` is told to the server where it is given. For `probe_s` seconds after the last arrival, a lone request
    every 50 ms sees when answers are normal again.
    """

    port: int
    field: Field
    rate_rps: float
    seconds: float
    seed: int
    deadline_ms: int | None = None
    probe_s: float = 0.0


class ClosedLoop:
    """One run of a `ClosedLoad`. When its answers are counted, those still under way are waited for."""

    def __init__(self, load: ClosedLoad, texts: list[str]) -> None:
        self._load = load
        self._requests = cycle(requests_of(texts, load.field, _CLOSED_DEADLINE_MS))
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way = load.connections
        self._answers = 0
        self._statuses: Counter[int] = Counter()
        self._start = self._end = (0.0, 0.0)

    async def run(self) -> dict[str, Any]:
        """What was seen over the answers that count. `OSError` where there is no server or it closes a connection."""
        channels = [await connected(self._load.port) for _ in range(self._load.connections)]
        for channel in channels:
            channel.send(next(self._requests), self._answered)
        try:
            await self._done
        finally:
            for channel in channels:
                channel.close()
        seconds, cpu_s = self._end[0] - self._start[0], self._end[1] - self._start[1]
        return {
            "rate_rps": self._statuses[200] / seconds,
            "statuses": self._statuses,
            "generator_cpu_ratio": cpu_s / seconds,
        }

    def _answered(self, channel: Channel, status: int) -> None:
        if self._done.done():
            return
        if status == BROKEN:
            self._done.set_exception(ConnectionError("a connection broke before its answer was whole"))
            return
        self._answers += 1
        counted = self._answers - self._load.lead
        if 0 < counted <= self._load.answers:
            self._statuses[status] += 1
        if counted == 0:
            self._start = perf_counter(), process_time()
        if counted == self._load.answers:
            self._end = perf_counter(), process_time()
        if counted < self._load.answers:
            channel.send(next(self._requests), self._answered)
        else:
            self._under_way -= 1
            if self._under_way == 0:
                self._done.set_result(None)


class OpenLoop:
    """One run of an `OpenLoad`."""

    def __init__(self, load: OpenLoad, texts: list[str]) -> None:
        self._load = load
        self._requests = cycle(requests_of(texts, load.field, load.deadline_ms))
        self._free: list[Channel] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._all_sent, self._all_answered = asyncio.Event(), asyncio.Event()
        self._delays_s: list[float] = []
        self._start_s = 0.0
        self._statuses: Counter[int] = Counter()
        # Of those with status 200: when each was due, from the start, and how long after that it came.
        self._answers_s: list[tuple[float, float]] = []
        self._probes: list[dict[str, float]] = []

    async def run(self) -> dict[str, Any]:
        """What was seen of all arrivals; those not answered `PATIENCE_S` after the last one count as broken."""
        load = self._load
        offsets_s = [
            offset / NS_PER_S for offset in arrival_offsets_ns("poisson", load.rate_rps, load.seconds, load.seed)
        ]
        self._start_s, start_cpu_s = perf_counter(), process_time()
        # A thread's sleep is exact to some 0.1 ms; the event loop's timers are to 1 ms.
        feeder = threading.Thread(target=self._feed, args=(asyncio.get_running_loop(), offsets_s), daemon=True)
        feeder.start()
        await self._all_sent.wait()
        end_s, cpu_s = self._now_s(), process_time() - start_cpu_s
        if load.probe_s:
            await self._probe(end_s)
        try:
            await asyncio.wait_for(self._all_answered.wait(), PATIENCE_S)
        except TimeoutError:
            self._statuses[BROKEN] += self._under_way
        for channel in self._free:
            channel.close()
        return self._told(len(offsets_s), cpu_s / end_s)

    def _now_s(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self._start_s

    def _feed(self, loop: asyncio.AbstractEventLoop, due_s: list[float]) -> None:
        """On a thread: have each request sent when it is due."""
        for each_s in due_s:
            sleep(max(0.0, each_s - self._now_s()))
            loop.call_soon_threadsafe(self._dispatch, each_s)
        loop.call_soon_threadsafe(self._all_sent.set)

    def _dispatch(self, due_s: float) -> None:
        """Send the next request, which was due then."""
        self._under_way += 1
        self._delays_s.append(self._now_s() - due_s)
        request, on_answer = next(self._requests), partial(self._answered, due_s)
        while self._free:
            channel = self._free.pop()
            if channel.open:
                channel.send(request, on_answer)
                return
        task = asyncio.create_task(self._connect_and_send(request, on_answer))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_and_send(self, request: bytes, on_answer: partial[None]) -> None:
        try:
            channel = await connected(self._load.port)
        except OSError:
            on_answer(None, BROKEN)
        else:
            channel.send(request, on_answer)

    def _answered(self, due_s: float, channel: Channel | None, status: int) -> None:
        self._statuses[status] += 1
        if status == 200:
            self._answers_s.append((due_s, self._now_s() - due_s))
        if channel is not None and channel.open:
            self._free.append(channel)
        self._under_way -= 1
        if self._under_way == 0 and self._all_sent.is_set():
            self._all_answered.set()

    async def _probe(self, flood_end_s: float) -> None:
        """Lone requests, one after the other, on a connection of their own."""
        loop = asyncio.get_running_loop()
        while (start_s := self._now_s()) < flood_end_s + self._load.probe_s:
            answer: asyncio.Future[int] = loop.create_future()
            channel = await connected(self._load.port)
            channel.send(next(self._requests), lambda _, status, told=answer: told.set_result(status))
            status = await answer
            latency_s = self._now_s() - start_s
            channel.close()
            self._probes.append({"at_s": start_s - flood_end_s, "latency_s": latency_s, "status": status})
            await asyncio.sleep(max(0.0, PROBE_EVERY_S - latency_s))

    def _told(self, due: int, generator_cpu_ratio: float) -> dict[str, Any]:
        return {
            "due": due,
            "statuses": self._statuses,
            "answers_s": self._answers_s,
            "late_p99_s": sorted(self._delays_s)[int(0.99 * (len(self._delays_s) - 1))],
            "generator_cpu_ratio": generator_cpu_ratio,
            "probes": self._probes,
        }


async def answer(line: str, texts: list[str]) -> dict[str, Any]:
    """Carry out the load that a line describes; a server that fails it is told of under `failure`."""
    asked = json.loads(line)
    try:
        if "connections" in asked:
            return await ClosedLoop(ClosedLoad(**asked), texts).run()
        return await OpenLoop(OpenLoad(**asked), texts).run()
    except OSError as error:
        return {"failure": str(error)}


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    texts = read_texts(arguments[0])
    for line in sys.stdin:
        print(json.dumps(uvloop.run(answer(line, texts))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
