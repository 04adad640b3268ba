"""The heat map of ranks: a matrix of the encoder in each row, a step that changed ranks in each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycost.reporting.figure_style import INK
from deploycost.reporting.rank_grids import RankMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# More columns than this cannot be told apart on a page: then every so many steps are shown, and always the last.
_COLUMNS_SHOWN = 48
# With so few columns there is room to write each rank into its cell.
_COLUMNS_NUMBERED = 16
_STEPS_NAMED = 12
# Above this share of the highest rank a cell is dark enough for white figures.
_DARK_FROM_SHARE = 0.55


def thinned(shown: RankMap, columns: int = _COLUMNS_SHOWN) -> RankMap:
    """The map with at most so many steps, evenly drawn, the first and the last among them."""
    count = len(shown.steps)
    if count <= columns:
        return shown
    kept = [round(index * (count - 1) / (columns - 1)) for index in range(columns)]
    return RankMap(
        shown.matrices,
        tuple(shown.steps[index] for index in kept),
        tuple(tuple(ranks[index] for index in kept) for ranks in shown.ranks),
    )


def draw_heat_map(drawing: Drawing, ranks: RankMap) -> None:
    """Draws the map as vector cells, dark for a high rank; each matrix's last rank is also told in figures."""
    shown = thinned(ranks)
    axes = drawing.subplots()
    highest = max((rank for row in shown.ranks for rank in row), default=1)
    mesh = axes.pcolormesh(shown.ranks, cmap="cividis_r", vmin=0, vmax=max(1, highest), linewidth=0)
    columns = len(shown.steps)
    if columns <= _COLUMNS_NUMBERED:
        _number_cells(axes, shown, highest)
    else:
        _number_ends(axes, shown)
    named = range(0, columns, -(-columns // _STEPS_NAMED))
    axes.set_xticks([column + 0.5 for column in named], [str(shown.steps[column]) for column in named])
    axes.set_yticks([row + 0.5 for row in range(len(shown.matrices))], list(shown.matrices))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel="training step (0 is the start)", ylabel="matrix")
    bar = drawing.colorbar(mesh, ax=axes, label="rank", pad=0.08)
    bar.outline.set_edgecolor(INK)  # pyright: ignore[reportCallIssue] - a spine, which the stubs call a callable
    if bar.solids is not None:
        bar.solids.set_rasterized(rasterized=False)  # a page of vectors alone loads nothing


def _number_cells(axes: Axes, shown: RankMap, highest: int) -> None:
    for row, values in enumerate(shown.ranks):
        for column, rank in enumerate(values):
            colour = "white" if rank > _DARK_FROM_SHARE * highest else "black"
            axes.annotate(str(rank), (column + 0.5, row + 0.5), ha="center", va="center", fontsize=8, color=colour)


def _number_ends(axes: Axes, shown: RankMap) -> None:
    for row, values in enumerate(shown.ranks):
        axes.annotate(
            str(values[-1]), (len(values), row + 0.5), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=8, annotation_clip=False,
        )  # fmt: skip
