"""What copies of the endpoint carry on machines, and how soon they answer there: of one machine or of thousands.

In arrays that broadcast: each place is reckoned by itself, so that machines are ranked by the very figures that are
told of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycost.projecting.queue import (
    Batches,
    Floats,
    Numbers,
    batched_capacity_within,
    batched_latency_at,
    capacity_within,
    latency_at,
)
from deploycost.projecting.request_times import ENDPOINT_S, Seen

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Band(NamedTuple):
    """A factor that is assumed, with the range that it is assumed to lie in; of several machines an array of each."""

    low: Numbers
    value: Numbers
    high: Numbers

    def __str__(self) -> str:
        return f"{self.value:g} ({self.low:g} to {self.high:g})"


# Two threads of one core share its vector units, which is what inference keeps busy: together they do little more than
# one, so each counts somewhat over half. It counts one where the measured core was itself a thread of a rented machine.
THREAD_IN_CORES = Band(0.5, 0.6, 1.0)
WHOLE = Band(1.0, 1.0, 1.0)
# Copies of a server share caches and memory bandwidth, so several carry less than as many times one.
RATE_KEPT_BY_COPIES = Band(0.75, 0.9, 1.0)


class Hosts(NamedTuple):
    """What machines give the endpoints on them, an array each; `cards` may be a share of one."""

    vcpus: Floats
    are_cores: Flags
    sustained_ratio: Floats
    cards: Floats

    def at(self, places: Counts) -> Hosts:
        """Some of the machines."""
        some: Any = [each[places] for each in self]
        return Hosts(*some)


class Tests(NamedTuple):
    """What load tests say of the endpoint, an array each.

    `kept_ratio` is what was carried where it was measured, over what the queue allows for a lone request's time there,
    and `late_ratio` the p95 at the planned load there, over what the queue says of it.
    """

    cores: Floats
    spread: Floats
    limit_s: Floats
    kept_ratio: Floats
    late_ratio: Floats

    def at(self, places: Counts) -> Tests:
        """Some of the load tests."""
        return Tests(*(each[places] for each in self))


def tests_of(seen: Sequence[Seen], utilisation_ratio: float) -> Tests:
    """What load tests say, in their order, of machines that are used up to such a share of their capacity."""
    spread, limit_s = (np.array(each) for each in ([one.spread for one in seen], [one.slo_ms / 1000 for one in seen]))
    # None becomes NaN, which is above nothing.
    carried_rps = np.array([one.capacity_rps for one in seen], dtype=np.float64)
    mean_s = np.array([one.alone_ms for one in seen], dtype=np.float64) / 1000 * np.exp(spread**2 / 2)
    allowed_rps = capacity_within(mean_s, spread, limit_s)
    p95_s = np.array([one.planned_p95_ms for one in seen], dtype=np.float64) / 1000
    expected_s = latency_at(utilisation_ratio * allowed_rps, mean_s, spread)
    cores = np.array([float(one.cores) for one in seen])
    return Tests(cores, spread, limit_s, _ratio(carried_rps, allowed_rps), _ratio(p95_s, expected_s))


def _ratio(measured: Floats, reckoned: Floats) -> Floats:
    """One over the other; 1 where one of them is not known."""
    ratio = np.ones(len(measured))
    return np.divide(measured, reckoned, out=ratio, where=(measured > 0) & (reckoned > 0) & np.isfinite(reckoned))


class OnCpus(NamedTuple):
    """Copies of the endpoint on CPUs, each on as many cores as where it was measured.

    `text_s` are seconds of one text in the model, `tests` the load test that tells of each machine.
    """

    text_s: Numbers
    tests: Tests
    hosts: Hosts

    @property
    def copies(self) -> Floats:
        """On one machine."""
        return np.maximum(1.0, self.hosts.vcpus // self.tests.cores)

    def bands(self) -> list[Band]:
        """What is assumed besides: the share of a core that a vCPU is, and what copies keep."""
        thread = _either(self.hosts.are_cores, WHOLE, THREAD_IN_CORES)
        return [thread, _either(self.copies > 1, RATE_KEPT_BY_COPIES, WHOLE)]

    def rate(self, slower: Floats) -> Floats:
        """Requests per second where everything takes `slower` times as long as projected."""
        return capacity_within(self._service_s(slower), self.tests.spread, self.tests.limit_s) * self._over_alone

    def p95_ms(self, slower: Floats, rate_rps: Floats) -> Floats:
        """The latency at a rate of the whole machine: up to its capacity, which is that within the limit, no more."""
        queue_s = latency_at(rate_rps / self._over_alone, self._service_s(slower), self.tests.spread)
        return 1000 * np.minimum(self.tests.late_ratio * queue_s, np.maximum(queue_s, self.tests.limit_s))

    @property
    def _over_alone(self) -> Floats:
        """What the machine carries over what the queue allows one copy of the endpoint."""
        return self.copies * self.tests.kept_ratio * self.hosts.sustained_ratio

    def _service_s(self, slower: Floats) -> Floats:
        # Fewer cores than the server had where it was measured: it takes its work in turns.
        short = np.maximum(1.0, self.tests.cores / self.hosts.vcpus)
        return (self.text_s * slower + ENDPOINT_S) * short


class OnCards(NamedTuple):
    """One endpoint for each GPU or accelerator, fed by the machine's CPU."""

    batch_s: Batches
    limit_s: float
    hosts: Hosts

    def bands(self) -> list[Band]:
        """Nothing is assumed but what the reason says."""
        return []

    def rate(self, slower: Floats) -> Floats:
        """Requests per second where everything takes `slower` times as long as projected."""
        per_card = batched_capacity_within(self._batch_s(slower), self.limit_s)
        return np.minimum(per_card * self._endpoints, self.fed_rps)

    def p95_ms(self, slower: Floats, rate_rps: Floats) -> Floats:
        """The latency at a rate of the whole machine."""
        return 1000 * batched_latency_at(rate_rps / self._endpoints, self._batch_s(slower))

    @property
    def fed_rps(self) -> Floats:
        """What the CPU prepares: each request takes of it what the endpoint adds."""
        return self.hosts.vcpus * THREAD_IN_CORES.value / ENDPOINT_S

    @property
    def _endpoints(self) -> Floats:
        return np.maximum(1.0, np.floor(self.hosts.cards))

    def _batch_s(self, slower: Floats) -> Batches:
        share = np.minimum(1.0, self.hosts.cards)
        return {size: seconds * slower / share + ENDPOINT_S for size, seconds in self.batch_s.items()}


def usual_slowness(bands: Sequence[Band]) -> Floats:
    """How many times as long everything takes, as what is assumed is usually."""
    usual = np.ones(1)
    for band in bands:
        usual = usual / band.value
    return usual


def slowness(bands: Sequence[Band], reach: float) -> Floats:
    """The same usually, at worst and at best, of one machine whose times have an interval that reaches so far."""
    usual = usual_slowness(bands)
    worse = _together(reach, [np.divide(band.value, band.low) for band in bands])
    better = _together(reach, [np.divide(band.high, band.value) for band in bands])
    return np.concatenate([usual, usual * worse, usual / better])


def _together(reach: float, factors: Sequence[Floats]) -> Floats:
    """Independent factors: their logarithms add up as deviations do."""
    return np.exp(np.sqrt(sum((np.log(factor) ** 2 for factor in factors), np.log(reach) ** 2)))


def _either(is_first: Flags, first: Band, second: Band) -> Band:
    return Band(*(np.where(is_first, one, other) for one, other in zip(first, second, strict=True)))
