"""How dynamic-rank training spread its ranks: its decisions in a table, and the ranks of each matrix by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycost.records import RankDecision, RankHistory, TuningRecord
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import number
from deploycost.units import bytes_text

SHOWN_DECISIONS = 6
# Importances run over many orders of magnitude: below this they are written with an exponent.
_LEAST_PLAIN = 1e-3
_COLUMNS = (
    Column("step"),
    Column("matrix", text=True),
    Column("importance", "import-\nance"),
    Column("rank before", "rank\nbefore"),
    Column("after"),
    Column("reason", text=True),
)


@dataclass(frozen=True)
class RankMap:
    """The rank of every matrix at the start and after each step that changed one; `ranks[matrix][step]`."""

    matrices: tuple[str, ...]
    steps: tuple[int, ...]
    ranks: tuple[tuple[int, ...], ...]


def decisions(tuning: TuningRecord, limit: int | None = SHOWN_DECISIONS) -> Grid:
    """The rank decisions of one method in their order: the `limit` that changed a rank most, or all for None."""
    if tuning.ranks is None:
        raise ValueError(f"{tuning.slug} has no ranks that were decided")
    return decisions_of(tuning.slug, tuning.ranks, limit, whole_in="report.html")


def decisions_of(name: str, history: RankHistory, limit: int | None, whole_in: str) -> Grid:
    """The decisions of what is called `name`, as `decisions` shows them; `whole_in` is the file that holds them all."""
    shown = _most_telling(history.decisions, limit)
    names = short_names([*history.final_ranks, *(each.layer for each in history.decisions)])
    rows = tuple(
        (
            str(each.step),
            names[each.layer],
            _importance(each.importance),
            str(each.rank_before),
            str(each.rank_after),
            each.reason,
        )
        for each in shown
    )
    notes = [_summary(history, names)]
    if hidden := len(history.decisions) - len(shown):
        told = "1 decision that changed less is" if hidden == 1 else f"{hidden} decisions that changed less are"
        notes.append(f"{told} not shown: {whole_in} holds them all.")
    title = f"Rank decisions of {name}" if rows else f"Rank decisions of {name}: none"
    return Grid(title, _COLUMNS, rows, tuple(notes))


def rank_map(history: RankHistory) -> RankMap:
    """The history as a map; a matrix without a decision keeps its final rank throughout. Step 0 is the start."""
    steps = (0, *sorted({each.step for each in history.decisions}))
    by_matrix: dict[str, dict[int, RankDecision]] = {name: {} for name in history.final_ranks}
    for each in history.decisions:
        by_matrix.setdefault(each.layer, {})[each.step] = each
    ranks = tuple(_ranks(made, steps, history.final_ranks.get(name, 0)) for name, made in by_matrix.items())
    names = short_names(list(by_matrix))
    return RankMap(tuple(names[name] for name in by_matrix), steps, ranks)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each dotted name with only the parts in which the names differ: `encoder.layer.0.self.query` is `0.query`."""
    known = list(dict.fromkeys(names))
    parts = [name.split(".") for name in known]
    if len({len(each) for each in parts}) != 1 or len(known) < 2:
        return {name: name for name in known}
    differing = [index for index, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return {name: ".".join(each[index] for index in differing) for name, each in zip(known, parts, strict=True)}


def _ranks(made: dict[int, RankDecision], steps: Sequence[int], final: int) -> tuple[int, ...]:
    rank = made[min(made)].rank_before if made else final
    ranks = []
    for step in steps:
        rank = made[step].rank_after if step in made else rank
        ranks.append(rank)
    return tuple(ranks)


def _most_telling(made: Sequence[RankDecision], limit: int | None) -> list[RankDecision]:
    # Of equal changes the later: those of the beginning are often taken back.
    ordered = sorted(made, key=lambda each: (-abs(each.rank_after - each.rank_before), -each.step))
    return sorted(ordered[:limit], key=lambda each: each.step)


def _importance(value: float) -> str:
    return number(value) if value >= _LEAST_PLAIN else f"{value:.2g}"


def _summary(history: RankHistory, names: dict[str, str]) -> str:
    budget = "" if history.memory_budget_bytes is None else f" within {bytes_text(history.memory_budget_bytes)}"
    total = f"Total rank {history.initial_total_rank} at the start, {history.final_total_rank} at the end{budget}"
    if not history.final_ranks:
        return f"{total}."
    ordered = sorted(history.final_ranks.items(), key=lambda item: -item[1])
    (most, high), (least, low) = ordered[0], ordered[-1]
    return f"{total}, over {len(ordered)} matrices: most for {names[most]} ({high}), least for {names[least]} ({low})."
