"""The figures of a study as SVG files that stand alone: ours, and the source's beside them where it printed any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator, NullLocator

from deploycost.reporting.figure_style import INK, MARKERS, PALETTE, STYLE
from deploycost.reporting.heat_map import draw_heat_map
from deploycost.reporting.rank_grids import rank_map
from deploycost.reporting.study_shapes import draw_heat, draw_layers, draw_operators, draw_radar, group_times
from deploycost.reporting.study_tables import is_unknown, spread_of, spread_text
from deploycost.reporting.wording import number
from deploycost.study_file import FigureSpec, StudyFile, found
from deploycost.study_findings import published_text
from deploycost.study_metrics import METRICS
from deploycost.study_record import CellPlan, MetricName, StudyRecord

_WIDTH_IN = 7.2
_PAPER, _TEXT = "#ffffff", "#24292f"


@dataclass(frozen=True)
class StudyFigure:
    """One figure: a whole SVG document on white, and what it shows in words."""

    name: str
    title: str
    svg: str
    alt: str


Draw = Callable[[Drawing], None]


def study_figures(study: StudyFile, record: StudyRecord) -> list[StudyFigure]:
    """Every figure of the study that its measurements allow, in order; the same record gives the same bytes."""
    drawn = []
    for place, spec in enumerate(study.figures, start=1):
        for plan in _plans(spec, record):
            file_name = f"{study.name}-{place}-{plan.name}"
            svg = _svg(file_name, plan.height_in, plan.draw)
            drawn.append(StudyFigure(file_name, plan.title, svg, f"{plan.title}. {plan.alt}"))
    return drawn


@dataclass(frozen=True)
class _Plan:
    """A figure before it is drawn; `alt` says in words what it shows."""

    name: str
    title: str
    height_in: float
    draw: Draw
    alt: str


def _plans(spec: FigureSpec, record: StudyRecord) -> list[_Plan]:
    """What a figure comes to: nothing without measurements, several for one that is drawn for each cell."""
    cells = [cell for cell in record.cells if record.measurements(cell.name)]
    if not cells or all(is_unknown(record, metric) for metric in spec.metrics):
        return []
    if spec.kind == "ranks":
        return _rank_maps(spec, record)
    if spec.kind == "operators":
        return _operators(spec, record, cells)
    height_in, draw = _drawing(spec, record, cells)
    return [_Plan(spec.kind, spec.title, height_in, draw, _told(spec, record))]


def _drawing(spec: FigureSpec, record: StudyRecord, cells: Sequence[CellPlan]) -> tuple[float, Draw]:
    """Height in inches of a figure, and how to draw it."""
    rows = len(cells)
    draw: dict[str, tuple[float, Draw]] = {
        "bars": (
            len(spec.metrics) * (0.8 + 0.3 * rows),
            lambda drawing: _draw_bars(drawing, record, cells, spec.metrics),
        ),
        "epochs": (3.4, lambda drawing: _draw_epochs(drawing, record, cells)),
        "lines": (
            2.9 * -(-len(spec.metrics) // 2),
            lambda drawing: _draw_lines(drawing, record, spec),
        ),
        "radar": (3.6, lambda drawing: draw_radar(drawing, record, cells, spec.metrics)),
        "layers": (1.2 + 0.5 * rows, lambda drawing: draw_layers(drawing, record, cells, spec.metrics)),
        "heatmap": (2.6, lambda drawing: draw_heat(drawing, record, cells)),
    }
    return draw[spec.kind]


def _operators(spec: FigureSpec, record: StudyRecord, cells: Sequence[CellPlan]) -> list[_Plan]:
    found_ones = {
        cell.name: profile
        for cell in cells
        if (profile := next((m.profile for m in record.measurements(cell.name).values() if m.profile), None))
    }
    if not found_ones:
        return []
    told = "; ".join(
        f"{name} " + ", ".join(f"{group} {number(ms)}" for group, ms in group_times(profile).items() if ms)
        for name, profile in found_ones.items()
    )
    height_in = 1.3 + 0.35 * len(cells)
    alt = f"Milliseconds of a profiled step by operators: {told}."
    return [_Plan("operators", spec.title, height_in, lambda drawing: draw_operators(drawing, found_ones), alt)]


def _rank_maps(spec: FigureSpec, record: StudyRecord) -> list[_Plan]:
    maps = []
    for cell in record.cells:
        seed, history = next(
            ((seed, m.ranks) for seed, m in record.measurements(cell.name).items() if m.ranks and m.ranks.decisions),
            (0, None),
        )
        if history is None:
            continue
        ranks = rank_map(history)
        ends = zip(ranks.matrices, ranks.ranks, strict=True)
        maps.append(
            _Plan(
                name=f"ranks-{cell.name.replace(' ', '-')}",
                title=f"{spec.title}: {cell.name}, seed {seed}",
                height_in=1.4 + 0.22 * len(ranks.matrices),
                draw=lambda drawing, ranks=ranks: draw_heat_map(drawing, ranks),
                alt="Rank at the start and at the end: " + "; ".join(f"{n} {r[0]} to {r[-1]}" for n, r in ends) + ".",
            )
        )
    return maps


def _draw_bars(drawing: Drawing, record: StudyRecord, cells: Sequence[CellPlan], metrics: Sequence[MetricName]) -> None:
    """One row of panels for each metric: ours with whiskers, and the source's where it has any."""
    metrics = [metric for metric in metrics if not is_unknown(record, metric)]
    published = [m for m in metrics if any(m in cell.literature for cell in cells)]
    panels = drawing.subplots(len(metrics), 2 if published else 1, squeeze=False)
    names = [cell.name for cell in cells]
    for row, metric in zip(panels, metrics, strict=True):
        spreads = [spread_of(record.measurements(cell.name), metric) for cell in cells]
        means = [spread.mean if spread else 0.0 for spread in spreads]
        halves = [(spread.half or 0.0) if spread else 0.0 for spread in spreads]
        labels = [spread_text(spread, METRICS[metric]) if spread else "?" for spread in spreads]
        _bars(row[0], names, (means, halves, labels), metric)
        row[0].set_title("measured here", loc="left")
        if metric in published:
            scale = METRICS[metric].shown_per_unit
            values = [cell.literature.get(metric, 0.0) * scale for cell in cells]
            told = [_printed(cell, metric) for cell in cells]
            _bars(row[1], ["" for _ in cells], (values, [0.0] * len(values), told), metric, colour=PALETTE[1])
            row[1].set_title(record.reference, loc="left")
        elif published:
            row[1].set_visible(False)


