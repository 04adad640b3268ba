"""A guess of the capacity before it is measured, from how long requests take one at a time.

It decides where the search starts and what its first probes are taken for; the figures of a record come from probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random

from deploycost.benchmarking.crossing import BATCHES, Prior, design_effect

# Enough that the 95th percentile is steady within a few percent, and fast: 12 x 20,000 steps.
_ARRIVALS = 20_000
_HALVINGS = 12
# Below this share of the saturation nobody waits.
_LEAST_RATIO = 0.02
# The slope is taken between these shares of the guess.
_SLOPE_ENDS = (0.95, 1.03)
_LEAST_SLOPE, _MOST_SLOPE = 2.0, 100.0


@dataclass(frozen=True)
class Queue:
    """One server, Poisson arrivals, first come first served: w' = max(0, w + s - gap) (Lindley, 1952).

    Service times are drawn from `service_s`, scaled so that the server is saturated at `saturation_rps`; what a lone
    request takes beyond that, on the wire and in parallel, is added to each answer's time.
    """

    service_s: Sequence[float]
    saturation_rps: float

    def latencies_s(self, rate_rps: float) -> list[float]:
        """Of the same 20,000 arrivals at any rate, in their order."""
        source = Random(0)
        scale = 1 / (self.saturation_rps * sum(self.service_s) / len(self.service_s))
        wait_s, latencies = 0.0, []
        for _ in range(_ARRIVALS):
            alone_s, gap_s = source.choice(self.service_s), source.expovariate(rate_rps)
            latencies.append(wait_s + max(alone_s, alone_s * scale))
            wait_s = max(0.0, wait_s + alone_s * scale - gap_s)
        return latencies

    def late_share(self, rate_rps: float, limit_s: float) -> float:
        """The share of latencies beyond a limit, never quite 0 or 1."""
        late = sum(latency > limit_s for latency in self.latencies_s(rate_rps))
        return (late + 0.5) / (_ARRIVALS + 1)


def guess_capacity_rps(
    service_s: Sequence[float], saturation_rps: float, limit_s: float, quantile: float = 0.95
) -> float:
    """The highest arrival rate at which a simulated queue answers in time, at most `saturation_rps`."""
    queue = Queue(service_s, saturation_rps)
    low, high = _LEAST_RATIO, 1.0
    for _ in range(_HALVINGS):
        ratio = (low + high) / 2
        if queue.late_share(ratio * saturation_rps, limit_s) <= 1 - quantile:
            low = ratio
        else:
            high = ratio
    return low * saturation_rps


def guess_prior(service_s: Sequence[float], saturation_rps: float, limit_s: float, rate_rps: float) -> Prior:
    """How steeply the odds of a late answer rise about a rate, and how alike neighbouring answers are there."""
    queue = Queue(service_s, saturation_rps)
    low, high = (queue.late_share(ratio * rate_rps, limit_s) for ratio in _SLOPE_ENDS)
    odds = log(high / (1 - high)) - log(low / (1 - low))
    slope = odds / log(_SLOPE_ENDS[1] / _SLOPE_ENDS[0])
    latencies = queue.latencies_s(rate_rps)
    per_slice = len(latencies) // (8 * BATCHES)
    parts = [latencies[first : first + per_slice] for first in range(0, len(latencies), per_slice)]
    effect = design_effect([(len(part), sum(latency > limit_s for latency in part)) for part in parts])
    return Prior(min(_MOST_SLOPE, max(_LEAST_SLOPE, slope)), effect or Prior().design_effect)
