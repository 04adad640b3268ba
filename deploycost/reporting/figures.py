"""The figures of a report, as SVG that follows the page's light or dark ink; the only module that draws.

Nothing depends on colour alone: methods and artifacts differ by marker or label too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from deploycost.records import LoadRecord, Quote, TuningRecord
from deploycost.reporting.content import (
    ReportContent,
    cheapest_quotes,
    loads_by_capacity,
    peak_training_bytes,
)
from deploycost.reporting.figure_style import INK, MARKERS, PALETTE, STYLE
from deploycost.reporting.heat_map import draw_heat_map
from deploycost.reporting.placement import pareto_front, spread
from deploycost.reporting.rank_grids import rank_map
from deploycost.reporting.svg import inline_svg
from deploycost.reporting.wording import number
from deploycost.units import MIB, bytes_text, percent, seconds_text, usd

_WIDTH_IN = 7.2
_CURVES_SHOWN = 6
_POINTS_NAMED = 20
_BARS_SHOWN = 20
_LOG_FROM_RATIO = 6


@dataclass(frozen=True)
class Picture:
    """One figure: `svg` without XML prologue, `caption` for everybody, `alt` for those who cannot see it."""

    name: str
    svg: str
    caption: str
    alt: str


def pictures(content: ReportContent) -> tuple[Picture, ...]:
    """Every figure that the records at hand allow, in the order of the page; the same records give the same bytes."""
    loads = loads_by_capacity(content)
    models = content.tunings
    drawn = (
        _draw_cost(cheapest_quotes(content), [model.slug for model in models]),
        _draw_latency(loads[:_CURVES_SHOWN], hidden=len(loads) - _CURVES_SHOWN),
        _draw_memory(loads[:_BARS_SHOWN], models),
        _draw_epochs([model for model in models if model.epochs]),
        _draw_training_time(models),
        *(_draw_ranks(model) for model in models),
    )
    return tuple(picture for picture in drawn if picture)


def _draw_cost(quotes: Sequence[Quote], models: Sequence[str]) -> Picture | None:
    points = [_point(quote) for quote in quotes]
    if not points:
        return None
    front = pareto_front(points)

    def draw(drawing: Drawing) -> None:
        axes = drawing.subplots()
        slugs = _distinct([*models, *(_slug(quote) for quote in quotes)])
        artifacts = _distinct(_artifact(quote) for quote in quotes)
        for quote, (x, y) in zip(quotes, points, strict=True):
            colour = _colour(slugs.index(_slug(quote)))
            price = quote.usd_per_million.planned
            if price.low is not None and price.high is not None:
                axes.plot([price.low, price.high], [y, y], color=colour, linewidth=1.2, marker="|", markersize=5)
            marker = MARKERS[artifacts.index(_artifact(quote)) % len(MARKERS)]
            fill = colour if price.basis == "measured" else "none"
            axes.plot(x, y, marker, color=colour, markerfacecolor=fill, markersize=6.5, markeredgewidth=1.5, zorder=3)
        axes.plot(*zip(*(points[i] for i in front), strict=True), color=INK, linewidth=0.9, linestyle=":", zorder=1)
        axes.set(xlabel="planned cost, USD per million predictions", ylabel="accuracy on the test split, %")
        axes.margins(x=0.06, y=0.15)
        _dollars(axes, [value for quote in quotes for value in _ends(quote)])
        _cost_legend(drawing, artifacts, quotes)
        named = [*front, *(i for i in range(len(points)) if i not in front)][:_POINTS_NAMED]
        colours = [_colour(slugs.index(_slug(quotes[i]))) for i in named]
        _label_points(drawing, axes, [quotes[i] for i in named], colours)

    best = ", ".join(f"{quotes[i].variant} ({usd(points[i][0])}, {points[i][1]:.1f} %)" for i in front)
    return Picture(
        "cost",
        _svg("cost", 4.4, draw),
        "Planned cost against accuracy: each variant on its cheapest machine, whiskers from the interval of its price. "
        "The dotted line joins those that no other beats in both.",
        f"Scatter plot of {len(points)} variants. Not beaten in both cost and accuracy: {best}.",
    )


def _draw_latency(loads: Sequence[LoadRecord], hidden: int) -> Picture | None:
    loads = [load for load in loads if load.curve]
    if not loads:
        return None

    def draw(drawing: Drawing) -> None:
        across = min(2, len(loads))
        grid = drawing.subplots(-(-len(loads) // across), across, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, load in zip(grid, loads, strict=False):
            _curve(axes, load)
        for axes in grid[len(loads) :]:
            axes.set_visible(False)
        drawing.supxlabel("arrival rate, requests per second", fontsize=9)
        drawing.supylabel("latency, ms", fontsize=9)
        handles = [
            Line2D([], [], color=PALETTE[0], marker="o", markersize=4, label="p50"),
            Line2D([], [], color=PALETTE[1], marker="s", markersize=4, label="p95"),
            Line2D([], [], color=INK, linestyle="--", linewidth=1, label="SLO on p95"),
            Patch(color=PALETTE[2], alpha=0.3, label="capacity, interval"),
        ]
        drawing.legend(handles=handles, loc="outside upper center", ncols=4)

    told = "; ".join(f"{load.variant} {number(load.capacity_rps.value)} requests per second" for load in loads)
    more = f" {hidden} more variants are in the tables." if hidden > 0 else ""
    return Picture(
        "latency",
        _svg("latency", 0.9 + 1.9 * -(-len(loads) // 2), draw),
        f"Latency against arrival rate (open loop, from the moment a request was due); logarithmic.{more}",
        f"Latency curves. Capacity within the SLO: {told}.",
    )


def _draw_memory(loads: Sequence[LoadRecord], models: Sequence[TuningRecord]) -> Picture | None:
    if not models:
        return None
    loads = [load for load in loads if load.memory_bytes]

    def draw(drawing: Drawing) -> None:
        rows = [len(loads), len(models)] if loads else [len(models)]
        axes = drawing.subplots(len(rows), 1, height_ratios=[count + 1.5 for count in rows], squeeze=False).flat
        if loads:
            _server_memory(axes[0], loads)
        peaks = [peak_training_bytes(model) for model in models]
        unit = "GPU memory" if any(model.peak_gpu_memory_bytes is not None for model in models) else "process memory"
        _bars(axes[-1], [m.slug for m in models], [p / MIB for p in peaks], [bytes_text(p) for p in peaks])
        axes[-1].set(xlabel=f"peak {unit} while training, MiB")

    served = "; ".join(f"{load.variant} {bytes_text(load.memory_bytes.peak)}" for load in loads if load.memory_bytes)
    trained = "; ".join(f"{model.slug} {bytes_text(peak_training_bytes(model))}" for model in models)
    return Picture(
        "memory",
        _svg("memory", 1.5 + 0.3 * (len(loads) + len(models)), draw),
        "Memory while serving (idle, at capacity, peak; proportional set size of the server's processes) and training.",
        f"Bar charts of memory. Peak while serving: {served or 'not measured'}. Peak while training: {trained}.",
    )


def _draw_epochs(models: Sequence[TuningRecord]) -> Picture | None:
    if not models:
        return None

    def draw(drawing: Drawing) -> None:
        axes = drawing.subplots()
        for index, model in enumerate(models):
            xs = [epoch.epoch for epoch in model.epochs]
            ys = [100 * epoch.scores.accuracy for epoch in model.epochs]
            axes.plot(xs, ys, color=_colour(index), marker=MARKERS[index % len(MARKERS)], markersize=5, linewidth=1.5)
        axes.set(xlabel="epoch", ylabel="accuracy on the test split, %")
        first, last = axes.dataLim.intervalx
        axes.set_xticks([tick for tick in MaxNLocator(integer=True).tick_values(first, last) if first <= tick <= last])
        _label_ends(drawing, axes, models)

    told = "; ".join(f"{model.slug} {percent(model.epochs[-1].scores.accuracy)}" for model in models)
    caption = "Accuracy after each epoch of training."
    return Picture("epochs", _svg("epochs", 3.4, draw), caption, f"Line chart. After the last epoch: {told}.")


def _draw_training_time(models: Sequence[TuningRecord]) -> Picture | None:
    if not models:
        return None
    in_minutes = max(model.training_s for model in models) >= 120
    scale, unit = (60, "min") if in_minutes else (1, "s")

    def draw(drawing: Drawing) -> None:
        axes = drawing.subplots()
        labels = [seconds_text(model.training_s) for model in models]
        _bars(axes, [model.slug for model in models], [model.training_s / scale for model in models], labels)
        axes.set(xlabel=f"training time, {unit}")

    told = "; ".join(f"{model.slug} {seconds_text(model.training_s)}" for model in models)
    caption = "Training time by method, on the machine named below."
    return Picture("training", _svg("training", 0.9 + 0.3 * len(models), draw), caption, f"Bar chart: {told}.")


def _draw_ranks(model: TuningRecord) -> Picture | None:
    if model.ranks is None or not model.ranks.decisions:
        return None
    ranks = rank_map(model.ranks)
    name = f"ranks-{model.slug}"
    ends = "; ".join(f"{name} {row[0]} to {row[-1]}" for name, row in zip(ranks.matrices, ranks.ranks, strict=True))
    return Picture(
        name,
        _svg(name, 1.4 + 0.22 * len(ranks.matrices), lambda drawing: draw_heat_map(drawing, ranks)),
        f"Ranks of {model.slug} by matrix and training step, at each step that changed one.",
        f"Heat map. Rank of each matrix at the start and at the end: {ends}.",
    )


def _svg(name: str, height_in: float, draw: Callable[[Drawing], None]) -> str:
    # The salt makes ids repeatable; the name in front keeps those of two figures on one page apart.
    with mpl.rc_context(STYLE):
        mpl.rcParams["svg.hashsalt"] = name
        drawing = Drawing(figsize=(_WIDTH_IN, height_in), dpi=72, layout="constrained", facecolor="none")
        draw(drawing)
        for axes in drawing.axes:
            axes.set_facecolor("none")
        buffer = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return inline_svg(buffer.getvalue(), name, INK)


def _curve(axes: Axes, load: LoadRecord) -> None:
    points = sorted(load.curve, key=lambda point: point.rate_rps)
    for percentile, colour, marker in (("p50_ms", PALETTE[0], "o"), ("p95_ms", PALETTE[1], "s")):
        known = [(p.rate_rps, ms) for p in points if (ms := getattr(p, percentile)) is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=3.5, linewidth=1.3)
    capacity = load.capacity_rps
    if capacity.low is not None and capacity.high is not None:
        axes.axvspan(capacity.low, capacity.high, color=PALETTE[2], alpha=0.25, linewidth=0)
    if capacity.value is not None:
        axes.axvline(capacity.value, color=PALETTE[2], linewidth=1)
    axes.axhline(load.slo.p95_ms, color=INK, linewidth=1, linestyle="--")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left=0)
    axes.set_title(load.variant + ("" if load.certificate.certified else " (not certified)"), loc="left")


def _server_memory(axes: Axes, loads: Sequence[LoadRecord]) -> None:
    rows = range(len(loads))
    uses = [load.memory_bytes for load in loads if load.memory_bytes]
    axes.barh(rows, [use.peak / MIB for use in uses], 0.72, color=PALETTE[5], alpha=0.6, label="peak")
    axes.barh(rows, [use.at_capacity / MIB for use in uses], 0.46, color=PALETTE[0], label="at capacity")
    axes.barh(rows, [use.idle / MIB for use in uses], 0.16, color=PALETTE[4], label="idle")
    for row, use in zip(rows, uses, strict=True):
        told = " / ".join(number(part / MIB) for part in (use.idle, use.at_capacity, use.peak))
        axes.annotate(told, (use.peak / MIB, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, [load.variant for load in loads])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="server memory, MiB: idle / at capacity / peak")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], labels: Sequence[str]) -> None:
    bars = axes.barh(range(len(names)), values, 0.6, color=PALETTE[0])
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.grid(visible=False, axis="y")


def _cost_legend(drawing: Drawing, artifacts: Sequence[str], quotes: Sequence[Quote]) -> None:
    handles = [
        Line2D([], [], color=INK, marker=MARKERS[index % len(MARKERS)], linestyle="none", label=artifact)
        for index, artifact in enumerate(artifacts)
    ]
    handles.append(Line2D([], [], color=INK, linestyle=":", label="not beaten in both"))
    if any(quote.usd_per_million.planned.basis != "measured" for quote in quotes):
        hollow = Line2D([], [], color=INK, marker="o", markerfacecolor="none", linestyle="none")
        hollow.set_label("hollow: projected or assumed")
        handles.append(hollow)
    drawing.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))


def _label_points(drawing: Drawing, axes: Axes, quotes: Sequence[Quote], colours: Sequence[str]) -> None:
    """Names each point in the margin, at its own height where there is room, with a line from its whisker."""
    drawing.draw_without_rendering()
    heights = [_spot(axes, *_point(quote))[1] for quote in quotes]
    for quote, colour, before, after in zip(quotes, colours, heights, spread(heights, gap=11), strict=True):
        axes.annotate(
            quote.variant, (max(_ends(quote)), _point(quote)[1]), xytext=(1.04, after - before), va="center",
            textcoords=("axes fraction", "offset points"), fontsize=8, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip


def _label_ends(drawing: Drawing, axes: Axes, models: Sequence[TuningRecord]) -> None:
    axes.set_xlim(right=axes.get_xlim()[1] + 0.28 * (axes.get_xlim()[1] - axes.get_xlim()[0]))
    drawing.draw_without_rendering()
    ends = [(model.epochs[-1].epoch, 100 * model.epochs[-1].scores.accuracy) for model in models]
    heights = [_spot(axes, *end)[1] for end in ends]
    for index, (model, end) in enumerate(zip(models, ends, strict=True)):
        lift = spread(heights, gap=11)[index] - heights[index]
        axes.annotate(
            model.slug, end, xytext=(16, lift), textcoords="offset points", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": _colour(index), "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip


def _dollars(axes: Axes, prices: Sequence[float]) -> None:
    if min(prices) > 0 and max(prices) / min(prices) >= _LOG_FROM_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${number(value)}"))


def _ends(quote: Quote) -> list[float]:
    price = quote.usd_per_million.planned
    return [end for end in (price.low, price.value, price.high) if end is not None]


def _point(quote: Quote) -> tuple[float, float]:
    return quote.usd_per_million.planned.value or 0.0, 100 * (quote.accuracy.value or 0.0)


def _spot(axes: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _slug(quote: Quote) -> str:
    return quote.variant.partition(".")[0]


def _artifact(quote: Quote) -> str:
    return quote.variant.partition(".")[2]


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]
