"""Does the endpoint leak, or go wrong, over a hundred thousand requests of every kind?

Good requests, bad ones and clients that break off (`benchmarks.visitors`) come in an order drawn by a seed, over
several connections. After each tenth of them all is let come to rest, memory and open files are read, and one text must
be answered byte for byte as it was before the first. Ends in one line of JSON; exit 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS, RunningServer
from benchmarks.http_channel import BROKEN, HOST, Channel, connected
from benchmarks.subject import build_bundle, checked_bundle, write_texts
from benchmarks.visitors import Visit, visits_of
from deploycost.benchmarking.cores import plan_cores
from deploycost.environment import machine_facts, now
from deploycost.errors import DeploycostError
from deploycost.units import MIB, percent
from loadtests.workload import read_texts
from serving.bundle import open_bundle
from serving.errors import BundleError

MOST_GROWTH_RATIO = 0.05
_TENTHS = 10
# What is filled once is full by then.
_FROM_TENTH = 2
_SEED = 5
_TEXTS = 24
_REST_S = 30.0
# Connections of ours that the server may not have seen end.
_SPARE_FILES = 3


@dataclass(frozen=True)
class Rest:
    """The server after so many requests: its memory, its open files, whether it answers as it did at first."""

    requests: int
    memory_bytes: int
    files: int
    answers_as_before: bool


@dataclass
class Seen:
    """How often each status came, `left` among them, and what came that should not have: kind, status, times."""

    statuses: Counter[str]
    strange: Counter[str]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = _arguments()
    console = Console(stderr=True, highlight=False)
    try:
        bundle = build_bundle(console.print) if asked.bundle is None else checked_bundle(asked.bundle)
        start_s = time.perf_counter()
        seen, rests = _measure(bundle, asked, console)
    except (DeploycostError, BundleError) as error:
        print(f"benchmarks.endurance: {error}", file=sys.stderr)
        return 2
    growth = rests[-1].memory_bytes / rests[_FROM_TENTH].memory_bytes - 1
    targets = {
        "nothing but what each request deserves, or 503": not seen.strange,
        "answers as before after every tenth": all(rest.answers_as_before for rest in rests),
        f"memory grows by at most {percent(MOST_GROWTH_RATIO, 0)} from the second tenth on": growth
        <= MOST_GROWTH_RATIO,
        "no more open files in the end than at first": rests[-1].files <= rests[0].files + _SPARE_FILES,
    }
    _show(rests, targets, seen, growth)
    told = {
        "benchmark": "endurance",
        "at": now(),
        "machine": machine_facts().model_dump(mode="json"),
        "requests": asked.requests,
        "connections": asked.connections,
        "seconds": round(time.perf_counter() - start_s, 1),
        "statuses": seen.statuses,
        "strange": seen.strange,
        "growth_ratio": growth,
        "rests": [asdict(rest) for rest in rests],
        "targets": targets,
    }
    print(json.dumps(told))
    return 0 if all(targets.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--bundle", type=Path, help="folder of an int8 ONNX bundle (default: one built from the demo texts)")
    add("--requests", type=int, default=100_000, help="default: %(default)s")
    add("--connections", type=int, default=16, help="default: %(default)s")
    asked = parser.parse_args()
    if asked.requests < 10 * _TENTHS or asked.connections < 1:
        parser.error(f"expected at least {10 * _TENTHS} requests over at least 1 connection")
    return asked


def _measure(bundle: Path, asked: argparse.Namespace, console: Console) -> tuple[Seen, list[Rest]]:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.jsonl"
        write_texts("demo", _TEXTS, path)
        visits = visits_of(read_texts(str(path)), open_bundle(bundle).manifest.variant)
    seen, draw = Seen(Counter(), Counter()), Random(_SEED)
    cores = plan_cores(server_threads=1).server
    module = ("serving", "--bundle", str(bundle))
    with RunningServer(CONTENDERS[0], module, sys.executable, cores) as server:
        first = _lone_answer(server.port, visits[0])
        rests = [_at_rest(server, 0, visits[0], first)]
        for tenth in range(_TENTHS):
            number = asked.requests // _TENTHS
            drawn = [draw.choice(visits) for _ in range(number)]
            asyncio.run(_send(server.port, drawn, asked.connections, seen))
            rests.append(_at_rest(server, rests[-1].requests + number, visits[0], first))
            console.print(f"{rests[-1].requests} requests: {rests[-1].memory_bytes / MIB:.1f} MiB, {tenth + 1} of 10")
    return seen, rests


async def _send(port: int, visits: list[Visit], connections: int, seen: Seen) -> None:
    """Each connection takes the next visit as soon as it is free."""
    left = iter(visits)

    async def visitor() -> None:
        channel: Channel | None = None
        for visit in left:
            if channel is None or not channel.open:
                channel = await connected(port)
            await _pay(visit, channel, seen)
            if visit.manner != "waits":
                channel = None
        if channel is not None:
            channel.close()

    await asyncio.gather(*(visitor() for _ in range(connections)))


async def _pay(visit: Visit, channel: Channel, seen: Seen) -> None:
    """One visit, and what came of it."""
    if visit.manner != "waits":
        end = len(visit.request) // (2 if visit.manner == "leaves half-way" else 1)
        channel.send(visit.request[:end], lambda _, __: None)
        await asyncio.sleep(0)  # it is on its way
        channel.close()
        seen.statuses["left"] += 1
        return
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    channel.send(visit.request, lambda _, status: answer.set_result(status))
    status = await asyncio.wait_for(answer, _REST_S)
    told = "broken" if status == BROKEN else str(status)
    seen.statuses[told] += 1
    if status not in visit.statuses:
        seen.strange[f"{visit.kind}: {told}"] += 1


def _at_rest(server: RunningServer, requests: int, visit: Visit, first: bytes) -> Rest:
    """The server when nothing is in flight any more."""
    deadline_s = time.monotonic() + _REST_S
    while b"serving_requests_in_flight 1.0" not in _asked(server.port, "GET", "/metrics", None):  # this one
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.1)
    answers_as_before = _lone_answer(server.port, visit) == first
    return Rest(requests, server.memory_bytes(), psutil.Process(server.pid).num_fds(), answers_as_before)


def _lone_answer(port: int, visit: Visit) -> bytes:
    return _asked(port, "POST", "/predict", visit.request.partition(b"\r\n\r\n")[2])


def _asked(port: int, method: str, path: str, body: bytes | None) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=_REST_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()


def _show(rests: list[Rest], targets: dict[str, bool], seen: Seen, growth: float) -> None:
    console = Console(width=110)
    table = Table(title="The endpoint over many requests", title_justify="left")
    for name in ("requests", "memory MiB", "open files", "answers as before"):
        table.add_column(name, justify="right")
    for rest in rests:
        right = "yes" if rest.answers_as_before else "no"
        table.add_row(str(rest.requests), f"{rest.memory_bytes / MIB:.1f}", str(rest.files), right)
    console.print(table)
    console.print(f"answers by status: {dict(sorted(seen.statuses.items()))}")
    console.print(f"growth of memory from the second tenth on: {percent(growth)}")
    for kind, times in seen.strange.most_common(10):
        console.print(f"strange: {kind}, {times} times")
    for target, met in targets.items():
        console.print(f"{'met' if met else 'missed'}: {target}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
