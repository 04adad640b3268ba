"""What the measurements say to the literature's claims: arithmetic on figures, and no opinion.

Two cells are compared seed by seed (they share rows and draws then), and the interval of the mean of these
differences decides: a claim that it excludes is contradicted, one that it leaves open is left open. What is
load-tested on one seed has an interval of its own, which decides instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean

from deploycost.stats import mean_interval, student_t
from deploycost.study_file import ClaimSpec, StudyFile
from deploycost.study_metrics import METRICS, LoadTested, Metric
from deploycost.study_record import CellMeasurement, CellResult, Finding, MetricName, Verdict


@dataclass(frozen=True)
class Comparison:
    """The mean paired difference (or ratio) of two cells with its 95 % interval; all None where nothing pairs."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int


# Of the difference of two figures, each rounded to whole steps: the root of twice a step's 1/12.
_ROUNDING_DEVIATION = sqrt(1 / 6)


def findings(study: StudyFile, results: Sequence[CellResult]) -> tuple[Finding, ...]:
    """One finding for each claim of the study, in its order."""
    by_cell = by_cell_and_seed(results)
    return tuple(_finding(claim, study, by_cell) for claim in study.claims)


def compare(
    ours: Mapping[int, float], against: Mapping[int, float], metric: Metric, rows: int | None = None
) -> Comparison:
    """The values of two cells by seed, compared on the seeds that both have.

    Scores count whole rows, so that a few differences can be equal by chance alone: with `rows` judged on, their
    spread is taken to be at least that of rounding two scores to whole rows.

    Returns:
        A difference for scores; for all else the ratio whose logarithm is the mean of the seeds' log-ratios.
    """
    shared = [(ours[seed], against[seed]) for seed in ours if seed in against]
    if not metric.by_difference:
        shared = [(one, other) for one, other in shared if one > 0 and other > 0]
    if not shared:
        return Comparison(None, None, None, 0)
    steps = [one - other if metric.by_difference else log(one / other) for one, other in shared]
    interval = (fmean(steps), fmean(steps)) if metric.exact else mean_interval(steps)
    if interval and metric.by_difference and rows:
        least = student_t(len(steps) - 1) * _ROUNDING_DEVIATION / rows / sqrt(len(steps))
        interval = min(interval[0], fmean(steps) - least), max(interval[1], fmean(steps) + least)
    back = (lambda step: step) if metric.by_difference else exp
    low, high = (back(interval[0]), back(interval[1])) if interval else (None, None)
    return Comparison(back(fmean(steps)), low, high, len(steps))


def compare_load_tested(ours: LoadTested, against: LoadTested) -> Comparison:
    """The ratio of two load-tested figures, with the widest interval that their own intervals allow."""
    one, other = ours.figure, against.figure
    if not one.value or not other.value:
        return Comparison(None, None, None, 0)
    if None in (one.low, one.high, other.low, other.high) or not other.low or not other.high:
        return Comparison(one.value / other.value, None, None, 1)
    return Comparison(one.value / other.value, (one.low or 0.0) / other.high, (one.high or 0.0) / other.low, 1)


def by_cell_and_seed(results: Sequence[CellResult]) -> dict[str, dict[int, CellMeasurement]]:
    """What was measured, by cell and seed; failed ones are left out."""
    measured: dict[str, dict[int, CellMeasurement]] = {}
    for result in results:
        if result.measured is not None:
            measured.setdefault(result.name, {})[result.seed] = result.measured
    return measured


def values_of(measurements: Mapping[int, CellMeasurement], metric: MetricName) -> dict[int, float]:
    """The known values of a metric, by seed."""
    read = METRICS[metric].read
    return {seed: value for seed, measured in measurements.items() if (value := read(measured)) is not None}


def _finding(claim: ClaimSpec, study: StudyFile, by_cell: Mapping[str, dict[int, CellMeasurement]]) -> Finding:
    metric = METRICS[claim.metric]
    compared = _compared(claim, by_cell)
    theirs = _theirs(claim, study, metric)
    verdict = _verdict(claim, compared, neutral=0.0 if metric.by_difference else 1.0)
    return Finding(
        claim=claim.claim,
        metric=claim.metric,
        cell=claim.cell,
        against=claim.against,
        expected=claim.expected,
        scale="difference" if metric.by_difference else "ratio",
        ours=compared.value,
        ours_low=compared.low,
        ours_high=compared.high,
        seeds=compared.pairs,
        theirs=theirs,
        source=claim.source or study.source,
        verdict=verdict,
        reason=_reason(claim, study, by_cell, compared),
    )


