"""What the measurements say to the literature's claims: arithmetic on figures, and no opinion.

Two cells are compared seed by seed (they share rows and draws then), and the interval of the mean of these
differences decides: a claim that it excludes is contradicted, one that it leaves open is left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean

from deploycost.stats import mean_interval, student_t
from deploycost.study_file import ClaimSpec, StudyFile
from deploycost.study_metrics import METRICS, Metric
from deploycost.study_record import CellMeasurement, CellResult, Finding, MetricName, Verdict


@dataclass(frozen=True)
class Comparison:
    """The mean paired difference (or ratio) of two cells with its 95 % interval; all None where nothing pairs."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclass(frozen=True)
class Choice:
    """Which cell of a factor serves an aim best, which one the literature chose, and why ours."""

    scenario: str
    factor: str
    cell: str | None
    literature: str | None
    reason: str


# How much accuracy a balanced choice may give up for its saving.
BALANCE_POINTS = 1.0
# Of the difference of two figures, each rounded to whole steps: the root of twice a step's 1/12.
_ROUNDING_DEVIATION = sqrt(1 / 6)


def findings(study: StudyFile, results: Sequence[CellResult]) -> tuple[Finding, ...]:
    """One finding for each claim of the study, in its order."""
    by_cell = by_cell_and_seed(results)
    return tuple(_finding(claim, study, by_cell) for claim in study.claims)


def choices(study: StudyFile, results: Sequence[CellResult]) -> tuple[Choice, ...]:
    """For each scenario and factor of the study, the cell that the measurements speak for."""
    by_cell = by_cell_and_seed(results)
    return tuple(
        _choice(scenario.name, scenario.aim, factor, cells, scenario.literature.get(factor), by_cell)
        for scenario in study.scenarios
        for factor, cells in study.factors.items()
    )


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
    values = [values_of(by_cell.get(name, {}), claim.metric) for name in (claim.cell, claim.against)]
    rows = [m.scores.rows for name in (claim.cell, claim.against) for m in by_cell.get(name, {}).values()]
    compared = compare(values[0], values[1], metric, min(rows, default=None))
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
        reason=_reason(claim, compared, theirs, metric),
    )


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


def _reason(claim: ClaimSpec, compared: Comparison, theirs: float | None, metric: Metric) -> str:
    if compared.value is None:
        return f"{metric.header} of {claim.cell} and of {claim.against} is not known of both on any seed"
    told = difference_text(compared.value, metric)
    if compared.low is None or compared.high is None:
        spread = "one seed, no interval"
    elif metric.exact:
        spread = "the same on every seed"
    else:
        low, high = difference_text(compared.low, metric), difference_text(compared.high, metric)
        spread = f"95 % interval {low} to {high}, {compared.pairs} seeds"
    ours = f"ours is {told} ({spread})"
    if claim.expected == "equal":
        return f"{ours}, where equal means within {_margin_text(claim.margin, metric)}{_theirs_text(theirs, metric)}"
    return f"{ours}, where {claim.expected} was expected{_theirs_text(theirs, metric)}"


def difference_text(value: float, metric: Metric) -> str:
    """A difference in points, or a ratio: `-0.75 points`, `0.71 x`."""
    return f"{100 * value:+.2f} points" if metric.by_difference else f"{value:.3g} x"


def _theirs_text(theirs: float | None, metric: Metric) -> str:
    return "" if theirs is None else f"; theirs is {difference_text(theirs, metric)}"


def _margin_text(margin: float, metric: Metric) -> str:
    return f"{100 * margin:g} {'points' if metric.by_difference else '%'}"


def _choice(
    scenario: str,
    aim: str,
    factor: str,
    cells: Sequence[str],
    literature: str | None,
    by_cell: Mapping[str, dict[int, CellMeasurement]],
) -> Choice:
    accuracy = {name: fmean(m.scores.accuracy for m in by_cell[name].values()) for name in cells if name in by_cell}
    memory = {name: fmean(m.memory_bytes for m in by_cell[name].values()) for name in cells if name in by_cell}
    if len(accuracy) < len(cells):
        return Choice(scenario, factor, None, literature, "not every cell of the factor was measured")
    best, leanest = max(accuracy, key=accuracy.__getitem__), min(memory, key=memory.__getitem__)
    if aim == "accuracy":
        return Choice(scenario, factor, best, literature, f"the highest mean accuracy, {100 * accuracy[best]:.2f} %")
    if aim == "resources":
        return Choice(scenario, factor, leanest, literature, f"the least memory, {memory[leanest] / 1e6:,.0f} MB")
    near = [name for name in cells if 100 * (accuracy[best] - accuracy[name]) <= BALANCE_POINTS]
    chosen = min(near, key=memory.__getitem__)
    reason = f"the least memory, {memory[chosen] / 1e6:,.0f} MB, of those within {BALANCE_POINTS:g} point of the best"
    return Choice(scenario, factor, chosen, literature, reason)
