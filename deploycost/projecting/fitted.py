"""What the offline fit found, as it is shipped: read in a moment, written by `deploycost.projecting.fit`."""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from deploycost.projecting.hardware import DATA_FOLDER
from deploycost.projecting.observations import Metric, Setting
from deploycost.projecting.utilisation import Parameters
from deploycost.records import Record

FITTED_FILE = DATA_FOLDER / "fitted.json"
# What is new about a target: its device, its runtime (by its very name) on a known device, or only its length, batch
# or model.
Novelty = Literal["device", "runtime", "length"]
NOVELTIES: tuple[Novelty, ...] = get_args(Novelty)


class MetricFactor(Record):
    """The logarithm of what a metric is over a batch's time, and the deviation of it."""

    log_factor: float
    spread: float


# Of a metric that was never measured beside another on such a chip: what latencies of one request at a time do.
_USUAL_FACTORS: dict[Metric, MetricFactor] = {
    "throughput": MetricFactor(log_factor=0.0, spread=0.0),
    "latency_mean": MetricFactor(log_factor=0.0, spread=0.0),
    "latency_p50": MetricFactor(log_factor=0.0, spread=0.05),
    "latency_p90": MetricFactor(log_factor=0.015, spread=0.05),
    "latency_p95": MetricFactor(log_factor=0.02, spread=0.05),
    "latency_p99": MetricFactor(log_factor=0.05, spread=0.1),
    "latency_compute_mean": MetricFactor(log_factor=-0.05, spread=0.05),
}
NO_FACTOR = MetricFactor(log_factor=0.0, spread=0.0)


class Fitted(Record):
    """Parameters, factors by `class/metric` and `kind/metric`, interval widths in deviations by `kind/novelty`."""

    parameters: Parameters
    factors: dict[str, MetricFactor]
    widths: dict[str, float]

    def factor(self, setting: Setting, metric: Metric) -> MetricFactor:
        """What the metric is over the time of a batch."""
        for name in (f"{setting.class_name}/{metric}", f"{setting.place.device.kind}/{metric}"):
            if name in self.factors:
                return self.factors[name]
        return _USUAL_FACTORS[metric]


@cache
def read_fitted() -> Fitted:
    """The shipped fit."""
    return Fitted.model_validate_json(FITTED_FILE.read_text(encoding="utf-8"))
