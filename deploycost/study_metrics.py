"""What studies compare: each metric with its unit, how two values of it are compared, and where it is read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploycost.records import Figure
from deploycost.study_record import CellMeasurement, MetricName, ServedArtifact

_MB = 1e6


@dataclass(frozen=True)
class Metric:
    """One metric: `header` has the unit that `shown_per_unit` turns a value into.

    Scores are compared by difference, all else by ratio. An `exact` one is the same for every seed, so that one seed
    is enough to tell two cells apart. A `load_tested` one is measured on one seed only, and has an interval of its own.
    """

    header: str
    read: Callable[[CellMeasurement], float | None]
    shown_per_unit: float = 1.0
    higher_is_better: bool = False
    by_difference: bool = False
    exact: bool = False
    load_tested: Callable[[CellMeasurement], LoadTested | None] | None = None


@dataclass(frozen=True)
class LoadTested:
    """A figure that rests on a load test: with the test's own interval, and whether the test can be trusted."""

    figure: Figure
    certified: bool


def _score(header: str, read: Callable[[CellMeasurement], float | None]) -> Metric:
    return Metric(header, read, shown_per_unit=100, higher_is_better=True, by_difference=True)


def _served(measured: CellMeasurement, precision: str) -> ServedArtifact | None:
    return next((each for each in measured.served if each.artifact.endswith(precision)), None)


def _int8_accuracy(measured: CellMeasurement) -> float | None:
    served = _served(measured, "int8")
    return served.accuracy if served else None


def _request_ms(precision: str) -> Callable[[CellMeasurement], float | None]:
    def read(measured: CellMeasurement) -> float | None:
        served = _served(measured, precision)
        return served.request_ms_p50 if served else None

    return read


def _of_load_test(
    header: str,
    figure_of: Callable[[ServedArtifact], Figure | None],
    *,
    higher_is_better: bool,
) -> Metric:
    """A metric of the artifact that is best in it, of those of a cell that were load-tested."""

    def best(measured: CellMeasurement) -> LoadTested | None:
        """The best figure of a cell's artifacts, or None where none was load-tested."""
        known = [
            (figure.value, figure, served.certified is True)
            for served in measured.served
            if (figure := figure_of(served)) is not None and figure.value is not None
        ]
        if not known:
            return None
        _, figure, certified = (max if higher_is_better else min)(known, key=lambda each: each[0])
        return LoadTested(figure, certified)

    def read(measured: CellMeasurement) -> float | None:
        found = best(measured)
        return found.figure.value if found else None

    return Metric(header, read, higher_is_better=higher_is_better, load_tested=best)


METRICS: dict[MetricName, Metric] = {
    "accuracy": _score("accuracy %", lambda m: m.scores.accuracy),
    "macro_f1": _score("F1 %", lambda m: m.scores.macro_f1),
    "precision": _score("precision %", lambda m: m.scores.precision),
    "recall": _score("recall %", lambda m: m.scores.recall),
    "accuracy_epoch_1": _score("accuracy % after epoch 1", lambda m: m.epochs[0].scores.accuracy if m.epochs else None),
    "training_s": Metric("training s", lambda m: m.training_s),
    "samples_per_s": Metric("samples/s", lambda m: m.samples_per_s, higher_is_better=True),
    "tokens_per_s": Metric("tokens/s", lambda m: m.tokens_per_s, higher_is_better=True),
    "steps_per_s": Metric("steps/s", lambda m: 1000 / m.step_ms_p50, higher_is_better=True),
    "step_ms_p50": Metric("step ms p50", lambda m: m.step_ms_p50),
    "step_ms_p95": Metric("step ms p95", lambda m: m.step_ms_p95),
    "memory_bytes": Metric("memory MB", lambda m: float(m.memory_bytes), 1 / _MB),
    "nvml_memory_bytes": Metric("NVML memory MB", lambda m: m.nvml_memory_bytes, 1 / _MB),
    "predicted_memory_bytes": Metric("predicted memory MB", lambda m: m.predicted_memory_bytes, 1 / _MB),
    "trainable_parameters": Metric("trained M", lambda m: float(m.trainable_parameters), 1e-6, exact=True),
    "trainable_ratio": Metric("trained %", lambda m: m.trainable_ratio, 100, exact=True),
    "final_rank": Metric("ranks in all", lambda m: float(m.ranks.final_total_rank) if m.ranks else None, exact=True),
    "unstable_steps": Metric("unstable steps", lambda m: float(m.unstable_steps)),
    "accuracy_int8": _score("accuracy % int8", _int8_accuracy),
    "request_ms_fp32": Metric("request ms fp32", _request_ms("fp32")),
    "request_ms_int8": Metric("request ms int8", _request_ms("int8")),
    "capacity_rps": _of_load_test("capacity rps", lambda served: served.capacity_rps, higher_is_better=True),
    "usd_per_million": _of_load_test(
        "floor $ per million", lambda served: served.usd_per_million, higher_is_better=False
    ),
}
