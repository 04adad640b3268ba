"""From how long requests take to how many a second a server answers in time, and how late answers are at a rate."""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, log, sqrt
from statistics import NormalDist

# Seconds by batch size.
Batches = tuple[tuple[int, float], ...]
# Points at which a spread of service times is told: medians of so many equal shares of it.
_POINTS = 12
_HALVINGS, _FINE_HALVINGS = 16, 30
# Of a server that batches: how long 95 % of answers take in batches, and how busy it may be when batches are full.
_SLOWEST_BATCHES = 1.95
_FULL_BUSY_RATIO = 0.9
# A rate that was multiplied and divided again is still the same.
_ROUNDING = 1 + 1e-9
# Beyond this share of saturation no queue is steady long enough to promise anything.
_MOST_BUSY_RATIO = 0.98


@lru_cache(maxsize=65_536)
def capacity_within(service_s: float, spread: float, limit_s: float, quantile: float = 0.95) -> float:
    """Requests per second that one server takes with that quantile of answers within `limit_s`; 0 where none is.

    Poisson arrivals, first come first served, service times log-normal with mean `service_s` and deviation `spread` of
    the logarithm. The wait is as in heavy traffic (Kingman, 1961; Pollaczek and Khinchine for its mean): it exceeds t
    with chance r exp(-t / w), w = service (1 + c^2) / (2 (1 - r)), at a share r of saturation; 1 + c^2 = exp(spread^2).
    """
    lone = _service_points(service_s, spread)
    # What is left to wait for those that are not late already. Written out: this is asked for thousands of machines.
    room_s = [limit_s - alone for alone in lone if alone <= limit_s]
    allowed = (1 - quantile) * len(lone) - (len(lone) - len(room_s))
    if allowed < 0:
        return 0.0
    per_wait = -1 / _mean_wait_s(service_s, spread, 0.0)
    low, high = 0.0, _MOST_BUSY_RATIO
    for _ in range(_HALVINGS):
        busy = (low + high) / 2
        steepness = per_wait * (1 - busy)
        if busy * sum([exp(steepness * room) for room in room_s]) <= allowed:
            low = busy
        else:
            high = busy
    return low / service_s


@lru_cache(maxsize=65_536)
def latency_at(rate_rps: float, service_s: float, spread: float, quantile: float = 0.95) -> float:
    """Seconds within which that quantile of answers comes at a rate, by the queue of `capacity_within`; inf where it
    is not steady."""
    busy, allowed = rate_rps * service_s, 1 - quantile
    if busy > _MOST_BUSY_RATIO:
        return inf
    lone, wait_s = _service_points(service_s, spread), _mean_wait_s(service_s, spread, busy)
    low, high = lone[0], lone[-1] + wait_s * log(max(1.0, busy / allowed))
    if len(lone) == 1:
        return high
    for _ in range(_FINE_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _late_ratio(middle, lone, busy, wait_s) <= allowed else (middle, high)
    return high


def _mean_wait_s(service_s: float, spread: float, busy: float) -> float:
    return service_s * exp(spread * spread) / (2 * (1 - busy))


def _late_ratio(limit_s: float, lone: list[float], busy: float, wait_s: float) -> float:
    # Written as a list: this is asked a hundred thousand times for a whole price book.
    late = [1.0 if alone > limit_s else busy * exp((alone - limit_s) / wait_s) for alone in lone]
    return sum(late) / len(late)


@lru_cache(maxsize=65_536)
def batched_capacity_within(batch_s: Batches, limit_s: float) -> float:
    """Requests per second of a server that computes what waits together, up to the largest batch of `batch_s`.

    `batch_s` is seconds by batch size, the smallest first, for texts of the mean length. While a batch is computed the
    next gathers, so that a request waits for up to one and is then computed in another: 95 % of answers come within
    1.95 batches (a uniform wait). Batches of n carry n / time; the largest whose answers are in time decides, less what
    a full server must leave free for its queue not to grow.
    """
    in_time = [size / seconds for size, seconds in batch_s if _SLOWEST_BATCHES * seconds <= limit_s]
    alone = capacity_within(batch_s[0][1], 0.0, limit_s)
    return max([alone, *(rate * _FULL_BUSY_RATIO for rate in in_time)])


@lru_cache(maxsize=65_536)
def batched_latency_at(rate_rps: float, batch_s: Batches) -> float:
    """Seconds within which 95 % of answers come at a rate, by the server of `batched_capacity_within`; inf beyond it.

    The smallest batches that carry the rate decide, or texts one by one where they carry it sooner.
    """
    carrying = [
        _SLOWEST_BATCHES * seconds
        for size, seconds in batch_s
        if rate_rps <= size / seconds * _FULL_BUSY_RATIO * _ROUNDING
    ]
    return min([latency_at(rate_rps, batch_s[0][1], 0.0), *carrying])


def spread_of(p50_ms: float | None, p95_ms: float | None, usual: float) -> float:
    """The deviation of the logarithm whose quantiles these are, or the usual one where they are not known."""
    if not p50_ms or not p95_ms or p95_ms <= p50_ms:
        return usual
    return log(p95_ms / p50_ms) / NormalDist().inv_cdf(0.95)


def _service_points(service_s: float, spread: float) -> list[float]:
    if not spread:
        return [service_s]
    middle = service_s / sqrt(exp(spread * spread))
    normal = NormalDist()
    return [middle * exp(spread * normal.inv_cdf((number + 0.5) / _POINTS)) for number in range(_POINTS)]
