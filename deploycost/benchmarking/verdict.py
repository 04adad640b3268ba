"""Whether a probe met the objective, and why not: a probe's raw timings in, a point of the curve out."""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

from deploycost.benchmarking.search import MOST_STRAIN
from deploycost.records import CurvePoint, Slo
from deploycost.stats import minimum_samples, quantile_ranks
from loadtests.result import ProbeResult, merged, quantile_ms

QUANTILE = 0.95
LATE_RATIO = 1 - QUANTILE
# Served less than this share of what was offered: the rest is still queueing.
LEAST_SERVED_RATIO = 0.9


def give_up_ratio(slo: Slo) -> float:
    """The share of late or failed requests beyond which no remainder of a probe can meet the objective."""
    return LATE_RATIO + slo.max_error_ratio


def curve_point(result: ProbeResult, slo: Slo) -> CurvePoint:
    """The point of the latency-rate curve, with its verdict. Percentiles need enough samples, or are None."""
    latency, service = merged([result.latency]), merged([result.service])
    low, high = _p95_interval(latency)
    reason = _reason(result, latency, slo)
    strain = _strain(result, slo)
    # A probe that failed for another reason than late or failed answers is beyond the limit by an unknown amount.
    strain = max(strain, MOST_STRAIN) if reason and strain <= 1 else strain
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
        errors=result.failed,
        requests=result.requests,
        duration_s=result.window_s,
        meets_slo=not reason,
        reason=reason,
    )


def _reason(result: ProbeResult, latency: HdrHistogram, slo: Slo) -> str:
    if result.failed > slo.max_error_ratio * result.requests:
        worst = max(result.errors, key=lambda kind: result.errors[kind])
        return f"{result.failed} of {result.requests} requests failed, most of them with: {worst}"
    if result.gave_up:
        return f"stopped early: {result.gave_up}"
    if result.late > LATE_RATIO * result.answered:
        return f"p95 {quantile_ms(latency, QUANTILE):.3g} ms is above {slo.p95_ms:g} ms"
    if result.answered < minimum_samples(QUANTILE):
        return f"only {result.answered} answers; p95 needs {minimum_samples(QUANTILE)}"
    if result.achieved_rps < LEAST_SERVED_RATIO * result.rate_rps:
        return f"served {result.achieved_rps:.3g}/s of {result.rate_rps:.3g}/s offered"
    return ""


def _strain(result: ProbeResult, slo: Slo) -> float:
    if not result.requests:
        return 0.0
    failed_ratio = result.failed / result.requests
    late_strain = result.late / max(1, result.answered) / LATE_RATIO
    if slo.max_error_ratio:
        return max(late_strain, failed_ratio / slo.max_error_ratio)
    return MOST_STRAIN if failed_ratio else late_strain


def _percentile(histogram: HdrHistogram, quantile: float) -> float | None:
    if histogram.get_total_count() < minimum_samples(quantile):
        return None
    return quantile_ms(histogram, quantile)


def _p95_interval(histogram: HdrHistogram) -> tuple[float | None, float | None]:
    samples = histogram.get_total_count()
    ranks = quantile_ranks(samples, QUANTILE)
    if ranks is None:
        return None, None
    return quantile_ms(histogram, ranks[0] / samples), quantile_ms(histogram, ranks[1] / samples)
