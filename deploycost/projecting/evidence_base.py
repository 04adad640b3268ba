"""Measurements as the model takes them: one time for each setting, by the metric that tells it best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from deploycost.projecting.fitted import Novelty
from deploycost.projecting.observations import Metric, Observation, Setting

# Which metric tells the time of a batch, the first that a setting was measured by.
BASE_METRICS: tuple[Metric, ...] = (
    "latency_mean", "throughput", "latency_p50", "latency_compute_mean", "latency_p95", "latency_p90", "latency_p99",
)  # fmt: skip


class Evidence(NamedTuple):
    """One observation a setting, of the metric that tells its time best."""

    settings: list[Setting]
    log_seconds: list[float]


class Known(NamedTuple):
    """What was measured, as far as it decides what is new about a target: devices, and runtimes by name on them."""

    devices: set[str]
    runtimes: set[tuple[str, str]]

    def novelty(self, setting: Setting) -> Novelty:
        """What about the setting was not measured."""
        if setting.place.device.family not in self.devices:
            return "device"
        return "length" if _named_runtime(setting) in self.runtimes else "runtime"


def known_of(settings: Iterable[Setting]) -> Known:
    """What these settings measured."""
    measured = list(settings)
    return Known({each.place.device.family for each in measured}, {_named_runtime(each) for each in measured})


def _named_runtime(setting: Setting) -> tuple[str, str]:
    return setting.place.device.family, setting.runtime_label.casefold()


def evidence_of(observations: Iterable[Observation]) -> Evidence:
    """The settings that were measured, each with the logarithm of its time per batch."""
    by_setting: dict[Setting, dict[Metric, Observation]] = defaultdict(dict)
    for each in observations:
        by_setting[each.setting][each.metric] = each
    best = [next(known[m] for m in BASE_METRICS if m in known) for known in by_setting.values()]
    return Evidence([each.setting for each in best], [each.log_seconds for each in best])
