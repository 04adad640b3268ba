"""Holds projections against measurements that they did not know: published ones, and this machine's own.

    python -m benchmarks.projection [--measure] [--page docs/results/projection.md]

Every published row is predicted with its group left out: its device, its runtime on that device, its token length, its
source. Intervals are as wide as the other groups made them. `--measure` first times reference encoders on this machine
(about eight minutes; nothing else should run) and keeps them in `deploycost/projecting/data/measured_inference.csv`;
without it the kept ones are used. Prints tables and, last, one line of JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from itertools import product
from math import expm1
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.projection_page import page
from deploycost.environment import now, usable_cores
from deploycost.projecting.calibration import RUNTIME_LABEL, time_encoder
from deploycost.projecting.evidence_base import evidence_of
from deploycost.projecting.fit import (
    WAYS,
    LeftOut,
    Way,
    distinct_groups,
    groups_of,
    kind_width,
    left_out,
    rows_by_kind,
)
from deploycost.projecting.fitted import NOVELTIES, Fitted, Novelty, read_fitted
from deploycost.projecting.hardware import DATA_FOLDER
from deploycost.projecting.observations import Observation, observe, shipped_observations
from deploycost.projecting.projection import Projector
from deploycost.projecting.reference import write_reference
from deploycost.projecting.shapes import find_shape

MEASURED_FILE = DATA_FOLDER / "measured_inference.csv"
COLUMNS = (
    "model", "task", "hardware", "instance", "precision", "runtime", "batch_size", "seq_len", "threads", "metric",
    "value", "unit", "source", "source_date", "note",
)  # fmt: skip
# Both halves of the target, by what may be new about a row.
HALVES: dict[str, tuple[Novelty, ...]] = {"device": ("device",), "known device": ("runtime", "length")}
RowsByKind = Mapping[str, Sequence[LeftOut]]
_SHAPES = ("4L-312D", "6L-384D", "6L-768D", "12L-768D")
_LENGTHS, _BATCHED_LENGTHS = (16, 32, 64, 128, 256), (32, 64, 128)
_BATCH = 8
# Other processes may use so much of a core while a row is timed, and it is tried so often.
_OTHERS_RATIO, _TRIES = 0.1, 3
# What no time depends on, but the size of the file.
_VOCABULARY = 2000


class Errors(NamedTuple):
    """How far off projections were: rows, median and 90th percentile of |projected / measured - 1|, share held."""

    rows: int
    median: float
    p90: float
    covered: float


class Check(NamedTuple):
    """One question that this machine can answer itself: what was known, what was asked, and how it came out."""

    known: str
    asked: str
    errors: Errors
    rows: list[dict[str, Any]]


def measure(path: Path, hardware: str, threads: Sequence[int]) -> None:
    """Times reference encoders of several shapes on this machine, and writes them as rows like the published ones.

    Rows of other numbers of threads are kept. A row is timed again, up to three times, while other processes use more
    than a tenth of a core; one that never had the machine to itself is left out.
    """
    with path.open(encoding="utf-8", newline="") if path.exists() else StringIO() as file:
        rows = [row for row in csv.DictReader(file) if int(row["threads"]) not in threads]
    for name, precision in product(_SHAPES, ("fp32", "int8")):
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "encoder.onnx"
            write_reference(replace(find_shape(name), vocabulary=_VOCABULARY), graph, int8=precision == "int8")
            settings = [(1, tokens) for tokens in _LENGTHS] + [(_BATCH, tokens) for tokens in _BATCHED_LENGTHS]
            for (batch, tokens), count in product(settings, threads):
                ms = _undisturbed_ms(lambda g=graph, n=count, b=batch, t=tokens: time_encoder(g, n, b, t))
                print(f"{name} {precision} {batch} x {tokens} on {count}: {ms} ms", flush=True)
                if ms is not None:
                    rows.append(_row(name, hardware, precision, batch, tokens, count, ms))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _undisturbed_ms(timed: Callable[[], list[float]]) -> float | None:
    """The median of timings during which nothing else ran, or None where something always did."""
    for _ in range(_TRIES):
        process, began = psutil.Process(), time.perf_counter()
        own_s, all_s = sum(process.cpu_times()[:2]), _busy_s()
        times = timed()
        wall_s = time.perf_counter() - began
        others_s = _busy_s() - all_s - (sum(process.cpu_times()[:2]) - own_s)
        if others_s <= _OTHERS_RATIO * wall_s:
            return statistics.median(times)
    return None


def _busy_s() -> float:
    spent = psutil.cpu_times()
    return sum(spent) - spent.idle - getattr(spent, "iowait", 0.0)


def _row(name: str, hardware: str, precision: str, batch: int, tokens: int, threads: int, ms: float) -> dict[str, Any]:
    return {
        "model": name,
        "task": "sequence classification",
        "hardware": hardware,
        "instance": "virtual machine",
        "precision": precision,
        "runtime": RUNTIME_LABEL,
        "batch_size": batch,
        "seq_len": tokens,
        "threads": threads,
        "metric": "latency_mean",
        "value": float(f"{ms:.4g}"),
        "unit": "ms",
        "source": "measured here: python -m benchmarks.projection --measure",
        "source_date": now()[:10],
        "note": "random weights; dynamic int8; no spinning threads; median of repeats",
    }


def measured() -> list[Observation]:
    """What was measured here."""
    if not MEASURED_FILE.exists():
        return []
    with MEASURED_FILE.open(encoding="utf-8", newline="") as file:
        return [observe(row) for row in csv.DictReader(file)]


def errors_of(rows: Sequence[LeftOut], width_of: Callable[[LeftOut], float]) -> Errors:
    """The errors of rows that were left out, under intervals of these widths."""
    sizes = sorted(abs(expm1(-row.error)) for row in rows)
    held = sum(abs(row.error) <= width_of(row) * row.deviation for row in rows)
    return Errors(len(rows), statistics.median(sizes), sizes[int(0.9 * (len(sizes) - 1))], held / len(rows))


def by_kind(fitted: Fitted, every: RowsByKind) -> Iterator[tuple[str, str, int, Errors, Errors]]:
    """For what is new and each kind of chip: the number of groups, errors under the shipped widths and under others'.

    The last says what a stranger may expect: no row has a part in the width of its own interval.
    """
    for novelty, kind in product(NOVELTIES, ("gpu", "cpu", "accelerator")):
        if f"{kind}/{novelty}" in every:
            yield novelty, kind, *_pooled(fitted, every, [f"{kind}/{novelty}"])


def by_half(fitted: Fitted, every: RowsByKind) -> Iterator[tuple[str, int, Errors, Errors]]:
    """The same over all chips for both halves of the target: a device never measured, and one that was, whatever else
    was new."""
    for half, novelties in HALVES.items():
        yield half, *_pooled(fitted, every, [name for name in every if name.partition("/")[2] in novelties])


def _pooled(fitted: Fitted, every: RowsByKind, names: Sequence[str]) -> tuple[int, Errors, Errors]:
    """Of the rows of several kinds: the number of groups, errors under the shipped widths and under others'."""
    rows = [row for name in names for row in every[name]]
    across = {name: _widths_of_others(name, every) for name in names}
    shipped = errors_of(rows, lambda row: fitted.widths[row.kind])
    return len(distinct_groups(rows)), shipped, errors_of(rows, lambda row: across[row.kind][row.group])


