"""A guess of the capacity before it is measured, from how long requests take one at a time.

It only decides where the search starts; every figure of a record comes from probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

# Enough that the 95th percentile is steady within a few percent, and fast: 12 x 20,000 steps.
_ARRIVALS = 20_000
_HALVINGS = 12
# Below this share of the saturation nobody waits.
_LEAST_RATIO = 0.02


def guess_capacity_rps(
    service_s: Sequence[float], saturation_rps: float, limit_s: float, quantile: float = 0.95
) -> float:
    """The highest arrival rate at which a simulated queue answers in time, at most `saturation_rps`.

    One server, Poisson arrivals, first come first served: w' = max(0, w + s - gap) (Lindley, 1952). Service times are
    drawn from `service_s`, scaled so that the server is saturated at `saturation_rps`; what a lone request takes
    beyond that, on the wire and in parallel, is added to each answer's time.
    """
    source = Random(0)
    mean_s = sum(service_s) / len(service_s)
    scale = 1 / (saturation_rps * mean_s)
    drawn = [source.choice(service_s) for _ in range(_ARRIVALS)]
    gaps = [source.expovariate(1.0) for _ in range(_ARRIVALS)]
    low, high = _LEAST_RATIO, 1.0
    for _ in range(_HALVINGS):
        ratio = (low + high) / 2
        if _quantile_s(drawn, gaps, scale, ratio * saturation_rps, quantile) <= limit_s:
            low = ratio
        else:
            high = ratio
    return low * saturation_rps


def _quantile_s(drawn: list[float], gaps: list[float], scale: float, rate_rps: float, quantile: float) -> float:
    wait_s, latencies = 0.0, []
    for alone_s, gap in zip(drawn, gaps, strict=True):
        latencies.append(wait_s + max(alone_s, alone_s * scale))
        wait_s = max(0.0, wait_s + alone_s * scale - gap / rate_rps)
    latencies.sort()
    return latencies[int(quantile * (len(latencies) - 1))]
