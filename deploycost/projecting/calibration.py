"""A short, repeatable measurement of this machine: what it computes and moves at best, and how a reference runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, Literal

import numpy as np

from deploycost.environment import MachineFacts, machine_facts, now, usable_cores
from deploycost.errors import UserError
from deploycost.projecting.hardware import Device, Place
from deploycost.projecting.observations import Observation, Setting
from deploycost.projecting.runtimes import Runtime, find_runtime
from deploycost.projecting.shapes import find_shape
from deploycost.records import FORMAT_VERSION, Record, read_record

REFERENCE = "6L-384D"
RUNTIME_LABEL = "ONNX Runtime"
_REFERENCE_TOKENS = (16, 64, 128)
# Products as encoders make them: positions of a batch, width, width or inner width.
_PRODUCTS = ((64, 384, 384), (128, 768, 768), (512, 768, 3072))
_COPIED_BYTES = 256 * 1024**2
_REPEATS = 7
_REPEAT_NS = 60_000_000
# What the best product of a well-kept library reaches of a core's peak: rates are told to the model as peaks.
_BEST_OF_PEAK = 0.85
CalibratedPrecision = Literal["fp32", "int8"]
_PRECISIONS: tuple[CalibratedPrecision, ...] = ("fp32", "int8")


class ProductRate(Record):
    """A matrix product of `rows` x `inner` by `inner` x `columns`, in operations per second on so many threads."""

    precision: CalibratedPrecision
    rows: int
    inner: int
    columns: int
    threads: int
    flops_per_s: float


class ReferenceTime(Record):
    """The reference encoder on one text, in milliseconds: the median of repeats, with the least and the greatest."""

    model: str
    precision: CalibratedPrecision
    tokens: int
    threads: int
    median_ms: float
    least_ms: float
    most_ms: float


class Calibration(Record):
    """What `deploycost calibrate` measured, and on which machine. Bandwidth is of one thread, read and written."""

    format_version: int = FORMAT_VERSION
    machine: MachineFacts
    products: tuple[ProductRate, ...]
    bytes_per_s: float
    references: tuple[ReferenceTime, ...]
    duration_s: float
    finished_at: str

    def best_rate(self, precision: CalibratedPrecision) -> float:
        """The best product on one thread, in operations per second."""
        return max(each.flops_per_s for each in self.products if each.precision == precision and each.threads == 1)


def calibration_file() -> Path:
    """Where the calibration of this machine is kept."""
    from platformdirs import user_data_path

    return user_data_path("deploycost", appauthor=False) / "calibration.json"


def read_calibration(path: Path | None = None) -> Calibration:
    """The calibration in a file, that of this machine unless told.

    Raises:
        UserError: there is none, or it is damaged.
    """
    place = path or calibration_file()
    if not place.exists():
        raise UserError(f"no calibration in {place}; measure this machine with 'deploycost calibrate'")
    return read_record(place, Calibration)


def calibrate(threads: Sequence[int] = (1,), tell: Callable[[str], None] = lambda _: None) -> Calibration:
    """Measures this machine on these numbers of threads, in about ten seconds for each.

    Raises:
        UserError: it has fewer cores.
    """
    from deploycost.projecting.reference import write_reference

    cores = len(usable_cores())
    if not threads or min(threads) < 1 or max(threads) > cores:
        raise UserError(f"cannot calibrate on {max(threads, default=0)} threads; this process may use {cores} cores")
    started = perf_counter_ns()
    products: list[ProductRate] = []
    references: list[ReferenceTime] = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in _PRECISIONS:
            tell(f"reference encoder {REFERENCE}, {precision}")
            path = Path(folder) / f"reference-{precision}.onnx"
            write_reference(find_shape(REFERENCE), path, int8=precision == "int8")
            for count in threads:
                references += _reference_times(path, precision, count)
        for count in threads:
            tell(f"matrix products on {count} thread{'s' if count > 1 else ''}")
            products += [_product(precision, *sizes, count) for precision in _PRECISIONS for sizes in _PRODUCTS]
    tell("memory bandwidth")
    return Calibration(
        machine=machine_facts(),
        products=tuple(products),
        bytes_per_s=_bandwidth(),
        references=tuple(references),
        duration_s=(perf_counter_ns() - started) / 1e9,
        finished_at=now(),
    )


def calibrated_device(calibration: Calibration) -> Device:
    """The machine of a calibration as a device: its cores together are one socket."""
    cores = calibration.machine.cpu_cores
    return Device(
        name=calibration.machine.cpu_model,
        family=f"calibrated {calibration.machine.cpu_model}",
        kind="cpu",
        rates={each: calibration.best_rate(each) / _BEST_OF_PEAK * cores for each in _PRECISIONS},
        bytes_per_s=calibration.bytes_per_s * cores**0.5,
        watts=None,
        cores=cores,
        threads_per_core=1,
        source=f"calibrated {calibration.finished_at}",
    )


def calibrated_place(calibration: Calibration, threads: int | None = None) -> Place:
    """So many cores of the machine of a calibration, all of them unless told.

    Raises:
        UserError: it has fewer.
    """
    device = calibrated_device(calibration)
    if threads is not None and not 1 <= threads <= device.cores:
        raise UserError(f"{threads} threads were asked for, and the calibrated machine has {device.cores} cores")
    return Place(device, 1, float(threads or device.cores))


def observations_of(calibration: Calibration) -> list[Observation]:
    """The reference encoder's times as evidence."""
    runtime = find_runtime(RUNTIME_LABEL)
    assert runtime is not None, "the product's own runtime has a class"  # noqa: S101 - for the types
    return [
        Observation(reference_setting(calibration, each, runtime), "latency_mean", each.median_ms / 1000)
        for each in calibration.references
    ]


