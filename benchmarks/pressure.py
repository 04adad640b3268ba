"""Our server where requests do not wait for answers: near its capacity, far beyond it, and after that.

Near it, the waits that no server can take away are computed too, see `benchmarks.queue_bounds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.contenders import RunningServer
from benchmarks.instruments import Generator, RawLoop
from benchmarks.load_generator import OpenLoad
from benchmarks.queue_bounds import ideal_latencies_s, least_p95_s
from deploycost.errors import LoadTestFailed

SHARE_OF_CAPACITY = 0.7
TIMES_CAPACITY = 5
DEADLINE_MS = 1000
_SEED = 7
_CROWD = 32
# A flood beforehand fills what a server fills once, so that what is seen of memory afterwards is growth.
_FIRST_FLOOD_S = 3.0
_PROBE_S = 3.0
_REST_S = 2.0
# So many normal answers in a row, and it has recovered.
_IN_A_ROW = 5


@dataclass(frozen=True)
class NearCapacity:
    """Poisson arrivals at a share of capacity.

    `ideal_p95_ms` is of the queue that takes requests in turn and loses nothing, `least_p95_ms` of whatever schedule
    answers 95 % soonest; both for the same arrivals, the first in the bare model's times, the second in those of a
    model that needs as much less for each text as the server's capacity is above the bare model's rate.
    """

    rate_rps: float
    arrivals: int
    statuses: dict[str, int]
    mean_service_ms: float
    p50_ms: float
    p95_ms: float
    ideal_p95_ms: float
    least_p95_ms: float
    late_p99_ms: float


@dataclass(frozen=True)
class Overload:
    """A flood: `goodput_ratio` is answers within the deadline per second, over capacity before and after.

    `recovery_s` is from the last arrival to the first of several normal answers in a row, null where there were none.
    """

    rate_rps: float
    seconds: float
    statuses: dict[str, int]
    goodput_rps: float
    goodput_ratio: float
    memory_before_bytes: int
    memory_after_bytes: int
    recovery_s: float | None
    generator_cpu_ratio: float


def measure_near_capacity(
    server: RunningServer, generator: Generator, raw: RawLoop, seconds: float, say: Callable[[str], None]
) -> NearCapacity:
    """`LoadTestFailed` where the server fails."""
    service_s, capacity_rps = raw.times_s(), _capacity_rps(server, generator)
    rate_rps = SHARE_OF_CAPACITY * capacity_rps
    say(f"open loop at {rate_rps:.0f} arrivals/s for {seconds:g} s")
    told = generator.open(OpenLoad(server.port, "text", rate_rps, seconds, _SEED))
    latencies_s = [latency_s for _, latency_s in told["answers_s"]]
    if not latencies_s:
        raise LoadTestFailed(
            f"the server answered none of {told['due']} requests near its capacity: {told['statuses']}"
        )
    service_s = [fmean(pair) for pair in zip(service_s, raw.times_s(), strict=True)]
    mean_s = fmean(service_s)
    shortened_s = [each_s / max(1.0, capacity_rps * mean_s) for each_s in service_s]
    return NearCapacity(
        rate_rps=rate_rps,
        arrivals=told["due"],
        statuses=told["statuses"],
        mean_service_ms=1000 * mean_s,
        p50_ms=1000 * _quantile(latencies_s, 0.5),
        p95_ms=1000 * _quantile(latencies_s, 0.95),
        ideal_p95_ms=1000 * _quantile(ideal_latencies_s(service_s, rate_rps, seconds, _SEED), 0.95),
        least_p95_ms=1000 * least_p95_s(shortened_s, rate_rps, seconds, _SEED),
        late_p99_ms=1000 * told["late_p99_s"],
    )


def measure_overload(
    server: RunningServer,
    generator: Generator,
    seconds: float,
    normal_ms: float,
    say: Callable[[str], None],
) -> Overload:
    """Floods the server; an answer within `normal_ms` is normal. `LoadTestFailed` where the server fails."""
    before_rps = _capacity_rps(server, generator)
    rate_rps = TIMES_CAPACITY * before_rps
    say(f"overload at {rate_rps:.0f} arrivals/s for {seconds:g} s")
    generator.open(OpenLoad(server.port, "text", rate_rps, min(seconds, _FIRST_FLOOD_S), _SEED, DEADLINE_MS))
    time.sleep(_REST_S)
    memory_before_bytes = server.memory_bytes()
    told = generator.open(OpenLoad(server.port, "text", rate_rps, seconds, _SEED, DEADLINE_MS, _PROBE_S))
    time.sleep(_REST_S)
    # What is answered from the queue after the last arrival was not answered within these seconds.
    latest_s = DEADLINE_MS / 1000
    in_time = [due_s + took_s <= seconds and took_s <= latest_s for due_s, took_s in told["answers_s"]]
    goodput_rps = sum(in_time) / seconds
    return Overload(
        rate_rps=rate_rps,
        seconds=seconds,
        statuses=told["statuses"],
        goodput_rps=goodput_rps,
        goodput_ratio=2 * goodput_rps / (before_rps + _capacity_rps(server, generator)),
        memory_before_bytes=memory_before_bytes,
        memory_after_bytes=server.memory_bytes(),
        recovery_s=recovery_s(told["probes"], normal_ms / 1000),
        generator_cpu_ratio=told["generator_cpu_ratio"],
    )


def recovery_s(probes: Sequence[dict[str, Any]], normal_s: float) -> float | None:
    """When the first of several normal probes in a row was sent, in seconds after the last arrival."""
    run: list[float] = []
    for probe in probes:
        run = [*run, probe["at_s"]] if probe["status"] == 200 and probe["latency_s"] <= normal_s else []
        if len(run) == _IN_A_ROW:
            return run[0]
    return None


def _capacity_rps(server: RunningServer, generator: Generator) -> float:
    """What the server does for a crowd that never leaves it idle."""
    return generator.closed(server, _CROWD).rate_rps


def _quantile(values: Sequence[float], quantile: float) -> float:
    return sorted(values)[int(quantile * (len(values) - 1))]
