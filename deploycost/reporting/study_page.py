"""A study's page in Markdown, made from its record; what a person wrote below the marker stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploycost.reporting.grid import Grid
from deploycost.reporting.study_figures import StudyFigure, study_figures
from deploycost.reporting.study_tables import (
    decisions_grids,
    failures_grid,
    is_unknown,
    metrics_grid,
    operators_grid,
    scenarios_grid,
)
from deploycost.study_file import StudyFile, TableSpec
from deploycost.study_record import CellMeasurement, StudyRecord
from deploycost.units import bytes_text
from deploycost.workspace import write_text

BY_HAND = "<!-- by hand -->"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def grids_of(study: StudyFile, record: StudyRecord, metrics_at_once: int | None = None) -> list[Grid]:
    """Every table of a study in the order of its page; with `metrics_at_once`, wide ones in parts for a terminal."""
    tables = [grid for table in study.tables for grid in _parts(record, table, metrics_at_once or len(table.metrics))]
    optional = (scenarios_grid(record), operators_grid(record), failures_grid(record))
    return [*tables, *decisions_grids(record), *(grid for grid in optional if grid)]


def _parts(record: StudyRecord, table: TableSpec, size: int) -> list[Grid]:
    known = [metric for metric in table.metrics if not is_unknown(record, metric)]
    if size >= len(table.metrics) or not known:
        return [metrics_grid(record, table)]
    pieces = [known[start : start + size] for start in range(0, len(known), size)]
    grids = [metrics_grid(record, table.model_copy(update={"metrics": tuple(metrics)})) for metrics in pieces]
    notes = tuple(dict.fromkeys(note for grid in (*grids, metrics_grid(record, table)) for note in grid.notes))
    return [*(replace(grid, notes=()) for grid in grids[:-1]), replace(grids[-1], notes=notes)]


def write_page(study: StudyFile, record: StudyRecord, path: Path, figures_folder: Path) -> list[Path]:
    """Writes the page and its figures, each whole or not at all; returns their paths.

    Raises:
        OSError: a folder cannot be written.
    """
    drawn = study_figures(study, record)
    kept = _kept(path.read_text(encoding="utf-8")) if path.exists() else "\n"
    written = []
    for figure in drawn:
        write_text(figures_folder / f"{figure.name}.svg", figure.svg)
        written.append(figures_folder / f"{figure.name}.svg")
    page = study_markdown(study, record, drawn, figures_folder.name)
    write_text(path, f"{page}\n{BY_HAND}{kept}")
    return [*written, path]


def _kept(page: str) -> str:
    """What stays of a page: all that stands below the marker; of a page without it, which is not ours, the whole."""
    _, marker, below = page.partition(BY_HAND)
    return below if marker else f"\n\n{page}"


def study_markdown(study: StudyFile, record: StudyRecord, figures: list[StudyFigure], figures_folder: str) -> str:
    """The page down to the marker: what was asked, how it was measured, what came of it, and what to doubt."""
    findings = findings_of(record)
    parts = [
        f"# Study: {record.name}",
        record.question,
        "\n".join(f"- **{name}**: {told}" for name, told in facts_of(study, record)),
        "To repeat it:",
        f"```\n{record.command}\n```",
        *(_markdown(grid) for grid in grids_of(study, record)),
        *(["## Findings", _listed(findings)] if findings else []),
        *(["## Figures"] if figures else []),
        *(f"![{_attribute(figure.alt)}]({figures_folder}/{figure.name}.svg)\n\n*{figure.title}*" for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def facts_of(study: StudyFile, record: StudyRecord) -> list[tuple[str, str]]:
    """What a reader must know before the tables: size, machine, basis of the figures, and what to doubt."""
    measured = [m for cell in record.cells for m in record.measurements(cell.name).values()]
    facts = [
        ("Size", _size(record)),
        ("Machine", _machines(record, measured)),
        ("Date", f"{_dates(sorted(m.finished_at[:10] for m in measured))}; page of {record.made_at[:10]}"),
        ("Basis", _basis(record)),
    ]
    if study.setting:
        facts.append((f"The {record.reference}'s setting", study.setting))
    if record.scaled_down:
        facts.append((f"Unlike the {record.reference}'s", f"{'; '.join(record.scaled_down)}"))
    if record.dataset_generated:
        facts.append(("Generated data", "accuracies say nothing about any real task"))
    if len({m.machine_name for m in measured}) > 1:
        facts.append(("Beware", "cells were trained on different machines or cores: their times cannot be compared"))
    return [*facts, *(("Note", note) for note in study.notes)]


def findings_of(record: StudyRecord) -> list[tuple[str, str]]:
    """Each verdict with the claim, or the choice for a scenario, and the figures that it follows from."""
    claims = [
        (each.verdict, f"{each.claim}. Because {each.reason}. Source: {each.source}.") for each in record.findings
    ]
    chosen = [
        (
            each.verdict,
            f"For {each.scenario} the {record.reference} takes {each.theirs or 'nothing'} ({each.factor}), the "
            f"measurements speak for {each.cell or 'none'}. Because {each.reason}.",
        )
        for each in record.choices
    ]
    return [*claims, *chosen]


def _size(record: StudyRecord) -> str:
    several = len(record.seeds) > 1
    drawn = f" ({_draws(record)})" if several else ""
    return (
        f"`{record.size}`: {record.base_model} on {record.dataset}, {record.train_rows:,} training and "
        f"{record.test_rows:,} test rows, {record.epochs} epoch{'s' if record.epochs > 1 else ''}, "
        f"seed{'s' if several else ''} {', '.join(map(str, record.seeds))}{drawn}; {record.dataset_description}"
    )


def _draws(record: StudyRecord) -> str:
    """Which rows the seeds share: intervals over seeds tell nothing of rows that never changed."""
    own = [name for name, same in (("training", record.same_train_rows), ("test", record.same_test_rows)) if not same]
    shared = [name for name in ("training", "test") if name not in own]
    told = [f"each draws its own {' and '.join(own)} rows"] if own else []
    told += [f"the {' and '.join(shared)} rows are the same for every seed"] if shared else []
    return "; ".join(told) + (", so that intervals tell nothing of other test rows" if "test" in shared else "")


def _machines(record: StudyRecord, measured: Sequence[CellMeasurement]) -> str:
    facts = {m.machine.model_dump_json(exclude={"cpu_cores"}): m.machine for m in measured} or {"": record.machine}
    told = "; ".join(
        f"{each.gpu_model or f'{each.cpu_model}, no GPU'}, {bytes_text(each.memory_bytes)} of memory"
        for each in facts.values()
    )
    cores = sorted({m.machine.cpu_cores for m in measured}) or [record.cores_per_cell]
    side_by_side = max(1, record.machine.cpu_cores // record.cores_per_cell)
    beside = f", {side_by_side} at once, so that each met the others' load" if side_by_side > 1 else ", one at a time"
    there = f"{record.machine.cpu_cores} core{'s' if record.machine.cpu_cores > 1 else ''}"
    return (
        f"{told}; {there}; cells trained on {' or '.join(map(str, cores))} "
        f"core{'' if cores == [1] else 's'} each{beside}"
    )


def _basis(record: StudyRecord) -> str:
    return (
        "every figure of ours is measured, save predicted memory, which is projected, and prices, which are assumed "
        f"from a load test on this machine. Those of the {record.reference} are as printed: {record.source}"
    )


def _dates(dates: list[str]) -> str:
    if not dates:
        return "nothing was measured"
    return f"measured on {dates[0]}" if dates[0] == dates[-1] else f"measured from {dates[0]} to {dates[-1]}"


def _listed(findings: list[tuple[str, str]]) -> str:
    rule = (
        "A claim agrees or disagrees where the 95 % interval of the paired difference over seeds lies wholly on one "
        "side (of load-tested figures, where the tests' own intervals do); else it cannot be told from these runs. "
        f"Nothing is corrected for the number of claims: of {len(findings)}, one in twenty may be decided by chance."
    )
    lines = [f"{place}. **{verdict.capitalize()}**: {told}" for place, (verdict, told) in enumerate(findings, start=1)]
    return "\n".join([rule, "", *lines])


def _markdown(grid: Grid) -> str:
    lines = [f"## {_plain(grid.title)}", ""]
    lines.append(f"| {' | '.join(_plain(column.header) for column in grid.columns)} |")
    lines.append(f"| {' | '.join('---' if column.text else '---:' for column in grid.columns)} |")
    lines += [f"| {' | '.join(map(_plain, row))} |" for row in grid.rows]
    lines += ["", *(f"- {_plain(note)}" for note in grid.notes)] if grid.notes else []
    return "\n".join(lines)


def _plain(text: str) -> str:
    """The text on one line with nothing in it taken for markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _attribute(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
