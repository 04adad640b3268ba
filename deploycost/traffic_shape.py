"""When requests come: the shape of a week, 24 x 7 hourly weights, from a preset or the user's own file.

Weights are relative: twice the weight is twice the requests. How many there are is asked apart.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from deploycost.errors import UserError, nearest

HOURS_PER_DAY = 24
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOURS_PER_WEEK = HOURS_PER_DAY * len(DAYS)
# Of the mistakes of one file: the rest are counted.
_MISTAKES_TOLD = 12
# So many days begin a week and are worked on.
_WORKING_DAYS = 5
# What a file has where: a place to tell, and a value.
Cell = tuple[str, Any]


def _flat(_day: int, _hour: int) -> int:
    return 1


def _business_hours(day: int, hour: int) -> int:
    """Ten from 9 to 17 h, four in the two hours before and the three after, one else and at the weekend."""
    if day >= _WORKING_DAYS:
        return 1
    if 9 <= hour < 17:
        return 10
    return 4 if 7 <= hour < 20 else 1


def _spiky(day: int, hour: int) -> int:
    """One, but eight at 12 and 18 h each day, and twenty-four at 9 h on Monday."""
    if (day, hour) == (0, 9):
        return 24
    return 8 if hour in (12, 18) else 1


PRESETS: dict[str, Callable[[int, int], int]] = {"flat": _flat, "business-hours": _business_hours, "spiky": _spiky}


def week_shape(name: str) -> tuple[float, ...]:
    """The 168 weights of a preset or of a file, from Monday 0 h on.

    A file is CSV (168 numbers, one a line or 24 a line, from Monday on or in any order with the day's name before; a
    header line is passed over) or YAML (a list of 168 numbers or of 7 lists, or a mapping from the names of the days to
    24 numbers each).

    Raises:
        UserError: neither a preset nor a file that can be read, or all mistakes of the file in one line.
    """
    if name in PRESETS:
        return tuple(float(PRESETS[name](day, hour)) for day in range(len(DAYS)) for hour in range(HOURS_PER_DAY))
    path = Path(name)
    if path.suffix.lower() not in (".csv", ".yaml", ".yml"):
        raise UserError(
            f"unknown traffic {name!r}{nearest(name, list(PRESETS))}; known: {', '.join(PRESETS)}, or a .csv or .yaml "
            f"file of {HOURS_PER_WEEK} hourly weights"
        )
    try:
        text = path.read_text(encoding="utf-8")
        cells, mistakes = _csv_cells(text) if path.suffix.lower() == ".csv" else _yaml_cells(text)
    except OSError as error:
        raise UserError(f"cannot read traffic profile {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        raise UserError(f"traffic profile {path} cannot be read: {' '.join(str(error).split())}") from None
    return _checked(path, cells, mistakes)


def _checked(path: Path, cells: Sequence[Cell], of_days: Sequence[str]) -> tuple[float, ...]:
    """The numbers of the cells, each with its place, or all that is wrong with them and with their days."""
    weights, mistakes = [], list(of_days)
    for place, value in cells:
        weight = _number(value)
        if weight is None:
            mistakes.append(f"{place}: {value!r} is not a number")
        elif not isfinite(weight):
            mistakes.append(f"{place}: {value!r} is not finite")
        elif weight < 0:
            mistakes.append(f"{place}: {value!r} is negative")
        weights.append(weight or 0.0)
    if len(mistakes) > _MISTAKES_TOLD:
        mistakes[_MISTAKES_TOLD:] = [f"and {len(mistakes) - _MISTAKES_TOLD} more"]
    if len(cells) != HOURS_PER_WEEK and not of_days:
        mistakes.append(
            f"{len(cells)} hours, expected {HOURS_PER_WEEK}: {HOURS_PER_DAY} for each day from Monday 0 h on"
        )
    if cells and not mistakes and not any(weights):
        mistakes.append("zero in every hour: no traffic has no price")
    if mistakes:
        raise UserError(f"traffic profile {path}: {'; '.join(mistakes)}")
    return tuple(weights)


def _csv_cells(text: str) -> tuple[list[Cell], list[str]]:
    """The cells from Monday 0 h on, and what is wrong with the days."""
    rows = [(number, cells) for number, cells in enumerate(csv.reader(text.splitlines()), start=1) if any(cells)]
    if rows and all(_number(cell) is None for cell in rows[0][1]):
        rows = rows[1:]  # a header
    lines = [(f"line {number}", _day(cells[0]), cells) for number, cells in rows]
    if all(day is None for _, day, _ in lines):
        return [(place, cell.strip()) for place, _, cells in lines for cell in cells if cell.strip()], []
    unnamed = [f"{place}: names no day, as others do" for place, day, _ in lines if day is None]
    named = [
        (day, [(place, cell.strip()) for cell in cells[1:] if cell.strip()])
        for place, day, cells in lines
        if day is not None
    ]
    return _from_monday(named, unnamed)


def _yaml_cells(text: str) -> tuple[list[Cell], list[str]]:
    """The cells from Monday 0 h on, and what is wrong with the days."""
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if not isinstance(node, yaml.MappingNode):
        content = None if node is None else loader.construct_document(node)
        return _flattened(content if isinstance(content, list) else [content]), []
    # As pairs: a mapping would keep the last of two days of one name.
    pairs = [(str(name), _day(str(name)), values) for name, values in loader.construct_pairs(node, deep=True)]
    unknown = [f"day {name!r} is none of {', '.join(DAYS)}" for name, day, _ in pairs if day is None]
    return _from_monday(
        [(day, _flattened([values], f"{name} ")) for name, day, values in pairs if day is not None], unknown
    )


def _from_monday(days: Sequence[tuple[int, list[Cell]]], mistakes: list[str]) -> tuple[list[Cell], list[str]]:
    """The cells of the days in the order of the week; and the mistakes, with each day that has not 24 hours."""
    by_day = [[cell for day, cells in days if day == number for cell in cells] for number in range(len(DAYS))]
    wrong = [
        f"{name}: {len(cells)} hours, expected {HOURS_PER_DAY}"
        for name, cells in zip(DAYS, by_day, strict=True)
        if len(cells) != HOURS_PER_DAY
    ]
    return [cell for cells in by_day for cell in cells], [*mistakes, *wrong]


def _flattened(values: Iterable[Any], place: str = "") -> list[Cell]:
    cells = [cell for value in values for cell in (value if isinstance(value, list) else [value])]
    return [(f"{place}hour {number}", cell) for number, cell in enumerate(cells)]


def _day(name: str) -> int | None:
    """The number of a day from 0, Monday, by its name or the beginning of it; None for anything else."""
    word = name.strip().lower()
    return next((number for number, day in enumerate(DAYS) if len(word) >= 2 and day.startswith(word)), None)


def _number(value: Any) -> float | None:  # noqa: ANN401 - a cell of the user's file
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
