"""What requests say: texts from a file, in a seeded order, and all that a probe reads from files beside its plan."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from loadtests.arrivals import read_trace
from loadtests.plan import ProbePlan
from loadtests.template import Template, read_template

# For a plain `locust -f` without a file: any endpoint of ours answers it.
SAMPLE_TEXT = "Shares rose after the company raised its forecast for the year."
SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Material:
    """The content of the files that a plan names, so that a worker on another machine needs none of them."""

    texts: list[str]
    trace_s: list[float]
    template: Template | None


def read_material(plan: ProbePlan) -> Material:
    """All that a plan's files hold.

    Raises:
        ValueError: a file cannot be read or holds something else; one line.
    """
    template = read_template(plan.template) if plan.template else None
    if template is not None and template.placeholder == "text" and plan.texts_per_request > 1:
        raise ValueError(f"{plan.template} has '{{{{text}}}}' for one text; several per request need '{{{{texts}}}}'")
    return Material(
        texts=read_texts(plan.texts, plan.column),
        trace_s=read_trace(plan.trace) if plan.trace else [],
        template=template,
    )


def read_texts(path: str, column: str = "text") -> list[str]:
    """The texts of a .txt file (one a line) or in a column of a .jsonl, .csv or .parquet; a sample without a path.

    Raises:
        ValueError: the file cannot be read, has no texts, or a row has none in that column.
    """
    if not path:
        return [SAMPLE_TEXT]
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot read the texts in {path}: expected a file that ends in {', '.join(SUFFIXES)}")
    try:
        texts = list(_texts(path, suffix, column))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the texts in {path}: {error}") from None
    if not texts:
        raise ValueError(f"{path} holds no texts: expected {_expected(suffix, column)}")
    return texts


def text_groups(number: int, size: int, seed: int) -> list[list[int]]:
    """Which of `number` texts go together: each alone, or shuffled and cut into groups, the last one filled up."""
    if size == 1:
        return [[index] for index in range(number)]
    order = Random(seed).sample(range(number), number)
    return [[order[(start + step) % number] for step in range(size)] for start in range(0, number, size)]


def seeded_order(number: int, seed: int) -> Iterator[int]:
    """Indices below `number` without end: all of them shuffled, then all of them shuffled again."""
    source = Random(seed)
    while True:
        yield from source.sample(range(number), number)


def _expected(suffix: str, column: str) -> str:
    return {
        ".txt": "one text a line",
        ".jsonl": f"one {{{column!r}: ...}} per line",
    }.get(suffix, f"rows with a column {column!r}")


def _texts(path: str, suffix: str, column: str) -> Iterator[str]:
    if suffix == ".parquet":
        yield from _checked(path, _parquet_rows(path, column), column)
        return
    with Path(path).open(encoding="utf-8", newline="" if suffix == ".csv" else None) as lines:
        if suffix == ".txt":
            yield from (line.strip() for line in lines if line.strip())
        elif suffix == ".csv":
            yield from _checked(path, csv.DictReader(lines), column)
        else:
            yield from _checked(path, (_json_row(line) for line in lines if line.strip()), column)


def _json_row(line: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(line)
    except ValueError:
        return None


def _parquet_rows(path: str, column: str) -> Iterable[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path, columns=[column]).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"cannot read the texts in {path}: {' '.join(str(error).split())[:200]}") from None


def _checked(path: str, rows: Iterable[Any], column: str) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        text = row.get(column) if isinstance(row, dict) else None
        if not isinstance(text, str):
            names = ", ".join(map(str, row)) if isinstance(row, dict) else "none"
            raise ValueError(f"{path}: expected a text in column {column!r} of row {number}; its columns: {names}")
        yield text
