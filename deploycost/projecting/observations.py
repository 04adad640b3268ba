"""Measurements in one form: which work on which place by which runtime took how long, whatever metric told it."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import isfinite, log
from typing import Literal, TypeVar, cast

from deploycost.errors import UserError, unknown_name
from deploycost.projecting.hardware import DATA_FOLDER, Device, Kind, Place, Precision, cores_of, find_place
from deploycost.projecting.instances import split_instance
from deploycost.projecting.machine_words import cores_told, counted, read_used
from deploycost.projecting.runtimes import Runtime, find_precision, find_runtime
from deploycost.projecting.shapes import Shape, find_shape, named_shape

Metric = Literal[
    "throughput", "latency_mean", "latency_p50", "latency_p90", "latency_p95", "latency_p99", "latency_compute_mean"
]
METRICS: tuple[Metric, ...] = (
    "throughput", "latency_mean", "latency_p50", "latency_p90", "latency_p95", "latency_p99", "latency_compute_mean",
)  # fmt: skip
# Milliseconds per unit of a latency, whose plural means the same.
_LATENCY_UNITS_MS = {
    "": 1.0, "ms": 1.0, "msec": 1.0, "milli": 1.0, "millisecond": 1.0, "s": 1000.0, "sec": 1000.0, "second": 1000.0,
    "us": 1e-3, "usec": 1e-3, "µs": 1e-3, "μs": 1e-3, "microsecond": 1e-3,
}  # fmt: skip
# What a rate may count: a text is what a request asks about. Tokens and batches are other things.
_COUNTED = (
    "seq", "sequence", "sample", "sentence", "text", "inf", "inference", "req", "request", "query", "querie", "example",
    "item", "document", "doc", "prediction", "frame", "record",
)  # fmt: skip
_RATE_UNITS = ("", "qps", "rps", "fps", "ips", "sps")
_PER_SECOND = re.compile(r"([a-z]+?)s?(?:/| per )(?:s|secs?|seconds?)")
# What the words of a metric's name tell; other words than these are of another metric.
_KIND_WORDS: dict[str, Metric] = {
    "mean": "latency_mean", "avg": "latency_mean", "average": "latency_mean",
    "p50": "latency_p50", "median": "latency_p50", "50th": "latency_p50",
    "p90": "latency_p90", "90th": "latency_p90", "p95": "latency_p95", "95th": "latency_p95",
    "p99": "latency_p99", "99th": "latency_p99",
    "throughput": "throughput", "qps": "throughput", "rps": "throughput", "fps": "throughput",
}  # fmt: skip
_OTHER_WORDS = {"latency", "percentile", "response", "time", "batch", "ms"}
NEEDED_COLUMNS = ("model", "hardware", "precision", "runtime", "batch_size", "seq_len", "metric")
# Who measures what a user of this product asks: one hand, since it is their own.
OWN_SOURCE = "own"
# What a batch of the runtime's own choosing is taken for.
_AUTOMATIC_BATCH = 16
# Rows of one identity that differ by more than this were transcribed wrongly, and nothing says which.
_SAME_RATIO = 1.10
# No batch and no text is larger: what is, was read wrongly.
_MOST = 1_000_000
_THREADS_OF_A_CORE = 2


_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Setting:
    """What is run where: everything that decides its time but the metric.

    `runtime_label` and `place_label` are the runtime and the hardware as they were named, `source` who measured.
    """

    shape: Shape
    place: Place
    runtime: Runtime
    runtime_label: str
    precision: Precision
    batch: int
    tokens: int
    place_label: str = ""
    source: str = ""

    @property
    def device_class(self) -> tuple[str, str]:
        """The device's family with the runtime's class."""
        return self.place.device.family, self.class_name

    @property
    def class_name(self) -> str:
        """The runtime's class on such a chip; many streams at once are not the same as a single request."""
        where = "-cpu" if self.place.device.kind == "cpu" else ""
        return f"{self.runtime.name}{where}{'-streams' if self.runtime.streams else ''}"


@dataclass(frozen=True)
class Observation:
    """A setting, the metric, and the value as seconds per batch: the batch over the rate where a rate was told."""

    setting: Setting
    metric: Metric
    seconds: float

    @property
    def log_seconds(self) -> float:
        """What models are fitted to: errors of times are factors."""
        return log(self.seconds)


class _Cells:
    """The cells of a row; a reader that fails notes why and goes on, so that no mistake hides another."""

    def __init__(self, row: Mapping[str, str | None]) -> None:
        self._cells = {name: (value or "").strip() for name, value in row.items() if name is not None}
        self.mistakes: list[str] = []

    def text(self, column: str) -> str:
        """A cell as it stands, empty where the column is not there."""
        return self._cells.get(column, "")

    def read(self, column: str, reader: Callable[[str], _Read]) -> _Read | None:
        """What `reader` makes of a cell, or None, with the mistake noted."""
        try:
            return reader(self.text(column))
        except UserError as error:
            self.mistakes.append(str(error))
        except ValueError as error:
            self.mistakes.append(f"{column} {error}")
        return None