def by_way(fitted: Fitted, observations: Sequence[Observation]) -> Iterator[tuple[str, str, Errors, Errors | None]]:
    """The same for each way of leaving out, whatever was new to those left in; last, of rows whose device was not."""

    def width(row: LeftOut) -> float:
        return fitted.widths[row.kind]

    for way in WAYS:
        rows = left_out(fitted, observations, way)
        for kind in ("gpu", "cpu", "accelerator"):
            own = [row for row in rows if row.kind.startswith(kind)]
            known = [row for row in own if row.novelty != "device"]
            yield way, kind, errors_of(own, width), errors_of(known, width) if known else None


def _widths_of_others(name: str, every: RowsByKind) -> dict[tuple[Way, int], float]:
    """The width for each group of a kind that all other rows make, in whatever way they were left out."""
    rows = every[name]
    widths: dict[tuple[Way, int], float] = {}
    for group in {row.group for row in rows}:
        own = {id(row.observation) for row in rows if row.group == group}
        others = {
            kind: [row for row in asked if id(row.observation) not in own]
            for kind, asked in every.items()
            if kind in (name, f"{name.partition('/')[0]}/device")
        }
        widths[group] = kind_width(name, others)
    return widths


def by_source(fitted: Fitted, observations: Sequence[Observation]) -> list[tuple[str, Errors]]:
    """Errors by whoever measured, all of theirs left out, each row under the width of what is then new about it."""
    told = []
    for source in sorted({each.setting.source for each in observations}):
        known = tuple(each for each in observations if each.setting.source != source)
        asked = [each for each in observations if each.setting.source == source]
        told.append((source, _projected_errors(Projector(shipped=known, fitted=fitted), asked)[0]))
    return sorted(told, key=lambda pair: -pair[1].rows)


