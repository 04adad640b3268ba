"""What a setting would measure, with an interval that was earned on measurements that were left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, hypot, log

from deploycost.projecting.evidence_base import Evidence, Known, evidence_of, known_of
from deploycost.projecting.fitted import Fitted, Novelty, read_fitted
from deploycost.projecting.observations import Metric, Observation, Setting, shipped_observations
from deploycost.projecting.utilisation import Array, Prediction, Utilisation, ideal_seconds

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

    def prediction(self, settings: Sequence[Setting]) -> Prediction:
        """What new measurements of the settings would come out at, and `covariance` of two such."""
        return self._model.prediction(settings)

    def covariance(self, one: Prediction, other: Prediction) -> Array:
        """What new measurements of the one share with those of the other."""
        return self._model.covariance(one, other)

    def width(self, setting: Setting, novelty: Novelty) -> float:
        """How many deviations an interval of such a target reaches to both sides."""
        return self.fitted.widths[f"{setting.place.device.kind}/{novelty}"]

    def novelty(self, setting: Setting) -> Novelty:
        """What about the setting was not measured."""
        return self._known.novelty(setting)

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
        if novelty == "runtime":
            names = sorted({each.runtime.name for each in same})
            return (
                f"{device.family} measured with {', '.join(names)}, not with {setting.runtime_label}{kept}; "
                "90 % interval"
            )
        near = sorted((each for each in same if each.class_name == setting.class_name), key=_distance_to(setting))
        count = len(near)
        told = ", ".join(_named(each) for each in near[:_NEAREST_TOLD])
        return (
            f"{device.family} with {setting.runtime.name} measured {count} times, nearest {told}{kept}; 90 % interval"
        )


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
