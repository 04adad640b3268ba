"""Where the capacity lies, found by asking a probe at one rate after another: logic only, no clock and no sockets.

The rate is raised or lowered in growing steps until one rate meets the objective and a higher one does not; then the
gap is halved on a logarithmic scale; then both ends are probed again, because a queue near its limit is a noisy
thing. A verdict that a repetition overturns moves the gap, and the search goes on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from deploycost.experiment import PrecisionGoal
from deploycost.records import CurvePoint, Figure
from deploycost.stats import isotonic

# The first step away from the estimate; each further step in the same direction squares it.
FIRST_STEP = 1.08
# A rate this far below the estimate leaves the queue empty: what fails there fails for its service time.
FLOOR_RATIO = 1 / 32
CEILING_RATIO = 32
LONGEST_PROBE_S = 120.0
# A slow endpoint needs long probes: it gets the time for this many, however small the budget.
PROBES_AT_LEAST = 5
# A search without a rate that passes and one that fails has no answer yet; it may overdraw its budget so far.
OVERDRAFT_RATIO = 1.0
# Far beyond the limit, how far says nothing more about where the limit is.
MOST_STRAIN = 2.0


@dataclass(frozen=True)
class Precision:
    """How long a search may take, and how fine its answer should be.

    A probe lasts `probe_s`, or longer until it holds `requests`; `resolution` is the ratio of the failing to the
    passing rate at which the gap is narrow enough, `replicates` how often both are probed. `curve_ratios` are shares
    of the capacity that are probed afterwards, for the latency at the rates that users plan for.
    """

    budget_s: float
    probe_s: float
    requests: int
    warmup_s: float
    resolution: float
    replicates: int
    curve_ratios: tuple[float, ...]


# How far off these are on queues whose capacity is known: see the tests of this module.
PRECISIONS: dict[PrecisionGoal, Precision] = {
    "quick": Precision(11, 2.5, 110, warmup_s=1, resolution=1.05, replicates=2, curve_ratios=(0.7,)),
    "normal": Precision(40, 5, 200, warmup_s=1.5, resolution=1.04, replicates=3, curve_ratios=(0.4, 0.7)),
    "tight": Precision(160, 12, 300, warmup_s=2.5, resolution=1.03, replicates=5, curve_ratios=(0.2, 0.4, 0.7)),
}


# Offers a rate (requests per second) for a duration (seconds) after the warm-up, and tells what came of it.
Probe = Callable[[float, float], CurvePoint]


def find_capacity(probe: Probe, estimate_rps: float, precision: Precision) -> tuple[CurvePoint, ...]:
    """Every probe made, in the order made, starting at the estimated capacity; `capacity_of` reads them."""
    points: list[CurvePoint] = []
    first_s = probe_duration_s(estimate_rps, precision) + precision.warmup_s
    budget_s = max(precision.budget_s, PROBES_AT_LEAST * first_s)
    spent_s = 0.0
    while (rate := next_rate(points, estimate_rps, precision)) is not None:
        duration_s = probe_duration_s(rate, precision)
        bracketed = best_passing(points) is not None and any(not point.meets_slo for point in points)
        limit_s = budget_s if bracketed else budget_s * (1 + OVERDRAFT_RATIO)
        if points and spent_s + duration_s + precision.warmup_s > limit_s:
            break
        points.append(probe(rate, duration_s))
        spent_s += points[-1].duration_s + precision.warmup_s
    return tuple(points)


def probe_duration_s(rate_rps: float, precision: Precision) -> float:
    """Seconds to measure at a rate: the precision's, or longer until enough requests are gathered."""
    return min(LONGEST_PROBE_S, max(precision.probe_s, precision.requests / rate_rps))


def next_rate(points: Sequence[CurvePoint], estimate_rps: float, precision: Precision) -> float | None:
    """The rate to probe next, or None where another probe would add nothing."""
    if not points:
        return estimate_rps
    rates = sorted({point.rate_rps for point in points})
    passing = best_passing(points)
    failing = [rate for rate in rates if passing is None or rate > passing]
    if passing is None:
        floor_rps = max(estimate_rps * FLOOR_RATIO, precision.requests / LONGEST_PROBE_S)
        return max(rates[0] / _step(len(rates)), floor_rps) if rates[0] > floor_rps else None
    if not failing:
        higher = passing * _step(len(rates))
        return higher if higher <= estimate_rps * CEILING_RATIO else None
    if failing[0] / passing > precision.resolution:
        return sqrt(passing * failing[0])
    times = Counter(point.rate_rps for point in points)
    edge = min((passing, failing[0]), key=lambda rate: times[rate])
    return edge if times[edge] < precision.replicates else None


def capacity_of(points: Sequence[CurvePoint]) -> Figure:
    """The highest rate that met the objective, after monotone smoothing over all probes; 0 where none did.

    `low` is the highest rate at and below which every probe passed, `high` the lowest at and above which every probe
    failed, None where no rate failed. A cliff between two rates is so told as the gap it is, not as a point inside it.
    That is where the verdicts were seen to turn, not a confidence interval.
    """
    rates = sorted({point.rate_rps for point in points})
    value = best_passing(points) or 0.0
    failed = min((point.rate_rps for point in points if not point.meets_slo), default=float("inf"))
    passed = max((point.rate_rps for point in points if point.meets_slo), default=0.0)
    low = max((rate for rate in rates if rate < failed), default=0.0)
    high = min((rate for rate in rates if rate > max(passed, value)), default=None)
    return Figure(value=value, low=min(low, value), high=high)


def best_passing(points: Sequence[CurvePoint]) -> float | None:
    """The highest rate whose smoothed strain is within its allowance, or None."""
    samples = [(point.rate_rps, min(point.strain, MOST_STRAIN), point.requests + 1.0) for point in points]
    return max((rate for rate, strain in isotonic(samples) if strain <= 1), default=None)


def _step(probes: int) -> float:
    return FIRST_STEP ** (2 ** (probes - 1))