def by_group(fitted: Fitted, observations: Sequence[Observation], way: Way) -> list[tuple[str, Errors]]:
    """Errors of each group left out, the worst first; groups of fewer than six rows are left away."""
    groups: dict[str, list[LeftOut]] = defaultdict(list)
    for row in left_out(fitted, observations, way):
        setting = row.observation.setting
        name = setting.place.device.family if way == "device" else " with ".join(setting.device_class)
        groups[name].append(row)

    def width(row: LeftOut) -> float:
        return fitted.widths[row.kind]

    told = [(name, errors_of(rows, width)) for name, rows in groups.items() if len(rows) >= 6]
    return sorted(told, key=lambda pair: -pair[1].median)


def _projected_errors(projector: Projector, asked: Sequence[Observation]) -> tuple[Errors, list[dict[str, Any]]]:
    answers = projector.project([each.setting for each in asked], [each.metric for each in asked])
    rows = []
    for each, answer in zip(asked, answers, strict=True):
        setting = each.setting
        rows.append(
            {
                "model": f"{setting.shape.layers}L-{setting.shape.hidden}D",
                "precision": setting.precision,
                "batch": setting.batch,
                "tokens": setting.tokens,
                "threads": int(setting.place.cores or 0),
                "measured_ms": each.seconds * 1000,
                "projected_ms": answer.seconds * 1000,
                "low_ms": answer.low_s * 1000,
                "high_ms": answer.high_s * 1000,
            }
        )
    sizes = sorted(abs(row["projected_ms"] / row["measured_ms"] - 1) for row in rows)
    held = sum(row["low_ms"] <= row["measured_ms"] <= row["high_ms"] for row in rows)
    errors = Errors(len(rows), statistics.median(sizes), sizes[int(0.9 * (len(sizes) - 1))], held / len(rows))
    return errors, rows


def checks_here(fitted: Fitted) -> list[Check]:
    """What this machine says of projections within it, none of its other measurements known."""
    here = measured()
    if not here:
        return []
    published = tuple(each for each in shipped_observations() if each.setting.source != here[0].setting.source)

    def rows(
        shapes: str = "6L-384D",
        precisions: str = "fp32 int8",
        threads: str = "1",
        tokens: str = "16 64 128",
        batch: int = 1,
    ) -> list[Observation]:
        return [
            each
            for each in here
            if f"{each.setting.shape.layers}L-{each.setting.shape.hidden}D" in shapes.split()
            and each.setting.precision in precisions.split()
            and f"{each.setting.place.cores:.0f}" in threads.split()
            and str(each.setting.tokens) in tokens.split()
            and each.setting.batch == batch
        ]

    one = "MiniLM's shape, fp32 and int8, 16, 64 and 128 tokens, one core"
    every = "16 32 64 128 256"
    plans = [
        ("nothing measured on this machine", "MiniLM's shape, one core", [], rows(tokens=every)),
        (one, "lengths 32 and 256", rows(), rows(tokens="32 256")),
        (one, "two cores", rows(), rows(threads="2", tokens=every)),
        (one, "DistilBERT's shape", rows(), rows(shapes="6L-768D", tokens=every)),
        (one, "DistilBERT's shape on two cores", rows(), rows(shapes="6L-768D", threads="2", tokens=every)),
        (one, "BERT-base's and 4L-312D's shapes", rows(), rows(shapes="12L-768D 4L-312D", tokens=every)),
        (one, "batches of 8", rows(), rows(tokens=every, batch=8)),
        ("the same in fp32 only", "the int8 artifact", rows(precisions="fp32"), rows(precisions="int8", tokens=every)),
        ("the same in int8 only", "the fp32 artifact", rows(precisions="int8"), rows(precisions="fp32", tokens=every)),
    ]
    checks = []
    for known, asked, own, wanted in plans:
        if not wanted:
            continue
        projector = Projector(own=tuple(own), shipped=published, fitted=fitted)
        errors, told = _projected_errors(projector, wanted)
        checks.append(Check(known, asked, errors, told))
    return checks