def _printed(cell: CellPlan, metric: MetricName) -> str:
    value = cell.literature.get(metric)
    return "none" if value is None else published_text(value, METRICS[metric])


def _bars(
    axes: Axes,
    names: Sequence[str],
    bars: tuple[list[float], list[float], list[str]],
    metric: MetricName,
    colour: str = PALETTE[0],
) -> None:
    """A bar for each name, from (lengths, half intervals, labels); the label stands right of bar and whisker."""
    values, halves, labels = bars
    axes.barh(range(len(values)), values, 0.6, color=colour)
    if any(halves):
        axes.errorbar(values, range(len(values)), xerr=halves, fmt="none", ecolor=INK, capsize=3, linewidth=1)
    for row, (value, half, label) in enumerate(zip(values, halves, labels, strict=True)):
        axes.annotate(label, (value + half, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.4)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=METRICS[metric].header)


def _draw_epochs(drawing: Drawing, record: StudyRecord, cells: Sequence[CellPlan]) -> None:
    axes = drawing.subplots()
    for index, cell in enumerate(cells):
        by_seed = [m.epochs for m in record.measurements(cell.name).values() if m.epochs]
        epochs = min(map(len, by_seed), default=0)
        xs = [by_seed[0][place].epoch for place in range(epochs)]
        columns = [[100 * seed[place].scores.accuracy for seed in by_seed] for place in range(epochs)]
        means = [sum(column) / len(column) for column in columns]
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        axes.plot(xs, means, color=colour, marker=marker, markersize=5, linewidth=1.5, label=cell.name)
        axes.fill_between(xs, list(map(min, columns)), list(map(max, columns)), color=colour, alpha=0.12, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="accuracy %; shaded: all seeds")
    drawing.legend(loc="outside right center")


