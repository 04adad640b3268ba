"""Whether a probe met the objectives, and why not: a probe's raw timings in, a point of the curve out."""

from __future__ import annotations

from math import log

from hdrh.histogram import HdrHistogram

from deploycost.benchmarking.crossing import design_effect
from deploycost.benchmarking.search import MOST_STRAIN, WRECKED_STRAIN
from deploycost.records import CurvePoint, Miss, Slo
from deploycost.stats import minimum_samples, quantile_ranks
from loadtests.result import ProbeResult, merged, quantile_ms

QUANTILE = 0.95
LATE_RATIO = 1 - QUANTILE
ERRORS = "errors"
# Served less than this share of what was offered: the rest is still queueing.
LEAST_SERVED_RATIO = 0.9
# A probe a little beyond the limit tells where the limit is, so only one so far beyond is stopped before its time.
HOPELESS_STRAIN = 4
# At its capacity a server lets so small a share of its answers wait as long as waits have to grow for that a probe is
# stopped: the tails of queues fall exponentially (Asmussen, Applied Probability and Queues, 2003, XIII.5).
HOPELESS_SHARE = 1e-6


def give_up_ratio(slo: Slo) -> float:
    """The share of late or failed requests beyond which a probe is so far from the objectives that it may stop."""
    return min(1.0, HOPELESS_STRAIN * (LATE_RATIO + slo.max_error_ratio))


def hopeless_ms(slo: Slo) -> float:
    """The wait in ms to which requests do not pile up at a server that bears the objectives, not even in a burst."""
    return slo.p95_ms * log(HOPELESS_SHARE) / log(LATE_RATIO)


def curve_point(result: ProbeResult, slo: Slo) -> CurvePoint:
    """The point of the latency-rate curve, with its verdict. Percentiles need enough samples, or are None."""
    latency, service = merged([result.latency]), merged([result.service])
    misses = _misses(result, slo)
    effective = _effective_requests(result, misses)
    low, high = _p95_interval(latency, effective)
    reason = _reason(result, latency, slo)
    strain = max((_strain(miss) for miss in misses), default=0.0)
    # A probe that failed for another reason than late or failed answers is beyond the limit by an unknown amount.
    strain = max(strain, MOST_STRAIN) if reason and strain <= 1 else strain
    strain = max(strain, WRECKED_STRAIN) if result.gave_up else strain
    return CurvePoint(
        rate_rps=result.rate_rps,
        achieved_rps=result.achieved_rps,
        p50_ms=_percentile(latency, 0.5),
        p90_ms=_percentile(latency, 0.9),
        p95_ms=_percentile(latency, QUANTILE),
        p99_ms=_percentile(latency, 0.99),
        service_p50_ms=_percentile(service, 0.5),
        p95_low_ms=low,
        p95_high_ms=high,
        late=result.late,
        strain=strain,
        misses=misses,
        effective_requests=effective,
        errors=result.failed,
        requests=result.requests,
        duration_s=result.window_s,
        meets_slo=not reason,
        reason=reason,
    )


def _misses(result: ProbeResult, slo: Slo) -> tuple[Miss, ...]:
    """One for each objective; latencies are of good answers alone, and failed requests count among the errors."""
    slices = [(merged([each.latency]), each.requests, each.failed) for each in result.slices]
    found = []
    for name, quantile, limit_ms in slo.limits:
        counts = [(requests - failed, _later_than(latency, limit_ms)) for latency, requests, failed in slices]
        missed = sum(late for _, late in counts)
        found.append((name, missed, result.answered, 1 - quantile, counts))
    found.append(
        (ERRORS, result.failed, result.requests, slo.max_error_ratio, [(n, failed) for _, n, failed in slices])
    )
    return tuple(
        Miss(
            objective=name,
            missed=missed,
            requests=requests,
            allowed_ratio=allowed,
            design_effect=design_effect(counts),
        )
        for name, missed, requests, allowed, counts in found
    )


def _later_than(latency: HdrHistogram, limit_ms: float) -> int:
    # The first value beyond the one that the limit is kept as: the histogram has three significant digits.
    counted = sum(
        item.count_added_in_this_iter_step
        for item in latency.get_recorded_iterator()
        if item.value_iterated_to > latency.get_highest_equivalent_value(round(1000 * limit_ms))
    )
    return int(counted)


def _reason(result: ProbeResult, latency: HdrHistogram, slo: Slo) -> str:
    if result.failed > slo.max_error_ratio * result.requests:
        worst = max(result.errors, key=lambda kind: result.errors[kind])
        return f"{result.failed} of {result.requests} requests failed, most of them with: {worst}"
    if result.gave_up:
        return f"stopped early: {result.gave_up}"
    for name, quantile, limit_ms in slo.limits:
        # A hair, because 1 - 0.95 is not 0.05 in floats.
        if _later_than(latency, limit_ms) > (1 - quantile) * result.answered * (1 + 1e-9):
            return f"{name} {quantile_ms(latency, quantile):.3g} ms is above {limit_ms:g} ms"
    for name, quantile, _ in slo.limits:
        if result.answered < minimum_samples(quantile):
            return f"only {result.answered} answers; {name} needs {minimum_samples(quantile)}"
    if result.achieved_rps < LEAST_SERVED_RATIO * result.rate_rps:
        return f"served {result.achieved_rps:.3g}/s of {result.rate_rps:.3g}/s offered"
    return ""


def _strain(miss: Miss) -> float:
    if not miss.missed:
        return 0.0
    return miss.missed / miss.requests / miss.allowed_ratio if miss.requests and miss.allowed_ratio else MOST_STRAIN


def _percentile(histogram: HdrHistogram, quantile: float) -> float | None:
    if histogram.get_total_count() < minimum_samples(quantile):
        return None
    return quantile_ms(histogram, quantile)


def _effective_requests(result: ProbeResult, misses: tuple[Miss, ...]) -> float | None:
    effect = next(miss.design_effect for miss in misses if miss.objective == "p95")
    return None if effect is None else result.answered / effect


def _p95_interval(histogram: HdrHistogram, effective: float | None) -> tuple[float | None, float | None]:
    """By the ranks that so many independent samples would leave; none where those are too few."""
    samples = histogram.get_total_count() if effective is None else int(effective)
    ranks = quantile_ranks(samples, QUANTILE)
    if ranks is None:
        return None, None
    return quantile_ms(histogram, ranks[0] / samples), quantile_ms(histogram, ranks[1] / samples)