def found() -> dict[str, Any]:
    """All that the tables and the page tell."""
    fitted, observations = read_fitted(), shipped_observations()
    every = rows_by_kind(row for way in WAYS for row in left_out(fitted, observations, way))
    return {
        "observations": len(observations),
        "settings": len(evidence_of(observations).settings),
        "groups": {way: len(groups) for way, groups in groups_of(evidence_of(observations).settings).items()},
        "widths": fitted.widths,
        "by_half": [
            {"new": half, "groups": groups, "shipped": own._asdict(), "other_groups": across._asdict()}
            for half, groups, own, across in by_half(fitted, every)
        ],
        "by_kind": [
            {
                "new": novelty,
                "kind": kind,
                "groups": groups,
                "shipped": own._asdict(),
                "other_groups": across._asdict(),
            }
            for novelty, kind, groups, own, across in by_kind(fitted, every)
        ],
        "by_way": [
            {"left_out": way, "kind": kind, **errors._asdict(), "known_device": known._asdict() if known else None}
            for way, kind, errors, known in by_way(fitted, observations)
        ],
        "by_source": [{"source": name, **errors._asdict()} for name, errors in by_source(fitted, observations)],
        "by_device": [
            {"device": name, **errors._asdict()} for name, errors in by_group(fitted, observations, "device")
        ],
        "by_runtime": [
            {"runtime": name, **errors._asdict()} for name, errors in by_group(fitted, observations, "runtime")
        ],
        "here": [{**check._asdict(), "errors": check.errors._asdict()} for check in checks_here(fitted)],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures if told, prints, writes the page if told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="time reference encoders on this machine first")
    parser.add_argument("--hardware", default="EPYC Turin", help="what this machine's CPU is, as the facts call it")
    parser.add_argument(
        "--threads", type=int, nargs="*", help="numbers of threads to time; default: one, and all cores"
    )
    parser.add_argument("--page", type=Path, help="write the page here")
    options = parser.parse_args(arguments)
    if options.measure:
        measure(MEASURED_FILE, options.hardware, options.threads or sorted({1, len(usable_cores())}))
    document = found()
    _show(document)
    if options.page:
        options.page.write_text(page(document), encoding="utf-8")
    print(json.dumps(document))


def _show(document: dict[str, Any]) -> None:
    console = Console()
    table = Table("new", "kind", "rows", "median error", "p90 error", "in the 90 % interval")
    for each in (*document["by_half"], *document["by_kind"]):
        errors = each["other_groups"]
        shares = (f"{100 * errors[name]:.1f} %" for name in ("median", "p90", "covered"))
        table.add_row(each["new"], each.get("kind", "all"), str(errors["rows"]), *shares)
    console.print(table)
    table = Table("known of this machine", "asked", "rows", "median error", "p90 error", "in the 90 % interval")
    for each in document["here"]:
        errors = each["errors"]
        shares = (f"{100 * errors[name]:.1f} %" for name in ("median", "p90", "covered"))
        table.add_row(each["known"], each["asked"], str(errors["rows"]), *shares)
    console.print(table)


if __name__ == "__main__":
    main()
