"""What the offline fit found, as it is shipped: read in a moment, written by `deploycost.projecting.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import hypot
from typing import Literal, get_args

import numpy as np

from deploycost.projecting.hardware import DATA_FOLDER
from deploycost.projecting.observations import METRICS, Metric, Setting
from deploycost.projecting.utilisation import Parameters
from deploycost.records import Record

FITTED_FILE = DATA_FOLDER / "fitted.json"
# What is new about a target: its device, its runtime (by name, however it is spelt) on a known device, or only its
# length, batch or model.
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
# Latencies of one request at a time, and those that none of them is below.
_NO_LESS_THAN: dict[Metric, tuple[Metric, ...]] = {
    "latency_mean": (),
    "latency_p50": (),
    "latency_p90": ("latency_p50",),
    "latency_p95": ("latency_mean", "latency_p50", "latency_p90"),
    "latency_p99": ("latency_mean", "latency_p50", "latency_p90", "latency_p95"),
}


class Fitted(Record):
    """Parameters, factors by `class/metric` and `kind/metric`, interval widths in deviations by `kind/novelty`."""

    parameters: Parameters
    factors: dict[str, MetricFactor]
    widths: dict[str, float]

    def factor(self, setting: Setting, metric: Metric) -> MetricFactor:
        """What the metric is over the time of a batch; a latency that was never measured there goes by those that were.

        Where several batches run at once the time of one is as many times that of its share in the rate.
        """
        known = self._known(setting)
        if metric in known and metric not in _NO_LESS_THAN:
            return known[metric]
        if metric == "throughput":
            return _USUAL_FACTORS[metric]
        if metric not in _NO_LESS_THAN:
            mean, usual = _latency("latency_mean", known), _USUAL_FACTORS[metric]
            return MetricFactor(log_factor=mean.log_factor + usual.log_factor, spread=hypot(mean.spread, usual.spread))
        own = _latency(metric, known)
        least = max((_latency(each, known).log_factor for each in _NO_LESS_THAN[metric]), default=own.log_factor)
        return own if own.log_factor >= least else own.model_copy(update={"log_factor": least})

    def _known(self, setting: Setting) -> dict[Metric, MetricFactor]:
        """What was found of the class of runtimes, else of the kind of chip."""
        kind = setting.place.device.kind
        found = {each: self.factors.get(f"{setting.class_name}/{each}") for each in METRICS}
        return {
            each: factor
            for each in METRICS
            if (factor := found[each] or self.factors.get(f"{kind}/{each}")) is not None
        }


def _latency(metric: Metric, known: Mapping[Metric, MetricFactor]) -> MetricFactor:
    """A latency that is known, else as it usually lies between its neighbours that are."""
    if metric in known:
        return known[metric]
    usual = _USUAL_FACTORS[metric]
    near: list[Metric] = sorted((each for each in _NO_LESS_THAN if each in known), key=_usual_log_factor)
    if not near:
        return usual
    nearest = min(near, key=lambda each: abs(_usual_log_factor(each) - usual.log_factor))
    places = [_usual_log_factor(each) for each in near]
    within = min(max(usual.log_factor, places[0]), places[-1])
    value = float(np.interp(within, places, [known[each].log_factor for each in near])) + usual.log_factor - within
    apart = max(usual.spread, _USUAL_FACTORS[nearest].spread)
    return MetricFactor(log_factor=value, spread=hypot(known[nearest].spread, apart))


def _usual_log_factor(metric: Metric) -> float:
    return _USUAL_FACTORS[metric].log_factor


@cache
def read_fitted() -> Fitted:
    """The shipped fit."""
    return Fitted.model_validate_json(FITTED_FILE.read_text(encoding="utf-8"))
