"""Tables in the terminal: they fit its width without breaking a figure, and need no colour to be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploycost.records import LoadRecord, ProfileRecord, SoakRecord, TuningRecord, Variant
from deploycost.reporting import (
    artifact_grids,
    brought_grids,
    evidence_grids,
    grids,
    hour_grids,
    load_grids,
    method_grids,
    profile_grids,
    rank_grids,
    training_grids,
)
from deploycost.reporting.answer import Answer, answer, method_answer
from deploycost.reporting.content import tunings
from deploycost.reporting.grid import Grid
from deploycost.verdicts import ArtifactFacts, Crossover, MethodAdvice, MethodFacts, QuoteSheet, Recommendation, Return

DEFAULT_WIDTH = 80
_GAP = 2
_LEAST_TEXT_WIDTH = 8
_AFTER_PUNCTUATION = re.compile(r"(?<=[.,:/_-])")


@dataclass(frozen=True)
class _Drawn:
    """A column as it is set: lines of its header and of each cell."""

    header: list[str]
    cells: list[list[str]]
    text: bool

    @property
    def width(self) -> int:
        return max((cell_len(line) for lines in (self.header, *self.cells) for line in lines), default=0)


def methods_table(variants: tuple[Variant, ...], sheet: QuoteSheet | None, width: int = DEFAULT_WIDTH) -> Table:
    """Each method in the literature's columns, with the literature's figures under it."""
    return draw(grids.methods(variants, sheet), width)


def model_tables(variants: tuple[Variant, ...], sheet: QuoteSheet | None, width: int = DEFAULT_WIDTH) -> list[Table]:
    """Each method in the literature's columns where there are any, and the models that were brought."""
    drawn = [methods_table(variants, sheet, width)] if tunings(variants) else []
    brought = brought_grids.models(variants)
    return [*drawn, *([draw(brought, width)] if brought else [])]


def score_tables(variants: Sequence[Variant], width: int = DEFAULT_WIDTH) -> list[Table]:
    """How right artifacts are that answer with several labels, or with numbers."""
    return [draw(grid, width) for grid in brought_grids.scores(variants)]


def method_facts_table(facts: Sequence[MethodFacts], model: str, device: str, width: int = DEFAULT_WIDTH) -> Table:
    """What every method trains, its flags, and what it takes to train and to serve."""
    return draw(method_grids.facts(facts, model, device), width)


def outlooks_table(advice: MethodAdvice, width: int = DEFAULT_WIDTH) -> Table:
    """What is known of every method under a memory budget."""
    return draw(method_grids.outlooks(advice), width)


def advice_panel(advice: MethodAdvice, command: str) -> Panel:
    """The method that was chosen in a few lines, with the command that trains by it, or why there is none."""
    return _panel(method_answer(advice, command))


def training_tables(
    trained: Sequence[TuningRecord], profiles: Sequence[ProfileRecord] = (), width: int = DEFAULT_WIDTH
) -> list[Table]:
    """What training took, the most telling rank decisions where ranks were decided, and profiles where there are."""
    drawn = [training_grids.training(trained)] if trained else []
    drawn += [rank_grids.decisions(tuning) for tuning in trained if tuning.ranks is not None]
    drawn += profile_grids.tables(profiles)
    return [draw(grid, width) for grid in drawn]


def artifacts_table(variants: Sequence[Variant], width: int = DEFAULT_WIDTH) -> Table:
    """Each artifact: accuracy, parity, size, capacity, latency, memory, certificate."""
    return draw(grids.artifacts(variants), width)


def artifact_facts_table(facts: Sequence[ArtifactFacts], width: int = DEFAULT_WIDTH) -> Table:
    """Every artifact there is, what it takes, and whether this machine can build and serve it."""
    return draw(artifact_grids.facts(facts), width)


def fidelity_table(variants: Sequence[Variant], width: int = DEFAULT_WIDTH) -> Table:
    """What serving a model as each artifact did to its answers."""
    return draw(artifact_grids.fidelity(variants), width)


def load_curve_table(load: LoadRecord, width: int = DEFAULT_WIDTH) -> Table:
    """Every probe of one load test, by rate."""
    return draw(grids.load_curve(load), width)


def settings_table(load: LoadRecord, width: int = DEFAULT_WIDTH) -> Table:
    """Server settings that one load test tried."""
    return draw(load_grids.settings(load), width)


def soak_table(records: Sequence[SoakRecord], width: int = DEFAULT_WIDTH) -> Table:
    """What came of rates that were held."""
    return draw(load_grids.soaks(records), width)


def quotes_table(sheet: QuoteSheet, width: int = DEFAULT_WIDTH, limit: int | None = grids.SHOWN_QUOTES) -> Table:
    """The first `limit` quotes of a sheet, or all of them for None, with a note of how many are hidden."""
    return draw(grids.quotes(sheet, limit), width)


def hours_table(sheet: QuoteSheet, width: int = DEFAULT_WIDTH) -> Table:
    """How many machines of the first row each hour of the week has."""
    return draw(hour_grids.hours(sheet), width)


