"""Measurements as the model takes them: one time for each setting, by the metric that tells it best."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from deploycost.projecting.fitted import Novelty
from deploycost.projecting.observations import Metric, Observation, Setting

# Which metric tells the time of a batch, the first that a setting was measured by.
BASE_METRICS: tuple[Metric, ...] = (
    "latency_mean", "throughput", "latency_p50", "latency_compute_mean", "latency_p95", "latency_p90", "latency_p99",
)  # fmt: skip


# What tells no runtime from another, and what is one by several names.
_MAKERS_AND_KINDS = {"nvidia", "intel", "aws", "amazon", "microsoft", "google", "cuda", "gpu", "cpu"}
_SAME_WORDS = ((r"onnx ?(?:runtime|rt)|\bort\b", "onnx runtime"), (r"\btrt\b", "tensorrt"), (r"\btf\b", "tensorflow"))


class Evidence(NamedTuple):
    """One observation a setting, of the metric that tells its time best."""

    settings: list[Setting]
    log_seconds: list[float]


class Known(NamedTuple):
    """What was measured, as far as it decides what is new about a target: devices, and the names of their runtimes.

    Of each class on a device these are sets of words: whoever says fewer of them means one of them.
    """

    devices: set[str]
    runtimes: dict[tuple[str, str], set[frozenset[str]]]

    def novelty(self, setting: Setting) -> Novelty:
        """What about the setting was not measured."""
        if setting.place.device.family not in self.devices:
            return "device"
        named = words_of(setting.runtime_label)
        return "length" if any(named <= known for known in self.runtimes.get(setting.device_class, ())) else "runtime"


def known_of(settings: Iterable[Setting]) -> Known:
    """What these settings measured."""
    measured = list(settings)
    runtimes: dict[tuple[str, str], set[frozenset[str]]] = defaultdict(set)
    for each in measured:
        runtimes[each.device_class].add(words_of(each.runtime_label))
    return Known({each.place.device.family for each in measured}, runtimes)


@cache
def words_of(runtime_label: str) -> frozenset[str]:
    """The words and versions of a runtime's name, without its maker's."""
    text = runtime_label.casefold().replace("_", " ")
    for pattern, word in _SAME_WORDS:
        text = re.sub(pattern, word, text)
    return frozenset(re.findall(r"[a-z]+|\d+(?:\.\d+)*", text)) - _MAKERS_AND_KINDS


def evidence_of(observations: Iterable[Observation]) -> Evidence:
    """The settings that were measured, each with the logarithm of its time per batch."""
    by_setting: dict[Setting, dict[Metric, Observation]] = defaultdict(dict)
    for each in observations:
        by_setting[each.setting][each.metric] = each
    best = [next(known[m] for m in BASE_METRICS if m in known) for known in by_setting.values()]
    return Evidence([each.setting for each in best], [each.log_seconds for each in best])
