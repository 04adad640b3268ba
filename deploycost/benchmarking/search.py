"""Where the capacity lies, found by asking a probe at one rate after another: logic only, no clock and no sockets.

The rate is raised or lowered in growing steps until one rate meets the objectives and a higher one does not. From
then on each probe is put beside the crossing that all probes so far point to (`crossing`), now above and now below it,
until its interval is narrow enough or the time is spent. A cliff has no probes in between that tell where it is: its
gap is halved instead, both its ends are probed again, and it is told as the gap that is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, hypot, log, sqrt

from deploycost.benchmarking.crossing import Crossing, Prior, Trial, crossing
from deploycost.experiment import PrecisionGoal
from deploycost.records import CurvePoint, Figure, Miss
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
# Ends of a gap are a cliff where the lower strains this little and the upper this much.
CALM_STRAIN, WRECKED_STRAIN = 0.5, 6.0
# How far from the crossing a probe is put, in changes of the log-odds: near enough to tell, far enough for a slope.
_ASIDE = 0.7
# Wider gaps than this are halved first: the curve between their ends is no straight line.
_WIDEST_GAP = 1.25
# Rates are rounded to this grid, so that probes repeat one another.
_GRID = 1.005


@dataclass(frozen=True)
class Precision:
    """How long a search may take, and how fine its answer should be.

    A probe lasts `probe_s`, or longer until it holds `requests`; `resolution` is the ratio of the upper to the lower
    end of the interval at which it is narrow enough, `replicates` how often both ends of a cliff are probed and how
    many probes beside the crossing there are on each side of it. `curve_ratios` are shares of the capacity that are
    probed afterwards, for the latency at the rates that users plan for.
    """

    budget_s: float
    probe_s: float
    requests: int
    warmup_s: float
    resolution: float
    replicates: int
    doubt_ratio: float
    curve_ratios: tuple[float, ...]


# How far off these are on queues whose capacity is known: see the tests of this module and `benchmarks/loadtest.py`.
PRECISIONS: dict[PrecisionGoal, Precision] = {
    "quick": Precision(
        24, 2.5, 110, warmup_s=1.5, resolution=1.10, replicates=2, doubt_ratio=0.03, curve_ratios=(0.7,)
    ),
    "normal": Precision(
        60, 5, 200, warmup_s=1.5, resolution=1.05, replicates=3, doubt_ratio=0.015, curve_ratios=(0.4, 0.7)
    ),
    "tight": Precision(
        200, 12, 300, warmup_s=2.5, resolution=1.03, replicates=5, doubt_ratio=0.0075, curve_ratios=(0.2, 0.4, 0.7)
    ),
}


# Offers a rate (requests per second) for a duration (seconds) after the warm-up, and tells what came of it.
Probe = Callable[[float, float], CurvePoint]


@dataclass(frozen=True)
class Start:
    """Where a search begins: an estimate of the capacity, and what a queue like the server's would do near it."""

    rate_rps: float
    prior: Prior = field(default_factory=Prior)


def find_capacity(probe: Probe, start: Start, precision: Precision) -> tuple[CurvePoint, ...]:
    """Every probe made, in the order made, starting at the estimated capacity; `capacity_of` reads them."""
    points: list[CurvePoint] = []
    first_s = probe_duration_s(start.rate_rps, precision) + precision.warmup_s
    budget_s = max(precision.budget_s, PROBES_AT_LEAST * first_s)
    spent_s = 0.0
    while (rate := next_rate(points, start, precision)) is not None:
        duration_s = probe_duration_s(rate, precision)
        bracketed = best_passing(points) is not None and any(not point.meets_slo for point in points)
        limit_s = budget_s if bracketed else budget_s * (1 + OVERDRAFT_RATIO)
        if points and spent_s + duration_s + precision.warmup_s > limit_s:
            break
        points.append(probe(rate, duration_s))
        spent_s += points[-1].duration_s + precision.warmup_s
    return tuple(points)


def patient(precision: Precision, start: Start) -> Precision:
    """The precision with a warm-up as long as the queue remembers where it began, at most four times its own.

    So many requests as are worth one independent one arrive in about twice the time over which latencies are alike.
    """
    memory_s = start.prior.design_effect / start.rate_rps
    return replace(precision, warmup_s=min(4 * precision.warmup_s, max(precision.warmup_s, memory_s)))


def probe_duration_s(rate_rps: float, precision: Precision) -> float:
    """Seconds to measure at a rate: the precision's, or longer until enough requests are gathered."""
    return min(LONGEST_PROBE_S, max(precision.probe_s, precision.requests / rate_rps))