def reference_setting(calibration: Calibration, timed: ReferenceTime, runtime: Runtime) -> Setting:
    """The setting that a reference was timed in."""
    return Setting(
        shape=find_shape(timed.model),
        place=calibrated_place(calibration, timed.threads),
        runtime=runtime,
        runtime_label=RUNTIME_LABEL,
        precision=timed.precision,
        batch=1,
        tokens=timed.tokens,
        place_label=calibration.machine.cpu_model,
        source="calibrated",
    )


def time_encoder(path: Path, threads: int, batch: int, tokens: int) -> list[float]:
    """Milliseconds of one pass through an ONNX encoder, repeated: each the mean of so many as fill a moment."""
    from serving.engines import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(path, threads)
    ids = np.full((batch, tokens), 7, dtype=np.int64)
    mask = np.ones_like(ids)
    return _repeated_ms(lambda: engine.logits(ids, mask))


def _reference_times(path: Path, precision: CalibratedPrecision, threads: int) -> list[ReferenceTime]:
    timed = []
    for tokens in _REFERENCE_TOKENS:
        times = time_encoder(path, threads, 1, tokens)
        timed.append(
            ReferenceTime(
                model=REFERENCE,
                precision=precision,
                tokens=tokens,
                threads=threads,
                median_ms=median(times),
                least_ms=min(times),
                most_ms=max(times),
            )
        )
    return timed


def _product(precision: CalibratedPrecision, rows: int, inner: int, columns: int, threads: int) -> ProductRate:
    run = _product_session(precision, inner, columns, threads)
    kind = np.float32 if precision == "fp32" else np.uint8
    left = np.random.default_rng(0).integers(0, 100, (rows, inner)).astype(kind)
    best_ms = min(_repeated_ms(lambda: run(left)))
    return ProductRate(
        precision=precision,
        rows=rows,
        inner=inner,
        columns=columns,
        threads=threads,
        flops_per_s=2 * rows * inner * columns / (best_ms / 1000),
    )


def _product_session(
    precision: CalibratedPrecision, inner: int, columns: int, threads: int
) -> Callable[[np.ndarray[Any, Any]], object]:
    """A matrix product by a fixed matrix through the runtime that serves: its kernels are what counts."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    whole = precision == "int8"
    right = np.random.default_rng(1).integers(-100, 100, (inner, columns)).astype(np.int8 if whole else np.float32)
    kind, result = (TensorProto.UINT8, TensorProto.INT32) if whole else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if whole else "MatMul", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", kind, ["rows", inner])],
        [helper.make_tensor_value_info("product", result, ["rows", columns])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda left: session.run(None, {"left": left})


def _bandwidth() -> float:
    """Bytes per second read and written by one thread's copy of what no cache holds."""
    source = np.ones(_COPIED_BYTES // 8)
    target = np.empty_like(source)
    least_ms = min(_repeated_ms(lambda: np.copyto(target, source)))
    return 2 * _COPIED_BYTES / (least_ms / 1000)


def _repeated_ms(call: Callable[[], object]) -> list[float]:
    call()
    times = []
    for _ in range(_REPEATS):
        started, calls = perf_counter_ns(), 0
        while not calls or perf_counter_ns() - started < _REPEAT_NS:
            call()
            calls += 1
        times.append((perf_counter_ns() - started) / calls / 1e6)
    return times