def crossover_table(crossings: Sequence[Crossover], width: int = DEFAULT_WIDTH) -> Table:
    """From which volume one row is cheaper than another."""
    return draw(hour_grids.crossings(crossings), width)


def returns_table(answers: Sequence[Return], width: int = DEFAULT_WIDTH) -> Table:
    """What the choice returns against each alternative."""
    return draw(evidence_grids.returns(answers), width)


def answer_panel(recommendation: Recommendation | None, no_recommendation_reason: str = "") -> Panel:
    """The recommendation in a few lines, or the reason why there is none."""
    return _panel(answer(recommendation, no_recommendation_reason))


def _panel(told: Answer) -> Panel:
    text = Text(told.headline, style="bold")
    for line in filter(None, (told.price, *(f"{label}: {value}" for label, value in told.facts))):
        text.append(f"\n{line}", style="not bold")
    for line in (told.reason, *told.cautions):
        text.append(f"\n\n{line}", style="not bold")
    return Panel(text, title="Answer", title_align="left")


def render(table: RenderableType, width: int = DEFAULT_WIDTH) -> str:
    """What a terminal of that width shows, without colour."""
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def draw(grid: Grid, width: int = DEFAULT_WIDTH) -> Table:
    """The grid as a Rich table that fits `width`: all columns side by side, or else stacked, long names folded."""
    columns = _side_by_side(grid)
    if _total(columns) > width:
        columns = _folded(_stacked(grid), width)
    table = Table(
        title=Text(grid.title, style="bold"),
        title_justify="left",
        caption=Text("\n".join(grid.notes)) if grid.notes else None,
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    for index, column in enumerate(columns):
        # The box sets one space between columns; the rest of the gap goes before the text of all but the first.
        gap = " " * (_GAP - 1) if index else ""
        justify = "left" if column.text else "right"
        table.add_column(_cell(column.header, gap), justify=justify, no_wrap=True, min_width=column.width + len(gap))
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(_cell(lines, " " * (_GAP - 1) if index else "") for index, lines in enumerate(cells)))
    return table


def _cell(lines: list[str], gap: str) -> Text:
    # Text, not str: what users named things is not markup.
    return Text("\n".join(gap + line for line in lines))


def _side_by_side(grid: Grid) -> list[_Drawn]:
    return [
        _Drawn([column.header], [[row[index]] for row in grid.rows], column.text)
        for index, column in enumerate(grid.columns)
    ]


def _stacked(grid: Grid) -> list[_Drawn]:
    return [_stack(grid, group) for group in grid.groups(keep_wide=False)]


def _stack(grid: Grid, group: tuple[int, ...]) -> _Drawn:
    text = grid.columns[group[0]].text
    # What stands under a name is set in, so that the eye finds where the next row begins.
    indent = ["", *["  " if text and len(group) > 1 else ""] * (len(group) - 1)]
    header = [
        indent[place] + line
        for place, index in enumerate(group)
        for line in grid.columns[index].narrow_header.splitlines()
    ]
    cells = [[indent[place] + row[index] for place, index in enumerate(group)] for row in grid.rows]
    return _Drawn(header, cells, text)


def _folded(columns: list[_Drawn], width: int) -> list[_Drawn]:
    """The widest text columns folded until the table fits, or until folding no longer helps."""
    while (excess := _total(columns) - width) > 0:
        by_width = sorted((column for column in columns if column.text), key=lambda column: -column.width)
        if not by_width or by_width[0].width <= _LEAST_TEXT_WIDTH:
            break
        # Never below the next widest at once, so that the loss is shared.
        next_widest = by_width[1].width if len(by_width) > 1 else 0
        room = max(_LEAST_TEXT_WIDTH, by_width[0].width - excess, next_widest - 1)
        columns[columns.index(by_width[0])] = _fold_column(by_width[0], room)
    return columns


def _fold_column(column: _Drawn, room: int) -> _Drawn:
    header = [part for line in column.header for part in _fold(line, room)]
    cells = [[part for line in lines for part in _fold(line, room)] for lines in column.cells]
    return _Drawn(header, cells, column.text)


def _fold(line: str, room: int) -> list[str]:
    """The line in parts of at most `room` cells: between words, else after punctuation, else anywhere."""
    body = line.lstrip(" ")
    indent = line[: len(line) - len(body)]
    room -= len(indent)
    parts = [""]
    for word in body.split(" "):
        joined = f"{parts[-1]} {word}" if parts[-1] else word
        if cell_len(joined) <= room:
            parts[-1] = joined
        else:
            parts += _fold_word(word, room)
    return [indent + part for part in parts if part] or [line]


def _fold_word(word: str, room: int) -> list[str]:
    parts = [""]
    for piece in _AFTER_PUNCTUATION.split(word) if cell_len(word) > room else [word]:
        if cell_len(parts[-1] + piece) <= room:
            parts[-1] += piece
        else:
            parts += chop_cells(piece, room)
    return parts


def _total(columns: list[_Drawn]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)