def next_rate(points: Sequence[CurvePoint], start: Start, precision: Precision) -> float | None:
    """The rate to probe next, or None where another probe would add nothing."""
    if not points:
        return start.rate_rps
    rates = sorted({point.rate_rps for point in points})
    if not any(point.meets_slo for point in points):
        floor_rps = max(start.rate_rps * FLOOR_RATIO, precision.requests / LONGEST_PROBE_S)
        return max(rates[0] / _step(len(rates)), floor_rps) if rates[0] > floor_rps else None
    if all(point.meets_slo for point in points):
        higher = rates[-1] * _step(len(rates))
        return higher if higher <= start.rate_rps * CEILING_RATIO else None
    passing, failing = _gap(points)
    if is_cliff(points) or (found := crossing_of(points, start.prior)) is None:
        if failing / passing > sqrt(precision.resolution):
            return sqrt(passing * failing)
        times = Counter(point.rate_rps for point in points)
        edge = min((passing, failing), key=lambda rate: times[rate])
        return edge if times[edge] < precision.replicates else None
    if failing / passing > _WIDEST_GAP:
        return sqrt(passing * failing)
    return _beside(found, points, start, precision)


def capacity_of(points: Sequence[CurvePoint], prior: Prior | None = None, doubt_ratio: float = 0.0) -> Figure:
    """The rate at which the first of the objectives stops being met, with its 95 % interval; 0 where no rate met them.

    A cliff is told as the gap it is: `value` and `low` are the highest rate that passed, `high` the lowest that failed.
    Where no rate failed, the value is the highest rate tried, and `high` is None.
    """
    rates = [point.rate_rps for point in points]
    if not any(point.meets_slo for point in points):
        return Figure(value=0.0, low=0.0, high=min(rates, default=None))
    if all(point.meets_slo for point in points):
        return Figure(value=max(rates), low=max(rates), high=None)
    found = None if is_cliff(points) else crossing_of(points, prior or Prior())
    if found is None:
        passing, failing = _gap(points)
        failed = min(point.rate_rps for point in points if not point.meets_slo)
        low = max((rate for rate in rates if rate < failed), default=0.0)
        return Figure(value=passing, low=min(low, passing) / exp(doubt_ratio), high=failing * exp(doubt_ratio))
    below = exp(hypot(log(found.rate_rps / found.low_rps), doubt_ratio))
    above = exp(hypot(log(found.high_rps / found.rate_rps), doubt_ratio))
    return Figure(value=found.rate_rps, low=found.rate_rps / below, high=found.rate_rps * above)


def crossing_of(points: Sequence[CurvePoint], prior: Prior) -> Crossing | None:
    """Where the first objective is crossed, by all probes; None where none that failed tells by how many misses."""
    middle_rps = sqrt(
        max(point.rate_rps for point in points if point.meets_slo)
        * min(point.rate_rps for point in points if not point.meets_slo)
    )
    found = [
        crossing(trials, allowed, prior, middle_rps)
        for allowed, trials in _trials(points)
        if any(trial.missed > allowed * trial.requests for trial in trials)
    ]
    return min(found, key=lambda each: each.rate_rps) if found else None


def best_passing(points: Sequence[CurvePoint]) -> float | None:
    """The highest rate whose smoothed strain is within its allowance, or None."""
    samples = [(point.rate_rps, min(point.strain, MOST_STRAIN), point.requests + 1.0) for point in points]
    return max((rate for rate, strain in isotonic(samples) if strain <= 1), default=None)


def is_cliff(points: Sequence[CurvePoint]) -> bool:
    """Whether all probes up to some rate were far within the objectives, and all above it far beyond them."""
    calm = [point.rate_rps for point in points if point.strain <= CALM_STRAIN]
    wrecked = [point.rate_rps for point in points if point.strain >= WRECKED_STRAIN]
    return len(calm) + len(wrecked) == len(points) and max(calm, default=0.0) < min(wrecked, default=float("inf"))


def _gap(points: Sequence[CurvePoint]) -> tuple[float, float]:
    """The highest rate that passes after monotone smoothing, or the lowest of all, and the next above it."""
    rates = sorted({point.rate_rps for point in points})
    passing = best_passing(points) or rates[0]
    return passing, next((rate for rate in rates if rate > passing), passing)


def _beside(found: Crossing, points: Sequence[CurvePoint], start: Start, precision: Precision) -> float | None:
    aside = exp(_ASIDE / found.slope)
    # Farther away a probe passes or fails whatever the crossing is.
    near = [point.rate_rps for point in points if abs(log(point.rate_rps / found.rate_rps)) <= 3 * log(aside)]
    above = sum(rate > found.rate_rps for rate in near)
    below = len(near) - above
    if found.high_rps / found.low_rps <= precision.resolution and min(above, below) >= precision.replicates:
        return None
    rate_rps = found.rate_rps * (aside if above < below else 1 / aside)
    return start.rate_rps * _GRID ** round(log(rate_rps / start.rate_rps) / log(_GRID))


def _trials(points: Sequence[CurvePoint]) -> Iterable[tuple[float, list[Trial]]]:
    """The probes under each objective that allows some misses, with the share it allows."""
    by_objective: dict[str, list[tuple[CurvePoint, Miss]]] = {}
    for point in points:
        for miss in point.misses:
            if miss.allowed_ratio and miss.requests:
                by_objective.setdefault(miss.objective, []).append((point, miss))
    for pairs in by_objective.values():
        trials = [Trial(point.rate_rps, miss.missed, miss.requests, miss.design_effect) for point, miss in pairs]
        yield pairs[0][1].allowed_ratio, trials


def _step(probes: int) -> float:
    return FIRST_STEP ** (2 ** (probes - 1))
