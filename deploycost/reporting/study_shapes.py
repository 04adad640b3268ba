"""The less usual figures of a study: radar, heat map, layered bars, and the stacked times of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi
from statistics import fmean
from typing import TYPE_CHECKING, get_args

from deploycost.records import OperatorTime, ProfileRecord
from deploycost.reporting.figure_style import INK, MARKERS, PALETTE
from deploycost.reporting.study_tables import spread_of
from deploycost.study_metrics import METRICS
from deploycost.study_record import CellPlan, MetricName, StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_GROUPS: tuple[str, ...] = get_args(OperatorTime.model_fields["group"].annotation)
# A bar for each metric lies upon the one before it and is thinner, by as much for each as leaves some of the last.
_WIDEST_BAR = 0.8


def draw_radar(drawing: Drawing, record: StudyRecord, cells: Sequence[CellPlan], metrics: Sequence[MetricName]) -> None:
    """A polygon for each cell, the outer rim being the best cell in each metric; the source's beside ours."""
    ours = [_means(record, cell, metrics) for cell in cells]
    theirs = [[cell.literature.get(metric) for metric in metrics] for cell in cells]
    panels = [("measured here", ours)]
    if any(None not in row for row in theirs):
        panels.append((record.reference, theirs))
    for place, (title, values) in enumerate(panels, start=1):
        axes = drawing.add_subplot(1, len(panels), place, projection="polar")
        _radar(axes, [cell.name for cell in cells], values, metrics)
        axes.set_title(title, loc="left")
    handles, labels = drawing.axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def draw_layers(
    drawing: Drawing, record: StudyRecord, cells: Sequence[CellPlan], metrics: Sequence[MetricName]
) -> None:
    """Bars of each metric laid upon one another, each as a share of the largest cell's; the source's beside."""
    ours = [_means(record, cell, metrics) for cell in cells]
    theirs = [[cell.literature.get(metric) for metric in metrics] for cell in cells]
    panels = [("measured here", ours)]
    if any(value is not None for row in theirs for value in row):
        panels.append((record.reference, theirs))
    grid = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(grid, panels, strict=True):
        for layer, metric in enumerate(metrics):
            column = [row[layer] for row in values]
            largest = max((value for value in column if value is not None), default=1.0) or 1.0
            lengths = [100 * (value or 0.0) / largest for value in column]
            width = _WIDEST_BAR * (1 - layer / len(metrics))
            colour = PALETTE[layer % len(PALETTE)]
            axes.barh(range(len(cells)), lengths, width, color=colour, label=METRICS[metric].header)
        axes.set_yticks(range(len(cells)), [cell.name for cell in cells])
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="% of the largest")
        axes.set_title(title, loc="left")
    grid[0].invert_yaxis()
    handles, labels = grid[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def draw_heat(drawing: Drawing, record: StudyRecord, cells: Sequence[CellPlan]) -> None:
    """Mean accuracy by cell and epoch, each value written into its field."""
    by_cell = [[m.epochs for m in record.measurements(cell.name).values() if m.epochs] for cell in cells]
    epochs = min((len(seed) for seeds in by_cell for seed in seeds), default=0)
    heat = [
        [100 * fmean(seed[epoch].scores.accuracy for seed in seeds) for seeds in by_cell] for epoch in range(epochs)
    ]
    axes = drawing.subplots()
    mesh = axes.pcolormesh(heat, cmap="cividis", linewidth=0)
    middle = fmean((min(map(min, heat)), max(map(max, heat)))) if heat else 0.0
    for row, values in enumerate(heat):
        for column, value in enumerate(values):
            colour = "white" if value < middle else "black"
            axes.annotate(f"{value:.1f}", (column + 0.5, row + 0.5), ha="center", va="center", color=colour)
    axes.set_xticks([place + 0.5 for place in range(len(cells))], [cell.name for cell in cells])
    axes.set_yticks([place + 0.5 for place in range(epochs)], [str(place + 1) for place in range(epochs)])
    axes.grid(visible=False)
    axes.set(ylabel="epoch")
    drawing.colorbar(mesh, ax=axes, label="accuracy %, mean of seeds")


def group_times(profile: ProfileRecord) -> dict[str, float]:
    """Milliseconds of a profiled step by group of operators."""
    return {group: sum(each.time_ms for each in profile.times if each.group == group) for group in _GROUPS}


def draw_operators(drawing: Drawing, profiles: Mapping[str, ProfileRecord]) -> None:
    """The time of a profiled training step of each cell, stacked by group of operators."""
    axes = drawing.subplots()
    by_cell = [group_times(profile) for profile in profiles.values()]
    ends = [0.0] * len(by_cell)
    for index, group in enumerate(_GROUPS):
        times = [each[group] for each in by_cell]
        axes.barh(range(len(by_cell)), times, 0.6, left=ends, color=PALETTE[index % len(PALETTE)], label=group)
        ends = [end + time for end, time in zip(ends, times, strict=True)]
    axes.set_yticks(range(len(by_cell)), list(profiles))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="ms per profiled step")
    drawing.legend(loc="outside lower center", ncols=len(_GROUPS))


def _means(record: StudyRecord, cell: CellPlan, metrics: Sequence[MetricName]) -> list[float | None]:
    spreads = [spread_of(record.measurements(cell.name), metric) for metric in metrics]
    return [spread.mean if spread else None for spread in spreads]


def _radar(
    axes: Axes, names: Sequence[str], values: Sequence[Sequence[float | None]], metrics: Sequence[MetricName]
) -> None:
    angles = [2 * pi * place / len(metrics) for place in range(len(metrics))]
    for index, (name, row) in enumerate(zip(names, values, strict=True)):
        if None in row:
            continue
        rims = [_rim([other[place] for other in values], metric) for place, metric in enumerate(metrics)]
        shares = [_share(value or 0.0, rim, metric) for value, rim, metric in zip(row, rims, metrics, strict=True)]
        axes.plot(
            [*angles, angles[0]], [*shares, shares[0]], color=PALETTE[index % len(PALETTE)], linewidth=1.4,
            marker=MARKERS[index % len(MARKERS)], markersize=4, label=name,
        )  # fmt: skip
    axes.set_xticks(angles, [_best(metric) for metric in metrics])
    axes.set_yticks([0.5, 1.0], ["", ""])
    axes.set_ylim(0, 1.05)
    axes.tick_params(labelcolor=INK, pad=6, labelsize=8)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        # Names stand outside the rim at the sides, where centred ones would lie upon it.
        label.set_horizontalalignment("center" if abs(cos(angle)) < 0.1 else "left" if cos(angle) > 0 else "right")


def _rim(column: Sequence[float | None], metric: MetricName) -> float:
    known = [value for value in column if value is not None]
    return max(known) if METRICS[metric].higher_is_better else min(known)


def _share(value: float, rim: float, metric: MetricName) -> float:
    """How near to the best, 0..1: value over best where more is better, best over value where less is."""
    top, bottom = (value, rim) if METRICS[metric].higher_is_better else (rim, value)
    return top / bottom if bottom else 0.0


def _best(metric: MetricName) -> str:
    return f"{METRICS[metric].header}\n({'high' if METRICS[metric].higher_is_better else 'low'} is out)"
