"""Which cell of each factor suits a scenario: derived from the measurements, beside what the source chose.

Means choose; cells that the paired intervals over seeds do not tell apart from the chosen one are named with it, so
that a choice by chance is not taken for a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from deploycost.study_file import ScenarioSpec, StudyFile
from deploycost.study_findings import Comparison, by_cell_and_seed, compare, values_of
from deploycost.study_metrics import METRICS
from deploycost.study_record import CellMeasurement, CellResult, MetricName, ScenarioChoice, Verdict

# How much accuracy a balanced choice may give up for its saving.
BALANCE_POINTS = 1.0
_BALANCE_RATIO = BALANCE_POINTS / 100


def choices(study: StudyFile, results: Sequence[CellResult]) -> tuple[ScenarioChoice, ...]:
    """For each scenario and factor of the study, the cell that the measurements speak for."""
    by_cell = by_cell_and_seed(results)
    return tuple(
        _choice(scenario, factor, cells, by_cell)
        for scenario in study.scenarios
        for factor, cells in study.factors.items()
    )


def _choice(
    scenario: ScenarioSpec, factor: str, cells: Sequence[str], by_cell: Mapping[str, dict[int, CellMeasurement]]
) -> ScenarioChoice:
    theirs = scenario.literature.get(factor)
    if any(name not in by_cell for name in cells):
        missing = ", ".join(name for name in cells if name not in by_cell)
        reason = f"not every cell of the factor was measured: {missing}"
        return ScenarioChoice(
            scenario=scenario.name, factor=factor, cell=None, theirs=theirs, verdict="cannot tell", reason=reason
        )
    figures = _Factor(cells, by_cell)
    chosen, alike, reason = {
        "accuracy": figures.most_accurate,
        "balance": figures.balanced,
        "resources": figures.leanest,
    }[scenario.aim]()
    return ScenarioChoice(
        scenario=scenario.name,
        factor=factor,
        cell=chosen,
        theirs=theirs,
        alike=tuple(alike),
        verdict=_verdict(chosen, alike, theirs),
        reason=reason + (f"; not told apart from {', '.join(alike)}" if alike else ""),
    )


def _verdict(chosen: str, alike: Sequence[str], theirs: str | None) -> Verdict:
    if theirs is None or theirs in alike or (theirs == chosen and alike):
        return "cannot tell"
    return "agrees" if theirs == chosen else "disagrees"


class _Factor:
    """The cells of one factor, compared seed by seed in accuracy and in memory."""

    def __init__(self, cells: Sequence[str], by_cell: Mapping[str, dict[int, CellMeasurement]]) -> None:
        self._cells = cells
        self._measured = {name: by_cell[name] for name in cells}
        self._accuracy = {name: self._mean(name, "accuracy") for name in cells}
        self._memory = {name: self._mean(name, "memory_bytes") for name in cells}

    def most_accurate(self) -> tuple[str, list[str], str]:
        """The cell with the highest mean accuracy, those not told apart from it, and why."""
        best = max(self._cells, key=self._accuracy.__getitem__)
        alike = [n for n in self._others(best) if _spans(self._compare(best, n, "accuracy"), 0.0)]
        return best, alike, f"the highest mean accuracy, {100 * self._accuracy[best]:.2f} %"

    def leanest(self) -> tuple[str, list[str], str]:
        """The cell with the least mean memory, those not told apart from it, and why."""
        least = min(self._cells, key=self._memory.__getitem__)
        alike = [n for n in self._others(least) if _spans(self._compare(least, n, "memory_bytes"), 1.0)]
        return least, alike, f"the least memory, {self._memory[least] / 1e6:,.0f} MB"

    def balanced(self) -> tuple[str, list[str], str]:
        """The leanest cell whose mean accuracy is near to the best, those that it might as well be, and why."""
        best = max(self._cells, key=self._accuracy.__getitem__)
        near = [n for n in self._cells if self._accuracy[best] - self._accuracy[n] <= _BALANCE_RATIO]
        chosen = min(near, key=self._memory.__getitem__)
        edge = {n: _spans(self._compare(best, n, "accuracy"), _BALANCE_RATIO) for n in self._others(best)}
        alike = [
            name
            for name in self._others(chosen)
            if self._may_be_leaner(name, chosen, near, edge) or (edge.get(chosen) and name in near)
        ]
        told = (
            f"the least memory, {self._memory[chosen] / 1e6:,.0f} MB, of those within {BALANCE_POINTS:g} point of the "
            f"best, at {100 * self._accuracy[chosen]:.2f} % against {100 * self._accuracy[best]:.2f} %"
        )
        return chosen, alike, told

    def _may_be_leaner(self, name: str, chosen: str, near: Sequence[str], edge: Mapping[str, bool]) -> bool:
        if name in near:
            return _spans(self._compare(chosen, name, "memory_bytes"), 1.0)
        return edge.get(name, False) and self._memory[name] < self._memory[chosen]

    def _others(self, name: str) -> list[str]:
        return [other for other in self._cells if other != name]

    def _mean(self, name: str, metric: MetricName) -> float:
        return fmean(values_of(self._measured[name], metric).values())

    def _compare(self, one: str, other: str, metric: MetricName) -> Comparison:
        values = [values_of(self._measured[name], metric) for name in (one, other)]
        rows = min(measured.scores.rows for measured in self._measured[one].values())
        return compare(values[0], values[1], METRICS[metric], rows)


def _spans(compared: Comparison, limit: float) -> bool:
    """Whether the interval leaves open on which side of the limit the truth lies; without one it does."""
    return compared.low is None or compared.high is None or compared.low <= limit <= compared.high