def _compared(claim: ClaimSpec, by_cell: Mapping[str, dict[int, CellMeasurement]]) -> Comparison:
    metric = METRICS[claim.metric]
    one, other = (by_cell.get(name, {}) for name in (claim.cell, claim.against))
    if metric.load_tested is None:
        rows = [measured.scores.rows for cell in (one, other) for measured in cell.values()]
        return compare(values_of(one, claim.metric), values_of(other, claim.metric), metric, min(rows, default=None))
    read = metric.load_tested
    tested = [(read(one[seed]), read(other[seed])) for seed in one if seed in other]
    known = [compare_load_tested(ours, against) for ours, against in tested if ours and against]
    return known[0] if known else Comparison(None, None, None, 0)


def _theirs(claim: ClaimSpec, study: StudyFile, metric: Metric) -> float | None:
    one, other = (study.cell(name).literature.get(claim.metric) for name in (claim.cell, claim.against))
    if one is None or other is None:
        return None
    return one - other if metric.by_difference else one / other


def _verdict(claim: ClaimSpec, compared: Comparison, neutral: float) -> Verdict:
    low, high = compared.low, compared.high
    if low is None or high is None:
        return "cannot tell"
    if claim.expected == "equal":
        bottom, top = (-claim.margin, claim.margin) if neutral == 0 else (1 / (1 + claim.margin), 1 + claim.margin)
        if bottom <= low and high <= top:
            return "agrees"
        return "disagrees" if high < bottom or low > top else "cannot tell"
    if low <= neutral <= high and low != high:
        return "cannot tell"
    if low == high == neutral:
        return "disagrees"
    return "agrees" if (low > neutral) == (claim.expected == "higher") else "disagrees"


def _reason(
    claim: ClaimSpec, study: StudyFile, by_cell: Mapping[str, dict[int, CellMeasurement]], compared: Comparison
) -> str:
    metric = METRICS[claim.metric]
    if compared.value is None:
        remedy = "; --loadtest measures it" if metric.load_tested else ""
        return f"{metric.header} of {claim.cell} and of {claim.against} is not known of both on any seed{remedy}"
    figures = [_mean_text(by_cell[name], claim.metric) for name in (claim.cell, claim.against)]
    ours = (
        f"{metric.header} of {claim.cell} is {figures[0]}, of {claim.against} {figures[1]}: "
        f"{difference_text(compared.value, metric)} ({_spread_text(compared, metric)})"
    )
    meant = f", equal being within {_margin_text(claim.margin, metric)}" if claim.expected == "equal" else ""
    return f"{ours}; expected was {claim.expected}{meant}{_theirs_text(claim, study, metric)}"


def _spread_text(compared: Comparison, metric: Metric) -> str:
    if compared.low is None or compared.high is None:
        return "no interval" if metric.load_tested else "one seed, no interval"
    if metric.exact:
        return "the same on every seed"
    low, high = difference_text(compared.low, metric), difference_text(compared.high, metric)
    if metric.load_tested:
        return f"{low} to {high} by the intervals of the load tests"
    return f"95 % interval {low} to {high}, {compared.pairs} seeds"


def _mean_text(measurements: Mapping[int, CellMeasurement], metric: MetricName) -> str:
    values = values_of(measurements, metric).values()
    return figure_text(fmean(values), METRICS[metric]) if values else "not known"


def figure_text(value: float, metric: Metric) -> str:
    """A value of ours in the unit of the metric's header, with three digits, a score with two decimals."""
    shown = value * metric.shown_per_unit
    return f"{shown:.2f}" if metric.by_difference else f"{float(f'{shown:.3g}'):,g}"


def published_text(value: float, metric: Metric) -> str:
    """A printed figure in the unit of the metric's header, with all digits that were printed, a score with two."""
    shown = value * metric.shown_per_unit
    return f"{shown:.2f}" if metric.by_difference else f"{float(f'{shown:.6g}'):,g}"


def difference_text(value: float, metric: Metric) -> str:
    """A difference in points, or a ratio: `-0.75 points`, `0.71 x`."""
    return f"{100 * value:+.2f} points" if metric.by_difference else f"{value:.3g} x"


def _theirs_text(claim: ClaimSpec, study: StudyFile, metric: Metric) -> str:
    theirs = _theirs(claim, study, metric)
    if theirs is None:
        return ""
    one, other = (published_text(study.cell(n).literature[claim.metric], metric) for n in (claim.cell, claim.against))
    return f"; the {study.reference} has {one} and {other}, {difference_text(theirs, metric)}"


def _margin_text(margin: float, metric: Metric) -> str:
    if metric.by_difference:
        return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
    return f"{100 * margin:g} %"