def read_setting(
    row: Mapping[str, str | None], here: Device | None = None, shape_of: Callable[[str], Shape] = find_shape
) -> Setting:
    """The setting of a row in the columns of `published_inference.csv`; `here` is what hardware `here` means.

    `shape_of` finds the shape of its model.

    Raises:
        UserError: all that is wrong with the row, in one line.
    """
    cells = _Cells(row)
    shape = cells.read("model", shape_of)
    runtime = cells.read("runtime", _runtime)
    batch = cells.read("batch_size", _batch)
    tokens = cells.read("seq_len", _tokens)
    many = runtime is not None and runtime.streams
    place = cells.read("hardware", lambda name: _whole_place(name, here))
    if place is not None and place.device.kind == "cpu":
        whole = place
        words = _words_of_cores(cells.text("threads"), cores_told(cells.text("hardware")))
        place = cells.read("threads", lambda _: _used(_rented(whole, cells.text("instance"), words), words, many))
    kind = place.device.kind if place else "gpu"
    precision: Precision | None = cells.read("precision", lambda name: _precision(name, kind))
    if shape is None or runtime is None or batch is None or tokens is None or place is None or precision is None:
        raise UserError("; ".join(cells.mistakes))
    return Setting(
        shape=shape,
        place=place,
        runtime=runtime,
        runtime_label=cells.text("runtime"),
        precision=precision,
        batch=batch,
        tokens=tokens,
        # Of several cards each is as one of them.
        place_label=counted(cells.text("hardware"))[0] if place.batches_at_once > 1 else cells.text("hardware"),
        source=cells.text("source"),
    )


def read_metric(row: Mapping[str, str | None]) -> tuple[Metric, float]:
    """The metric of a row, and what one of its units is: milliseconds of a latency, texts per second of a throughput.

    Raises:
        UserError: there is no such metric or unit.
    """
    name = (row.get("metric") or "").strip().casefold()
    unit = re.sub(r"\s*/\s*", "/", " ".join((row.get("unit") or "").casefold().split()))
    metric = cast(Metric, name) if name in METRICS else _metric_in(name)
    if metric is None:
        raise unknown_name("metric", name, METRICS)
    if metric == "throughput":
        counted_each = _PER_SECOND.fullmatch(unit)
        if unit not in _RATE_UNITS and not (counted_each and counted_each.group(1) in _COUNTED):
            raise unknown_name(
                "unit of a throughput", unit, ("seq/s", "samples/sec", "requests per second", "qps", "fps")
            )
        return "throughput", 1.0
    unit = re.sub(r"(?:/| per )batch$", "", unit)
    of_each = _LATENCY_UNITS_MS.get(unit, _LATENCY_UNITS_MS.get(unit.removesuffix("s")))
    if of_each is None:
        raise unknown_name("unit of a latency", unit, [each for each in _LATENCY_UNITS_MS if each])
    return metric, of_each


def _metric_in(name: str) -> Metric | None:
    """The metric that words such as `p95 latency` or `latency (ms)` mean, None where they mean none or two."""
    words = set(re.findall(r"[a-z0-9µ]+", name))
    kinds: set[Metric] = {_KIND_WORDS[word] for word in words if word in _KIND_WORDS}
    told_otherwise = "throughput" in kinds and "latency" in words
    if words - set(_KIND_WORDS) - _OTHER_WORDS or len(kinds) > 1 or told_otherwise:
        return None
    if kinds:
        return kinds.pop()
    return "latency_mean" if "latency" in words else None


def refuse_latency_of_streams(setting: Setting, metric: Metric) -> None:
    """Refuses what a rate of many streams at once does not tell: how long one of them takes.

    Raises:
        UserError: a latency is asked of a runtime that answers as many at once as it sees fit.
    """
    if setting.runtime.streams and metric != "throughput":
        raise UserError(
            f"{metric} of {setting.runtime_label!r}: its throughput is of many streams at once, and how many was not "
            "told; ask for throughput, or for the latency hint"
        )


