"""Servers whose capacity is known: by a formula, or by looking at millions of simulated requests; and probes of them.

The simulated probes answer in virtual time, with the same search on top, so that hundreds of searches take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import floor, log

import numpy as np

from deploycost.benchmarking.crossing import design_effect
from deploycost.benchmarking.search import Probe
from deploycost.benchmarking.verdict import HOPELESS_STRAIN, hopeless_ms
from deploycost.records import CurvePoint, Miss, Slo
from loadtests.backlog import LOOK_EVERY_S, Backlog

LATE_RATIO = 0.05
SLICES = 60
_TRUTH_ARRIVALS, _TRUTH_HALVINGS, _RUN_IN = 1_000_000, 13, 2000
# What is allowed of errors lengthens a probe before it gives up, as in `deploycost.benchmarking.verdict`.
_GIVE_UP_RATIO = HOPELESS_STRAIN * (LATE_RATIO + 0.01)

Latencies = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class KnownQueue:
    """A server: what the null server is told, its latencies at given arrivals (seconds), and its objective."""

    name: str
    options: tuple[str, ...]
    latencies_s: Latencies
    limit_s: float
    lone_s: Callable[[np.random.Generator], list[float]]
    saturation_rps: float
    truth_rps: float
    truth_by: str


def known_queues(service_s: float = 0.002, limit_s: float = 0.04) -> tuple[KnownQueue, ...]:
    """M/D/1, M/M/1 with such a mean, and a server of batches: of 8 at most, 3 service times and a half for each."""
    fixed_s, item_s, most = 3 * service_s, service_s / 2, 8

    def md1(arrivals_s: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return one_by_one_s(arrivals_s, np.full(len(arrivals_s), service_s))

    def mm1(arrivals_s: np.ndarray, source: np.random.Generator) -> np.ndarray:
        return one_by_one_s(arrivals_s, source.exponential(service_s, len(arrivals_s)))

    def batches(arrivals_s: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return in_batches_s(arrivals_s, fixed_s, item_s, most)

    service = ("--service-ms", f"{1000 * service_s:g}")
    grouped = ("--service-ms", f"{1000 * fixed_s:g}", "--item-ms", f"{1000 * item_s:g}", "--max-batch", str(most))
    whole_rps = most / (fixed_s + most * item_s)
    return (
        KnownQueue(
            "M/D/1", service, md1, limit_s, lambda _: [service_s], 1 / service_s, md1_capacity_rps(service_s, limit_s),
            "Erlang's series",
        ),
        KnownQueue(
            "M/M/1", (*service, "--exponential"), mm1, limit_s, lambda source: list(source.exponential(service_s, 200)),
            1 / service_s, mm1_capacity_rps(service_s, limit_s), "exponential sojourn",
        ),
        KnownQueue(
            "batches", grouped, batches, limit_s, lambda _: [fixed_s + item_s], whole_rps,
            simulated_capacity_rps(batches, whole_rps, limit_s), "1,000,000 simulated requests at each of 13 rates",
        ),
    )  # fmt: skip


def mm1_capacity_rps(service_s: float, limit_s: float, late_ratio: float = LATE_RATIO) -> float:
    """The sojourn in an M/M/1 queue is exponential with rate mu - lambda (Kleinrock, Queueing Systems, 1975, 5.6)."""
    return 1 / service_s + log(late_ratio) / limit_s


def md1_capacity_rps(service_s: float, limit_s: float, late_ratio: float = LATE_RATIO) -> float:
    """The rate at which a share of an M/D/1 queue's sojourns is beyond `limit_s` (Erlang, 1909).

    P(W <= t D) = (1 - rho) sum_k (rho (k - t))^k / k! exp(-rho (k - t)), k = 0 .. floor(t); its terms alternate in
    sign and grow large, so it is summed in decimals of many digits.
    """
    low, high = Decimal("0.001"), Decimal("0.999")
    with localcontext(prec=100):
        t = Decimal(limit_s) / Decimal(service_s) - 1
        for _ in range(20):
            rho = (low + high) / 2
            total, factorial = Decimal(0), Decimal(1)
            for k in range(floor(t) + 1):
                factorial *= max(k, 1)
                x = rho * (k - t)
                total += x**k / factorial * (-x).exp()
            low, high = (rho, high) if (1 - rho) * total >= 1 - Decimal(late_ratio) else (low, rho)
    return float(low) / service_s


def simulated_capacity_rps(latencies_s: Latencies, most_rps: float, limit_s: float) -> float:
    """The same of any server, by halving between nothing and its saturation, over a million requests each time."""
    low, high = 0.1 * most_rps, most_rps
    for _ in range(_TRUTH_HALVINGS):
        rate_rps = (low + high) / 2
        source = np.random.default_rng(7)
        arrivals_s = np.cumsum(source.exponential(1 / rate_rps, _TRUTH_ARRIVALS))
        late = (latencies_s(arrivals_s, source)[_RUN_IN:] > limit_s).mean()
        low, high = (rate_rps, high) if late <= LATE_RATIO else (low, rate_rps)
    return (low + high) / 2


def one_by_one_s(arrivals_s: np.ndarray, service_s: np.ndarray) -> np.ndarray:
    """Sojourns of a first-come first-served server: the longest of all busy periods so far, less the arrival."""
    total_s = np.cumsum(service_s)
    starts_s = arrivals_s - np.concatenate([[0.0], total_s[:-1]])
    return np.maximum.accumulate(starts_s) + total_s - arrivals_s


def in_batches_s(arrivals_s: np.ndarray, fixed_s: float, item_s: float, most: int) -> np.ndarray:
    """Sojourns at a server that takes all who wait when it is free, at most `most`."""
    arrivals, done = arrivals_s.tolist(), np.empty(len(arrivals_s))
    free_s, first, number = 0.0, 0, len(arrivals_s)
    while first < number:
        start_s, last = max(free_s, arrivals[first]), first + 1
        while last < number and last - first < most and arrivals[last] <= start_s:
            last += 1
        free_s = start_s + fixed_s + item_s * (last - first)
        done[first:last] = free_s
        first = last
    return done - arrivals_s


def virtual_probe(
    queue: KnownQueue,
    warmup_s: float,
    source: np.random.Generator,
    spend: Callable[[float], None] = lambda _: None,
    *,
    hasty: bool = True,
) -> Probe:
    """A probe in virtual time: as many arrivals in the window as the rate says, late ones counted in slices.

    It is given up as a real one of a `hasty` bench is; `spend` is told how many seconds each takes, warm-up and
    waiting for the last answer included.
    """

    def probe(rate_rps: float, duration_s: float) -> CurvePoint:
        warm, number = source.poisson(rate_rps * warmup_s), max(1, round(rate_rps * duration_s))
        dues_s = np.concatenate(
            [np.sort(source.random(warm)) * warmup_s, warmup_s + np.sort(source.random(number)) * duration_s]
        )
        latencies_s = queue.latencies_s(dues_s, source)
        late, inside = latencies_s > queue.limit_s, dues_s >= warmup_s
        start_s, end_s = warmup_s, warmup_s + duration_s
        hopeless = np.nonzero(np.cumsum(late & inside) > _GIVE_UP_RATIO * number)[0]
        if len(hopeless):
            end_s = min(end_s, float(dues_s[hopeless[0]]) + queue.limit_s)
        planned_s = warmup_s + duration_s
        if hasty and (piled_up_s := _piled_up_s(queue, rate_rps, dues_s, latencies_s, planned_s)) is not None:
            end_s = min(end_s, piled_up_s)
            start_s = start_s if end_s > warmup_s else end_s / 2
        sent = dues_s <= end_s
        spend(float(max(end_s, (dues_s + latencies_s)[sent].max(initial=0.0))))
        inside = sent & (dues_s >= start_s)
        places = np.minimum(((dues_s[inside] - start_s) / (end_s - start_s) * SLICES).astype(int), SLICES - 1)
        counts = zip(np.bincount(places, minlength=SLICES), np.bincount(places, late[inside], SLICES), strict=True)
        return _point(rate_rps, end_s - start_s, [(int(each), int(missed)) for each, missed in counts])

    return probe


def _piled_up_s(
    queue: KnownQueue, rate_rps: float, dues_s: np.ndarray, latencies_s: np.ndarray, end_s: float
) -> float | None:
    """When requests in flight told that the rest is hopeless, if they did before the end."""
    hopeless_s = hopeless_ms(Slo(p95_ms=1000 * queue.limit_s)) / 1000
    backlog = Backlog(rate_rps, queue.limit_s, hopeless_s, end_s, _GIVE_UP_RATIO)
    looks_s = np.arange(0.0, end_s, LOOK_EVERY_S)
    sent = np.searchsorted(dues_s, looks_s, side="right")
    answered = np.searchsorted(np.sort(dues_s + latencies_s), looks_s, side="right")
    late_from_s = np.sort(dues_s[latencies_s > queue.limit_s]) + queue.limit_s
    late = np.searchsorted(late_from_s, looks_s, side="right")
    looks = zip(looks_s.tolist(), sent.tolist(), answered.tolist(), late.tolist(), strict=True)
    return next((at_s for at_s, *counts in looks if backlog.look(at_s, *counts)), None)


def _point(rate_rps: float, window_s: float, slices: list[tuple[int, int]]) -> CurvePoint:
    requests, late = (sum(column) for column in zip(*slices, strict=True))
    miss = Miss(
        objective="p95",
        missed=late,
        requests=requests,
        allowed_ratio=LATE_RATIO,
        design_effect=design_effect(slices),
    )
    strain = late / requests / LATE_RATIO
    return CurvePoint(
        rate_rps=rate_rps, achieved_rps=rate_rps, p50_ms=None, p95_ms=None, p99_ms=None, late=late, strain=strain,
        misses=(miss,), errors=0, requests=requests, duration_s=window_s, meets_slo=strain <= 1,
    )  # fmt: skip
