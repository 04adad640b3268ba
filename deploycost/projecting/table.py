"""A file of questions and the same file with answers, row by row in the columns of the published measurements."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from deploycost.errors import UserError, nearest
from deploycost.projecting.hardware import Device
from deploycost.projecting.observations import (
    NEEDED_COLUMNS,
    Metric,
    Setting,
    read_metric,
    read_setting,
    refuse_latency_of_streams,
)
from deploycost.projecting.projection import Projected, Projector
from deploycost.records import Basis

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

ANSWER_COLUMNS = ("predicted", "low90", "high90", "evidence")
_MEASURE = "measure it there with 'deploycost loadtest'"


@dataclass(frozen=True)
class Question:
    """One row of a file: its cells as they came, its line, and what it asks or why it cannot be answered."""

    cells: dict[str, str]
    line: int
    setting: Setting | None = None
    metric: Metric = "latency_mean"
    unit: float = 1.0
    mistake: str = ""


@dataclass(frozen=True)
class Answer:
    """A question with the value that its row would hold and the ends of its interval, None where there is none."""

    question: Question
    value: float | None
    low: float | None
    high: float | None
    evidence: str
    basis: Basis = "projected"

    @property
    def is_known(self) -> bool:
        """Whether there is an answer."""
        return self.value is not None


def read_questions(path: Path, here: Device | None = None) -> list[Question]:
    """The rows of a CSV file; one that asks for what is not known keeps the reason and hinders no other.

    Raises:
        UserError: the file cannot be read, has no rows, lacks columns, or has lines of another width: all of it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _numbered(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    amiss = [f"column {name!r} is missing{nearest(name, header)}" for name in NEEDED_COLUMNS if name not in header]
    amiss += [f"column {name!r} is there twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    amiss += [
        f"line {number} has {len(cells)} cells, not {len(header)}"
        for number, cells in lines[1:]
        if len(cells) != len(header)
    ]
    if not amiss and len(lines) < 2:
        amiss.append("it holds no rows")
    if amiss:
        raise UserError(f"{path}: {'; '.join(amiss)}; expected the columns {', '.join(NEEDED_COLUMNS)} and others")
    return [read_row(dict(zip(header, cells, strict=True)), number, here) for number, cells in lines[1:]]


def _numbered(reader: CsvReader) -> list[tuple[int, list[str]]]:
    """The rows that hold cells, each with the line that it begins on: empty lines count, and so do those in a cell."""
    rows, begins = [], 1
    for cells in reader:
        if cells:
            rows.append((begins, cells))
        begins = reader.line_num + 1
    return rows


def read_row(cells: dict[str, str], line: int, here: Device | None = None) -> Question:
    """The question in a row's cells, or what is wrong with them; `line` is where it stands."""
    mistakes: list[str] = []
    setting, metric, unit = None, None, 1.0
    try:
        setting = read_setting(cells, here)
    except UserError as error:
        mistakes.append(str(error))
    try:
        metric, unit = read_metric(cells)
    except UserError as error:
        mistakes.append(str(error))
    if setting is not None and metric is not None:
        try:
            refuse_latency_of_streams(setting, metric)
        except UserError as error:
            mistakes.append(str(error))
    if setting is None or metric is None or mistakes:
        return Question(cells, line, mistake="; ".join(mistakes))
    return Question(cells, line, setting, metric, unit)


def answer_questions(projector: Projector, questions: Sequence[Question]) -> list[Answer]:
    """An answer to each question, in its own metric and unit."""
    asked = [each for each in questions if each.setting is not None]
    settings = [projector.as_measured(each.setting) for each in asked if each.setting is not None]
    projected = iter(projector.project(settings, [each.metric for each in asked]))
    return [
        _in_units(each, next(projected))
        if each.setting is not None
        else Answer(each, None, None, None, f"unknown: {each.mistake}; {_MEASURE}")
        for each in questions
    ]


def _in_units(question: Question, projected: Projected) -> Answer:
    place = question.setting.place if question.setting else None
    evidence = f"{projected.evidence}; {place.told}" if place and place.told else projected.evidence
    if projected.too_thin:
        return Answer(question, None, None, None, f"too thin ({evidence}): {_MEASURE}")
    seconds = (projected.seconds, projected.low_s, projected.high_s)
    if question.metric == "throughput" and question.setting and place:
        at_once = question.setting.batch * place.batches_at_once
        value, high, low = (at_once / each for each in seconds)
    else:
        value, low, high = (each * 1000 / question.unit for each in seconds)
    return Answer(question, value, low, high, evidence, projected.basis)


def answers_csv(answers: Sequence[Answer]) -> str:
    """The rows as they came, each with its answer; what is unknown stays empty. Old answers are replaced."""
    columns = [name for name in answers[0].question.cells if name not in ANSWER_COLUMNS]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *ANSWER_COLUMNS])
    for each in answers:
        figures = [_figure(number) for number in (each.value, each.low, each.high)]
        writer.writerow([*(each.question.cells[name] for name in columns), *figures, each.evidence])
    return text.getvalue()


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
