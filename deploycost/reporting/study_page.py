"""A study's page in Markdown, made from its record; what a person wrote below the marker stays."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from deploycost.reporting.grid import Grid
from deploycost.reporting.study_figures import StudyFigure, study_figures
from deploycost.reporting.study_tables import (
    decisions_grids,
    failures_grid,
    findings_grid,
    metrics_grid,
    operators_grid,
    scenarios_grid,
)
from deploycost.study_file import StudyFile, TableSpec
from deploycost.study_record import Finding, StudyRecord
from deploycost.units import bytes_text
from deploycost.workspace import write_text

BY_HAND = "<!-- by hand -->"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def grids_of(study: StudyFile, record: StudyRecord, metrics_at_once: int | None = None) -> list[Grid]:
    """Every table of a study in the order of its page; with `metrics_at_once`, wide ones in parts for a terminal."""
    tables = [grid for table in study.tables for grid in _parts(record, table, metrics_at_once or len(table.metrics))]
    found = [findings_grid(record.findings)] if record.findings else []
    optional = (scenarios_grid(study, record), operators_grid(record), failures_grid(record))
    return [*tables, *found, *decisions_grids(record), *(grid for grid in optional if grid)]


def _parts(record: StudyRecord, table: TableSpec, size: int) -> list[Grid]:
    pieces = [table.metrics[start : start + size] for start in range(0, len(table.metrics), size)]
    grids = [metrics_grid(record, table.model_copy(update={"metrics": metrics})) for metrics in pieces]
    notes = tuple(dict.fromkeys(note for grid in grids for note in grid.notes))
    return [*(replace(grid, notes=()) for grid in grids[:-1]), replace(grids[-1], notes=notes)]


def write_page(study: StudyFile, record: StudyRecord, path: Path, figures_folder: Path) -> list[Path]:
    """Writes the page and its figures, each whole or not at all; returns their paths.

    Raises:
        OSError: a folder cannot be written.
    """
    drawn = study_figures(study, record)
    kept = path.read_text(encoding="utf-8").partition(BY_HAND)[2] if path.exists() else "\n"
    written = []
    for figure in drawn:
        write_text(figures_folder / f"{figure.name}.svg", figure.svg)
        written.append(figures_folder / f"{figure.name}.svg")
    page = study_markdown(study, record, drawn, figures_folder.name)
    write_text(path, f"{page}\n{BY_HAND}{kept}")
    return [*written, path]


def study_markdown(study: StudyFile, record: StudyRecord, figures: list[StudyFigure], figures_folder: str) -> str:
    """The page down to the marker: what was asked, how it was measured, what came of it, and what to doubt."""
    parts = [
        f"# Study: {record.name}",
        record.question,
        *_setting(study, record),
        *(_markdown(grid) for grid in grids_of(study, record)),
        *(["## Findings", _findings(record)] if record.findings else []),
        *(["## Figures"] if figures else []),
        *(f"![{_attribute(figure.alt)}]({figures_folder}/{figure.name}.svg)\n\n*{figure.title}*" for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def _setting(study: StudyFile, record: StudyRecord) -> list[str]:
    machine = record.machine
    device = machine.gpu_model or f"{machine.cpu_model}, no GPU"
    cores = sorted({m.cores for cell in record.cells for m in record.measurements(cell.name).values()})
    dates = sorted(m.finished_at[:10] for cell in record.cells for m in record.measurements(cell.name).values())
    facts = [
        f"**Size** `{record.size}`: {record.base_model} on {record.dataset}, {record.train_rows:,} training and "
        f"{record.test_rows:,} test rows, {record.epochs} epochs, seeds {', '.join(map(str, record.seeds))} "
        "(each draws its own rows).",
        f"**Machine**: {device}; {machine.cpu_cores} cores, {bytes_text(machine.memory_bytes)} of memory; cells "
        f"trained on {' or '.join(map(str, cores)) or '?'} core(s) each.",
        f"**Date**: {_dates(dates)}; page of {record.made_at[:10]}.",
        "**Basis**: every figure of ours is measured, save predicted memory, which is projected, and prices, which are "
        f"assumed from a load test on this machine. The literature's are as printed: {record.source}.",
    ]
    if study.setting:
        facts.append(f"**The literature's setting**: {study.setting}")
    if record.scaled_down:
        facts.append(f"**Smaller than the literature's**: {'; '.join(record.scaled_down)}.")
    if record.dataset_generated:
        facts.append("**Generated data**: accuracies say nothing about any real task.")
    if len(cores) > 1:
        facts.append("**Beware**: cells were trained on different numbers of cores; their times cannot be compared.")
    facts += [f"**Note**: {note}" for note in study.notes]
    return ["\n".join(f"- {fact}" for fact in facts), "To repeat it:", f"```\n{record.command}\n```"]


def _dates(dates: list[str]) -> str:
    if not dates:
        return "nothing was measured"
    return f"measured on {dates[0]}" if dates[0] == dates[-1] else f"measured from {dates[0]} to {dates[-1]}"


def _findings(record: StudyRecord) -> str:
    rule = (
        "A claim agrees or disagrees where the 95 % interval of the paired difference over seeds lies wholly on one "
        "side; else it cannot be told from these runs."
    )
    lines = [f"{place}. {_sentence(finding)}" for place, finding in enumerate(record.findings, start=1)]
    return "\n".join([rule, "", *lines])


def _sentence(finding: Finding) -> str:
    reason = finding.reason[0].upper() + finding.reason[1:]
    return f"**{finding.verdict.capitalize()}**: {finding.claim}. {reason}. Source: {finding.source}."


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
