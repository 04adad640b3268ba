"""Intervals and smoothing for measured figures: how many samples a percentile needs, and how sure it is then.

Order statistics through the exact binomial distribution rather than a normal approximation, because latencies are
anything but normal. All of it takes samples as independent; samples of a queue are not, so their intervals are
too narrow where the queue is long, and the capacity search replicates its probes for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby
from math import ceil, cos, exp, floor, lgamma, log, pi, sin, sqrt, tan
from operator import itemgetter, mul
from statistics import NormalDist, fmean, stdev

# A binomial count is farther than this many standard deviations from its mean with a chance below 1e-20.
_TAIL_DEVIATIONS = 12


def minimum_samples(quantile: float, confidence: float = 0.95) -> int:
    """The fewest samples behind which a quantile (0..1) is worth naming: 8 for 0.5, 46 for 0.9, 93 for 0.95.

    The smallest n whose second largest sample lies above the true quantile with at least `confidence`: the largest
    alone would do with fewer, but then a single freak is the bound. With B ~ Binomial(n, q) samples below the
    quantile, that chance is P(B <= n - 2) = 1 - n q^(n-1) + (n - 1) q^n (Wilks, 1941).
    """
    for samples in count(2):
        if samples * quantile ** (samples - 1) - (samples - 1) * quantile**samples <= 1 - confidence:
            return samples
    raise AssertionError("unreachable: the chance falls to zero")


def quantile_ranks(samples: int, quantile: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks (1 is the smallest sample) of the two order statistics that bracket the quantile, or None for too few.

    Equal tails: the sample of the lower rank exceeds the quantile, and that of the upper rank falls short of it, each
    with a chance of at most (1 - confidence) / 2.
    """
    tail = (1 - confidence) / 2
    spread = _TAIL_DEVIATIONS * (sqrt(samples * quantile * (1 - quantile)) + 1)
    first = max(0, floor(samples * quantile - spread))
    lower, cumulative = 0, 0.0
    for below in range(first, min(samples, ceil(samples * quantile + spread)) + 1):
        cumulative += _binomial(below, samples, quantile)
        if cumulative <= tail:
            lower = below + 1
        if cumulative >= 1 - tail:
            upper = below + 1
            return (lower, upper) if lower >= 1 and upper <= samples else None
    return None


def wilson_interval(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a proportion given `hits` of `trials` (Wilson, 1927); the whole of 0..1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    ratio, weight = hits / trials, z * z / trials
    middle = (ratio + weight / 2) / (1 + weight)
    half = z / (1 + weight) * sqrt(ratio * (1 - ratio) / trials + weight / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_t(degrees: int, confidence: float = 0.95) -> float:
    """The two-sided quantile of Student's t: 12.71, 4.30 and 3.18 for 1, 2 and 3 degrees of freedom at 0.95.

    By bisection of the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within_angle(middle, degrees) < confidence else (low, middle)
    return sqrt(degrees) * tan(low)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The interval of the mean of a few draws from a bell curve (Student, 1908), or None for fewer than two."""
    if len(values) < 2:
        return None
    half = student_t(len(values) - 1, confidence) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def isotonic(samples: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """The non-decreasing least-squares fit of (x, y, weight) samples: each distinct x with its fitted y, in order.

    Pool adjacent violators (Ayer et al., 1955).
    """
    pools: list[tuple[list[float], float, float]] = []
    for x, group in groupby(sorted(samples), key=itemgetter(0)):
        ys, weights = zip(*((y, weight) for _, y, weight in group), strict=True)
        pool = ([x], sum(map(mul, ys, weights)), sum(weights))
        while pools and pools[-1][1] * pool[2] > pool[1] * pools[-1][2]:
            xs, total, weight = pools.pop()
            pool = (xs + pool[0], total + pool[1], weight + pool[2])
        pools.append(pool)
    return [(x, total / weight) for xs, total, weight in pools for x in xs]


def _binomial(hits: int, trials: int, chance: float) -> float:
    logs = lgamma(trials + 1) - lgamma(hits + 1) - lgamma(trials - hits + 1)
    return exp(logs + hits * log(chance) + (trials - hits) * log(1 - chance))


def _within_angle(angle: float, degrees: int) -> float:
    """P(|T| < sqrt(degrees) tan(angle)) for Student's T."""
    odd = degrees % 2
    term = cos(angle) if odd else 1.0
    series = 0.0
    for power in range(odd, degrees - 1, 2):
        series += term
        term *= cos(angle) ** 2 * (power + 1) / (power + 2)
    return 2 / pi * (angle + sin(angle) * series) if odd else sin(angle) * series
