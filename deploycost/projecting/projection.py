"""What a setting would measure, with an interval that was earned on measurements that were left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import exp, hypot, log

import numpy as np
from numpy.typing import NDArray

from deploycost.projecting.evidence_base import Evidence, Known, evidence_of, known_of, words_of
from deploycost.projecting.fitted import Fitted, Novelty, read_fitted
from deploycost.projecting.observations import Metric, Observation, Setting, shipped_observations
from deploycost.projecting.utilisation import Utilisation, ideal_seconds

# An interval whose ends are farther apart than this says nothing that a decision could rest on.
WIDEST_RATIO = 12.0
_NEAREST_TOLD = 2


@dataclass(frozen=True)
class Projected:
    """Seconds per batch with the ends of a 90 % interval, and where they come from.

    `novelty` is what is new about the setting, `evidence` a sentence. `utilisation_ratio` is the share of the speed of
    light that the value is. `too_thin` where the interval is too wide to act on: measure it.
    """

    seconds: float
    low_s: float
    high_s: float
    novelty: Novelty
    utilisation_ratio: float
    evidence: str

    @property
    def too_thin(self) -> bool:
        """Whether the evidence is too thin for an answer."""
        return self.high_s > self.low_s * WIDEST_RATIO


@dataclass(frozen=True)
class Projector:
    """The shipped evidence and the user's own, under the shipped fit."""

    own: tuple[Observation, ...] = ()
    shipped: tuple[Observation, ...] = field(default_factory=shipped_observations)
    fitted: Fitted = field(default_factory=read_fitted)

    @cached_property
    def _evidence(self) -> Evidence:
        return evidence_of((*self.shipped, *self.own))

    @cached_property
    def _model(self) -> Utilisation:
        return Utilisation(self.fitted.parameters, self._evidence.settings, self._evidence.log_seconds)

    def project(self, settings: Sequence[Setting], metrics: Sequence[Metric]) -> list[Projected]:
        """What each setting would measure by each metric, as seconds per batch."""
        if not settings:
            return []
        means, deviations = self._model.predict(settings)
        told = []
        for setting, metric, mean, deviation in zip(settings, metrics, means, deviations, strict=True):
            factor = self.fitted.factor(setting, metric)
            novelty = self.novelty(setting)
            reach = self.width(setting, novelty) * hypot(float(deviation), factor.spread)
            middle = float(mean) + factor.log_factor
            told.append(
                Projected(
                    seconds=exp(middle),
                    low_s=exp(middle - reach),
                    high_s=exp(middle + reach),
                    novelty=novelty,
                    utilisation_ratio=min(1.0, ideal_seconds(setting) / exp(float(mean))),
                    evidence=self.told(setting, novelty),
                )
            )
        return told

    def together(self, settings: Sequence[Setting]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means of log seconds per batch and their covariance, as new measurements would come out."""
        return self._model.predict_together(settings)

    def width(self, setting: Setting, novelty: Novelty) -> float:
        """How many deviations an interval of such a target reaches to both sides."""
        return self.fitted.widths[f"{setting.place.device.kind}/{novelty}"]

    def novelty(self, setting: Setting) -> Novelty:
        """What about the setting was not measured."""
        return self._known.novelty(setting)

    def as_measured(self, setting: Setting) -> Setting:
        """The setting with its runtime named as it was measured, where it was by a longer name or one spelt otherwise.

        Of several such names it is that of the nearest measurement.
        """
        named, label = words_of(setting.runtime_label), setting.runtime_label.casefold()
        alike = [each for each in self._by_class[setting.device_class] if named <= words_of(each.runtime_label)]
        if not alike or any(each.runtime_label.casefold() == label for each in alike):
            return setting
        return replace(setting, runtime_label=min(alike, key=_distance_to(setting)).runtime_label)

    @cached_property
    def _by_class(self) -> dict[tuple[str, str], list[Setting]]:
        found: dict[tuple[str, str], list[Setting]] = defaultdict(list)
        for each in self._evidence.settings:
            found[each.device_class].append(each)
        return found

    @cached_property
    def _known(self) -> Known:
        return known_of(self._evidence.settings)

    def told(self, setting: Setting, novelty: Novelty) -> str:
        """A sentence on what the evidence is."""
        device, own = setting.place.device, len(self.own)
        kept = f" and {own} of your own" if own else ""
        if novelty == "device":
            return f"{device.name} never measured: from its data sheet and other devices{kept}; 90 % interval"
        same = [each for each in self._evidence.settings if each.place.device.family == device.family]
        near = sorted((each for each in same if each.class_name == setting.class_name), key=_distance_to(setting))
        if not near:
            names = sorted({each.runtime.name for each in same})
            return (
                f"{device.family} measured with {', '.join(names)}, not with {setting.runtime_label}{kept}; "
                "90 % interval"
            )
        count = f"{len(near)} times" + (f", not as {setting.runtime_label}" if novelty == "runtime" else "")
        told = ", ".join(_named(each) for each in near[:_NEAREST_TOLD])
        return f"{device.family} with {setting.runtime.name} measured {count}, nearest {told}{kept}; 90 % interval"


def _distance_to(setting: Setting) -> Callable[[Setting], float]:
    own = log(ideal_seconds(setting))

    def distance(other: Setting) -> float:
        return (
            abs(log(ideal_seconds(other)) - own)
            + abs(log(other.tokens / setting.tokens))
            + (other.precision != setting.precision)
        )

    return distance


def _named(setting: Setting) -> str:
    shape = setting.shape
    return f"{shape.layers}L-{shape.hidden}D {setting.precision} {setting.batch} x {setting.tokens} tokens"