def observe(row: Mapping[str, str | None], shape_of: Callable[[str], Shape] = find_shape) -> Observation:
    """The measurement in a row, of a model whose shape is found by `shape_of`.

    Raises:
        UserError: what is wrong with it, in one line.
    """
    setting = read_setting(row, shape_of=shape_of)
    metric, unit = read_metric(row)
    refuse_latency_of_streams(setting, metric)
    value = float(row.get("value") or "nan")
    if not isfinite(value) or value <= 0:
        raise UserError(f"value {row.get('value')!r} is no number above zero")
    batches = setting.place.batches_at_once
    seconds = batches * setting.batch / value if metric == "throughput" else value * unit / 1000
    return Observation(setting, metric, seconds)


@cache
def shipped_observations() -> tuple[Observation, ...]:
    """The evidence in the package, without rows that contradict their own doubles."""
    found: list[Observation] = []
    for name in ("published_inference.csv", "measured_inference.csv"):
        path = DATA_FOLDER / name
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                # Their models are known by name: no file of the user's is meant.
                found += [observe(row, named_shape) for row in csv.DictReader(file)]
    return tuple(_without_contradictions(found))


def _without_contradictions(found: Iterable[Observation]) -> list[Observation]:
    doubles: dict[tuple[Setting, str], list[Observation]] = defaultdict(list)
    for each in found:
        doubles[each.setting, each.metric].append(each)
    kept = []
    for same in doubles.values():
        seconds = [each.seconds for each in same]
        if max(seconds) <= min(seconds) * _SAME_RATIO:
            kept.append(same[0])
    return kept


def _runtime(name: str) -> Runtime:
    found = find_runtime(name)
    if found is None:
        raise UserError(f"unknown runtime {name!r}; expected one such as PyTorch, ONNX Runtime, TensorRT or OpenVINO")
    return found


def _precision(name: str, kind: Kind) -> Precision:
    found = find_precision(name, kind)
    if found is None:
        raise UserError(f"unknown precision {name!r}; expected fp32, tf32, fp16, bf16 or int8")
    return found


def _batch(text: str) -> int:
    if text.startswith("auto"):
        return _AUTOMATIC_BATCH
    return _count(
        re.sub(r"\s*per (?:stream|gpu|card|chip|device|core).*$|^(?:batch|bs)\s*[=:]?\s*", "", text.casefold())
    )


def _tokens(text: str) -> int:
    return _count(re.sub(r"\s*tokens?$", "", text.casefold()))


def _count(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number above zero") from None
    if not isfinite(number) or number < 1 or number != int(number):
        raise ValueError(f"{text!r} is no whole number above zero")
    if number > _MOST:
        raise ValueError(f"{text!r} is more than {_MOST:,}")
    return int(number)


def _whole_place(name: str, here: Device | None) -> Place:
    if name.casefold() != "here":
        return find_place(name)
    if here is None:
        raise UserError("hardware 'here' is not calibrated; measure this machine with 'deploycost calibrate'")
    return Place(here, 1, float(here.cores))


def _rented(whole: Place, instance: str, words: str) -> Place:
    """The cores of the instance that a CPU was in, where it says so; any other words may stand there."""
    try:
        found = None if whole.told else split_instance(instance)[1]
    except UserError:
        if read_used(words) is None:
            raise
        return whole  # it is told what was used of it, whatever it is
    return cores_of(found, whole.device) if found else whole


def _words_of_cores(threads: str, hardware: str) -> str:
    """What says how many cores were used: of hardware that is told by the vCPU, threads are so many of these."""
    is_one = hardware.endswith("vcpu") and not hardware[0].isdigit()
    return f"{threads} vcpus" if is_one and threads.isdigit() else threads or hardware


def _used(whole: Place, words: str, many: bool) -> Place:
    """The cores that are used: one request is computed by one socket, many at once by all, unless told."""
    device = whole.device
    all_cores, socket = whole.cores or 1.0, min(whole.cores or 1.0, float(device.cores))
    used = read_used(words)
    if used is None:
        cores, of = (all_cores, "all") if many else (socket, "one socket")
        assumed = f"cores assumed: {cores:g}, {of}"
        told = whole.told if whole.told and cores == all_cores else "; ".join(filter(None, (whole.told, assumed)))
        return Place(device, whole.sockets, cores, told)
    if used.number is None:
        return Place(device, whole.sockets, all_cores, whole.told)
    if used.unit == "socket":
        sockets = max(used.number, whole.sockets)
        return Place(device, sockets, float(used.number * socket))
    cores = used.number / (device.threads_per_core if used.unit == "vcpu" else 1)
    most = _THREADS_OF_A_CORE * all_cores
    if cores > most:
        raise ValueError(f"{words!r} are more than the {most:g} of {device.name}")
    told = f"{words} taken for {cores:g} of its cores" if used.unit == "vcpu" else whole.told
    if cores > all_cores:
        told = told or f"{words} threads on {all_cores:g} cores"  # where they take turns
    return Place(device, whole.sockets, min(cores, all_cores), told)