def _draw_lines(drawing: Drawing, record: StudyRecord, spec: FigureSpec) -> None:
    """A panel for each metric over the figure's axis; cells that do not set the axis are level lines."""
    across = min(2, len(spec.metrics))
    panels = drawing.subplots(-(-len(spec.metrics) // across), across, squeeze=False).ravel()
    placed = [(found(spec.axis or "", cell.settings), cell) for cell in record.cells]
    methods = list(dict.fromkeys(cell.method for value, cell in placed if value is not None))
    ticks = sorted({float(value) for value, _ in placed if value is not None})
    for axes, metric in zip(panels, spec.metrics, strict=False):
        for index, method in enumerate(methods):
            points = [(float(value), cell) for value, cell in placed if value is not None and cell.method == method]
            _line(axes, record, metric, sorted(points, key=lambda point: point[0]), index)
        for value, cell in placed:
            spread = spread_of(record.measurements(cell.name), metric)
            if value is None and spread is not None:
                axes.axhline(spread.mean, color=INK, linestyle=":", linewidth=1, label=cell.name)
        axes.set_xscale("log", base=2)
        if not METRICS[metric].by_difference:
            for scaled in (axes, *_twins(axes)):
                scaled.set_ylim(bottom=0)  # a small change shall look small
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=(spec.axis or "").rpartition(".")[2].replace("_", " "), ylabel=METRICS[metric].header)
    for axes in panels[len(spec.metrics) :]:
        axes.set_visible(False)
    handles, labels = drawing.axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


def _line(
    axes: Axes, record: StudyRecord, metric: MetricName, points: Sequence[tuple[float, CellPlan]], index: int
) -> None:
    colour, marker, method = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], points[0][1].method
    known = [(x, spread) for x, cell in points if (spread := spread_of(record.measurements(cell.name), metric))]
    if known:
        xs, spreads = zip(*known, strict=True)
        axes.errorbar(
            xs, [s.mean for s in spreads], yerr=[s.half or 0.0 for s in spreads], color=colour, marker=marker,
            markersize=5, linewidth=1.5, capsize=3, label=method,
        )  # fmt: skip
    scale = METRICS[metric].shown_per_unit
    published = [(x, cell.literature[metric] * scale) for x, cell in points if metric in cell.literature]
    if not published:
        return
    axes.plot([], [], color=colour, marker=marker, markerfacecolor="none", linestyle="--", linewidth=1,
              label=f"{method}, {record.reference}")  # fmt: skip
    # Seconds and bytes of other hardware would press ours flat: they have a scale of their own, at the right.
    place = axes if METRICS[metric].by_difference else _right_scale(axes, record.reference)
    place.plot(*zip(*published, strict=True), color=colour, marker=marker, markerfacecolor="none", linestyle="--",
               linewidth=1)  # fmt: skip


def _right_scale(axes: Axes, label: str) -> Axes:
    if twins := _twins(axes):
        return twins[0]
    twin = axes.twinx()
    twin.spines["right"].set_visible(True)
    twin.grid(visible=False)
    twin.set_ylabel(label)
    return twin


def _twins(axes: Axes) -> list[Axes]:
    return [other for other in axes.get_shared_x_axes().get_siblings(axes) if other is not axes]


def _svg(name: str, height_in: float, draw: Draw) -> str:
    with mpl.rc_context(STYLE):
        mpl.rcParams["svg.hashsalt"] = name  # ids that are the same each time
        drawing = Drawing(figsize=(_WIDTH_IN, height_in), dpi=72, layout="constrained", facecolor=_PAPER)
        draw(drawing)
        buffer = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(buffer, format="svg", metadata=nothing)
    return buffer.getvalue().replace(INK, _TEXT)


def _told(spec: FigureSpec, record: StudyRecord) -> str:
    """The figure's first metric in words."""
    metric = spec.metrics[0]
    told = [
        f"{cell.name} {spread_text(spread, METRICS[metric])}"
        for cell in record.cells
        if (spread := spread_of(record.measurements(cell.name), metric))
    ]
    return f"{METRICS[metric].header}: {'; '.join(told)}."
