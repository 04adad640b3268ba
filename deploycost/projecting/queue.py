"""From how long requests take to how many a second a server answers in time, and how late answers are at a rate.

Of one server or of thousands, in arrays that broadcast: each place is reckoned by itself, so that servers are ranked by
the very figures that are told of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = float | Floats
# Seconds by batch size, the smallest first.
Batches = Mapping[int, Numbers]
# A spread of service times is told by the medians of so many equal shares of it: these, in deviations.
_POINTS = 12
_QUANTILES = np.array([NormalDist().inv_cdf((number + 0.5) / _POINTS) for number in range(_POINTS)])
_HALVINGS, _FINE_HALVINGS = 16, 30
# Of a server that batches: how long 95 % of answers take in batches, and how busy it may be when batches are full.
_SLOWEST_BATCHES = 1.95
_FULL_BUSY_RATIO = 0.9
# A rate that was multiplied and divided again is still the same.
_ROUNDING = 1 + 1e-9
# Beyond this share of saturation no queue is steady long enough to promise anything.
_MOST_BUSY_RATIO = 0.98


def capacity_within(service_s: Numbers, spread: Numbers, limit_s: Numbers, quantile: float = 0.95) -> Floats:
    """Requests per second that one server takes with that quantile of answers within `limit_s`; 0 where none is.

    Poisson arrivals, first come first served, service times log-normal with mean `service_s` and deviation `spread` of
    the logarithm. The wait is as in heavy traffic (Kingman, 1961; Pollaczek and Khinchine for its mean): it exceeds t
    with chance r exp(-t / w), w = service (1 + c^2) / (2 (1 - r)), at a share r of saturation; 1 + c^2 = exp(spread^2).
    """
    room_s = np.asarray(limit_s)[..., None] - _service_points(service_s, spread)
    is_late = room_s < 0
    # What is left to wait for those that are not late already.
    room_s = np.where(is_late, np.inf, room_s)
    allowed = (1 - quantile) * room_s.shape[-1] - is_late.sum(axis=-1)
    per_wait = -1 / _mean_wait_s(service_s, spread, 0.0)
    low, high = np.zeros_like(allowed), np.full_like(allowed, _MOST_BUSY_RATIO)
    for _ in range(_HALVINGS):
        busy = (low + high) / 2
        steepness = per_wait * (1 - busy)
        in_time = busy * np.exp(steepness[..., None] * room_s).sum(axis=-1) <= allowed
        low, high = np.where(in_time, busy, low), np.where(in_time, high, busy)
    return np.divide(low, service_s)


def latency_at(rate_rps: Numbers, service_s: Numbers, spread: Numbers, quantile: float = 0.95) -> Floats:
    """Seconds within which that quantile of answers comes at a rate, by the queue of `capacity_within`; inf where it
    is not steady."""
    busy, allowed = np.asarray(rate_rps * service_s), 1 - quantile
    steady = np.minimum(busy, _MOST_BUSY_RATIO)
    lone, wait_s = _service_points(service_s, spread), np.asarray(_mean_wait_s(service_s, spread, steady))
    low, high = lone[..., 0], lone[..., -1] + wait_s * np.log(np.maximum(1.0, steady / allowed))
    for _ in range(_FINE_HALVINGS if lone.shape[-1] > 1 else 0):
        middle = (low + high) / 2
        in_time = _late_ratio(middle, lone, steady, wait_s) <= allowed
        low, high = np.where(in_time, low, middle), np.where(in_time, middle, high)
    return np.where(busy > _MOST_BUSY_RATIO, np.inf, high)


def _mean_wait_s(service_s: Numbers, spread: Numbers, busy: Numbers) -> Numbers:
    return service_s * np.exp(np.square(spread)) / (2 * (1 - busy))


def _late_ratio(limit_s: Numbers, lone: Floats, busy: Floats, wait_s: Floats) -> Floats:
    room_s, wait_s = np.asarray(limit_s)[..., None] - lone, np.asarray(wait_s)[..., None]
    waiting = np.asarray(busy)[..., None] * np.exp(-np.maximum(room_s, 0.0) / wait_s)
    return np.where(room_s < 0, 1.0, waiting).mean(axis=-1)


def batched_capacity_within(batch_s: Batches, limit_s: Numbers) -> Floats:
    """Requests per second of a server that computes what waits together, up to the largest batch of `batch_s`.

    `batch_s` is of texts of the mean length. While a batch is computed the next gathers, so that a request waits for up
    to one and is then computed in another: 95 % of answers come within 1.95 batches (a uniform wait). Batches of n
    carry n / time; the largest whose answers are in time decides, less what a full server must leave free for its
    queue not to grow.
    """
    most = capacity_within(_alone_s(batch_s), 0.0, limit_s)
    for size, seconds in batch_s.items():
        in_time = _SLOWEST_BATCHES * seconds <= limit_s
        most = np.where(in_time, np.maximum(most, _full_rps(size, seconds)), most)
    return most


def batched_latency_at(rate_rps: Numbers, batch_s: Batches) -> Floats:
    """Seconds within which 95 % of answers come at a rate, by the server of `batched_capacity_within`; inf beyond it.

    The smallest batches that carry the rate decide, or texts one by one where they carry it sooner.
    """
    least = latency_at(rate_rps, _alone_s(batch_s), 0.0)
    for size, seconds in batch_s.items():
        carries = rate_rps <= _full_rps(size, seconds) * _ROUNDING
        least = np.where(carries, np.minimum(least, _SLOWEST_BATCHES * seconds), least)
    return least


def _alone_s(batch_s: Batches) -> Numbers:
    return next(iter(batch_s.values()))


def _full_rps(size: int, seconds: Numbers) -> Numbers:
    """What full batches carry."""
    return size / seconds * _FULL_BUSY_RATIO


def spread_of(p50_ms: float | None, p95_ms: float | None, usual: float) -> float:
    """The deviation of the logarithm whose quantiles these are, or the usual one where they are not known."""
    if not p50_ms or not p95_ms or p95_ms <= p50_ms:
        return usual
    return log(p95_ms / p50_ms) / NormalDist().inv_cdf(0.95)


def _service_points(service_s: Numbers, spread: Numbers) -> Floats:
    """Service times along a last axis; of those that do not spread, the one."""
    if not np.any(spread):
        return np.asarray(service_s)[..., None]
    middle = service_s / np.sqrt(np.exp(np.square(spread)))
    return middle[..., None] * np.exp(np.multiply.outer(spread, _QUANTILES))
