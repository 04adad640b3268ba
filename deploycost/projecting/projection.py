"""What a setting would measure, with an interval that was earned on measurements that were left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import exp, hypot, log
from typing import NamedTuple

from deploycost.projecting.evidence_base import Evidence, Known, evidence_of, known_of, words_of
from deploycost.projecting.fitted import NO_FACTOR, Fitted, Novelty, read_fitted
from deploycost.projecting.observations import OWN_SOURCE, Metric, Observation, Setting, shipped_observations
from deploycost.projecting.utilisation import Array, Prediction, Utilisation, ideal_seconds
from deploycost.records import Basis

# An interval whose ends are farther apart than this says nothing that a decision could rest on.
WIDEST_RATIO = 12.0
_NEAREST_TOLD = 2
# Deviations to both ends of the 90 % of a normal distribution.
_NORMAL_WIDTH = 1.645


class Recorded(NamedTuple):
    """What a load test says of a setting: seconds in the model, the deviation of their logarithm, and in words.

    `name` is what was tested and where, `told` how the seconds come about.
    """

    setting: Setting
    seconds: float
    deviation: float
    name: str
    told: str


@dataclass(frozen=True)
class Projected:
    """Seconds per batch with the ends of a 90 % interval, and where they come from.

    `novelty` is what is new about the setting, `evidence` a sentence. `utilisation_ratio` is the share of the speed of
    light that the value is. `too_thin` where the interval is too wide to act on: measure it. `basis` is `measured`
    where a load test of this very setting told the value.
    """

    seconds: float
    low_s: float
    high_s: float
    novelty: Novelty
    utilisation_ratio: float
    evidence: str
    basis: Basis = "projected"

    @property
    def too_thin(self) -> bool:
        """Whether the evidence is too thin for an answer."""
        return self.high_s > self.low_s * WIDEST_RATIO


@dataclass(frozen=True)
class Projector:
    """The shipped evidence and the user's own, under the shipped fit.

    What was `recorded` by load tests is evidence too, and decides where the very same is asked.
    """

    own: tuple[Observation, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    shipped: tuple[Observation, ...] = field(default_factory=shipped_observations)
    fitted: Fitted = field(default_factory=read_fitted)

    @cached_property
    def _evidence(self) -> Evidence:
        recorded = (Observation(each.setting, "latency_mean", each.seconds) for each in self.recorded)
        return evidence_of((*self.shipped, *self.own, *recorded))

    @cached_property
    def _model(self) -> Utilisation:
        return Utilisation(self.fitted.parameters, self._evidence.settings, self._evidence.log_seconds)

    def project(self, settings: Sequence[Setting], metrics: Sequence[Metric]) -> list[Projected]:
        """What each setting would measure by each metric, as seconds per batch."""
        if not settings:
            return []
        if self.recorded:
            # Who load-tested is who asks: what is asked is by the same hand, unless it says by whose.
            settings = [each if each.source else replace(each, source=OWN_SOURCE) for each in settings]
        means, deviations = self._model.predict(settings)
        return [
            self._measured(record, metric)
            if (record := self._decisive.get(_work_alone(setting)))
            else self._projected(setting, metric, float(mean), float(deviation))
            for setting, metric, mean, deviation in zip(settings, metrics, means, deviations, strict=True)
        ]

    def _projected(self, setting: Setting, metric: Metric, mean: float, deviation: float) -> Projected:
        factor = self.fitted.factor(setting, metric)
        novelty = self.novelty(setting)
        reach = self.width(setting, novelty) * hypot(deviation, factor.spread)
        middle = mean + factor.log_factor
        return Projected(
            seconds=exp(middle),
            low_s=exp(middle - reach),
            high_s=exp(middle + reach),
            novelty=novelty,
            utilisation_ratio=min(1.0, ideal_seconds(setting) / exp(mean)),
            evidence=self.told(setting, novelty),
        )

    def _measured(self, record: Recorded, metric: Metric) -> Projected:
        """What a load test of this very setting says; its ends are where another measurement of it would lie."""
        factor, noise = self.fitted.factor(record.setting, metric), self.fitted.parameters.deviations["noise"]
        reach = _NORMAL_WIDTH * hypot(noise, noise, record.deviation, factor.spread)
        middle = log(record.seconds) + factor.log_factor
        by_factor = "" if factor == NO_FACTOR else f"; {metric} as it usually is to that"
        return Projected(
            seconds=exp(middle),
            low_s=exp(middle - reach),
            high_s=exp(middle + reach),
            novelty=self.novelty(record.setting),
            utilisation_ratio=min(1.0, ideal_seconds(record.setting) / record.seconds),
            evidence=f"measured by your load test of {record.name}: {record.told}{by_factor}; 90 % interval",
            basis="projected" if by_factor else "measured",
        )

    @cached_property
    def _decisive(self) -> dict[Setting, Recorded]:
        return {_work_alone(each.setting): each for each in self.recorded}

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

    @cached_property
    def _own_told(self) -> str:
        """What is known besides the shipped evidence, as the end of a clause."""
        own = f" and {len(self.own)} of your own" if self.own else ""
        if self.recorded:
            own += f", with your load tests of {', '.join(each.name for each in self.recorded)}"
        return own

    def told(self, setting: Setting, novelty: Novelty) -> str:
        """A sentence on what the evidence is."""
        device, kept = setting.place.device, self._own_told
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


def _work_alone(setting: Setting) -> Setting:
    """The setting without what its time does not depend on: sizes of embeddings and head, and how it is named."""
    return replace(
        setting,
        shape=replace(setting.shape, vocabulary=1, labels=2),
        runtime_label=setting.runtime_label.casefold(),
        place_label="",
        source="",
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
