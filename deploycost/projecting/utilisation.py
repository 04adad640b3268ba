"""How far from the speed of light a setting runs, interpolated from evidence that is near to it.

The time of a batch is what the device's peak rates allow plus a fixed cost per layer, times a factor. On CPUs what is
elementwise adds to it, at a share of the peak, and cores that work on one request together lose some of their work. The
logarithm of that factor is a Gaussian process (Rasmussen and Williams, 2006): a sum of what is common to a class of
runtimes, to a device, to both, and to like sizes of work. Near evidence decides where there is some; far from it the
mean does, and the deviation says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycost.projecting.observations import Setting
from deploycost.projecting.work import work_of

Array = NDArray[np.float64]
# Numbers of names, each of which counts beside its place among the names of a setting.
_Codes = dict[tuple[int, str], int]
# What a layer costs beyond its arithmetic, by how much a runtime fuses: the mean's own parameters.
LAYER_COSTS = ("fused", "graph", "eager", "cpu")
COMPONENTS = (
    "work", "class_work", "device_work", "device", "device_size", "device_class", "device_class_precision_work",
    "class_precision", "device_precision", "label_work", "source_work", "place_label", "noise",
)  # fmt: skip
# Of log ideal time per layer, log tokens in the batch, log tokens of a text, log width; of the ideal time alone; and of
# a device's rate, rate per byte, rate per watt, kind and cores.
LENGTHS = (
    "layer_time", "batch_tokens", "tokens", "hidden", "size", "rate", "rate_per_byte", "rate_per_watt", "is_cpu",
    "cores",
)  # fmt: skip
_USUAL_WATTS = 200.0
# How far all that was ever measured may lie from the mean together: little, since the mean is arithmetic.
_LEVEL_DEVIATION = 0.2
# The most of its peak that anything keeps up.
_LEAST_OVER_IDEAL = 1.05
# Rows of a triangular matrix that are inverted as they are.
_INVERTED_AT_ONCE = 64
# The names of a setting that decide what it shares with another.
_NAMES = ("class", "device", "precision", "label", "place", "source")


@dataclass(frozen=True)
class Parameters:
    """What the fit found: seconds per layer, the share of its peak a device keeps up, deviations and length scales.

    Of CPUs: `cpu_peak_ratio` is their share of the peak, an elementwise operation takes as long as `elementwise_cost`
    of matrix products in fp32, and m cores do the work of m to the power of 1 - `core_loss` on one request.
    """

    layer_seconds: dict[str, float]
    peak_ratio: float
    cpu_peak_ratio: float
    elementwise_cost: float
    core_loss: float
    deviations: dict[str, float]
    lengths: dict[str, float]


class _Features(NamedTuple):
    """What decides how much settings share: `work` (n, 4), `device` (n, 5) and codes of their names (6, n)."""

    work: Array
    device: Array
    names: NDArray[np.intp]

    def at(self, places: Sequence[int]) -> _Features:
        """Those of some of the settings."""
        return _Features(self.work[places], self.device[places], self.names[:, places])


class Prediction(NamedTuple):
    """Means and variances of log seconds per batch, as new measurements of some settings would come out.

    `features` decide what they share, and `explained` is the root of what the evidence explains of that.
    """

    mean: Array
    variance: Array
    features: _Features
    explained: Array

    def at(self, places: Sequence[int]) -> Prediction:
        """Those of some of the settings."""
        return Prediction(self.mean[places], self.variance[places], self.features.at(places), self.explained[:, places])


@dataclass(frozen=True)
class _Points:
    """Settings as numbers: `ideal_s`, whether they are CPUs, `elementwise_s` at the peak, `cores` on one request and
    `layers` are (n,)."""

    features: _Features
    ideal_s: Array
    is_cpu: NDArray[np.bool_]
    elementwise_s: Array
    cores: Array
    layers: Array
    layer_costs: list[str]


def ideal_seconds(setting: Setting) -> float:
    """The least time of a batch: its matrix products at the peak rate, or its weights through the memory."""
    work = work_of(setting.shape, setting.batch, setting.tokens, setting.precision)
    place = setting.place
    return max(work.counted_flops / place.rate(setting.precision), work.weight_bytes / place.bytes_per_s)


def _points(settings: Sequence[Setting], codes: _Codes) -> _Points:
    ideal = [ideal_seconds(each) for each in settings]
    layers = np.array([float(each.shape.layers) for each in settings])
    work = [
        [second / each.shape.layers, each.batch * each.tokens, each.tokens, each.shape.hidden]
        for second, each in zip(ideal, settings, strict=True)
    ]
    return _Points(
        features=_Features(
            work=np.log(np.array(work).reshape(-1, 4)),
            device=np.array([_device_features(each) for each in settings]).reshape(-1, 5),
            names=_name_codes(settings, codes),
        ),
        ideal_s=np.array(ideal),
        is_cpu=np.array([each.place.device.kind == "cpu" for each in settings], dtype=bool),
        elementwise_s=np.array([_elementwise_seconds(each) for each in settings]),
        # Streams work side by side, each on cores of its own; a thread of a core waits for no other.
        cores=np.array([1.0 if each.runtime.streams else max(1.0, each.place.cores or 1.0) for each in settings]),
        layers=layers,
        layer_costs=["cpu" if each.place.device.kind == "cpu" else each.runtime.group for each in settings],
    )


def _name_codes(settings: Sequence[Setting], codes: _Codes) -> NDArray[np.intp]:
    """The names of settings as numbers, by `codes`, which learn those that are new."""
    named = [
        (
            each.class_name, each.place.device.family, each.precision, each.runtime_label.casefold(),
            each.place_label.casefold(),
            # Whoever asks has measured nothing: no two that are unknown are one.
            each.source or f"asked {number}",
        )
        for number, each in enumerate(settings)
    ]  # fmt: skip
    found = [[codes.setdefault((place, name), len(codes)) for place, name in enumerate(names)] for names in named]
    return np.array(found, dtype=np.intp).reshape(-1, len(_NAMES)).T


def _elementwise_seconds(setting: Setting) -> float:
    """What a CPU's elementwise operations take at the rate of matrix products: of int8 they are not."""
    if setting.place.device.kind != "cpu":
        return 0.0
    work = work_of(setting.shape, setting.batch, setting.tokens, setting.precision)
    return work.elementwise_flops / setting.place.rate("fp32")


def _device_features(setting: Setting) -> list[float]:
    place = setting.place
    is_cpu = place.device.kind == "cpu"
    rate = place.rate(setting.precision)
    watts = (place.device.watts or _USUAL_WATTS) * (place.share if is_cpu else 1)
    return [
        float(np.log(rate)),
        float(np.log(rate / place.bytes_per_s)),
        float(np.log(rate / watts)),
        3.0 if is_cpu else 0.0,
        float(np.log(place.cores or 1)),
    ]


class Utilisation:
    """Evidence under given parameters: from settings to the logarithm of their seconds per batch."""

    def __init__(self, parameters: Parameters, settings: Sequence[Setting], log_seconds: Sequence[float]) -> None:
        self._parameters = parameters
        self._codes: _Codes = {}
        self._points = _points(settings, self._codes)
        self.log_seconds = np.asarray(log_seconds, dtype=float)

    def predict(self, settings: Sequence[Setting]) -> tuple[Array, Array]:
        """Means and standard deviations of log seconds per batch, as a new measurement would come out."""
        told = self.prediction(settings)
        return told.mean, np.sqrt(np.maximum(told.variance, 1e-6))

    def prediction(self, settings: Sequence[Setting]) -> Prediction:
        """The same, with what `covariance` takes.

        By the factor L of the evidence's covariance K (Rasmussen and Williams, algorithm 2.1): that and one triangular
        system take a third of the time of an inverse.
        """
        points = _points(settings, self._codes)
        explained = self._factor.solved(self._covariance(self._points.features, points.features))
        mean = self._mean(points) + self._weighted @ explained
        return Prediction(
            # Nothing is faster than the speed of light, however far from all evidence.
            mean=np.maximum(mean, np.log(points.ideal_s * _LEAST_OVER_IDEAL)),
            variance=self._own_variance() - np.sum(explained**2, axis=0),
            features=points.features,
            explained=explained,
        )

    def covariance(self, one: Prediction, other: Prediction) -> Array:
        """What new measurements share with others."""
        return self._covariance(one.features, other.features) - one.explained.T @ other.explained

    def left_out(self, groups: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """Residuals and deviations of every point when its whole group is left out; `groups` part all points.

        From the inverse alone: with K^-1 in blocks, the residuals of block g are (K^-1_gg)^-1 (K^-1 r)_g, and their
        covariance is (K^-1_gg)^-1.
        """
        inverse = np.linalg.inv(self._measured)
        weighted = inverse @ (self.log_seconds - self._mean(self._points))
        residuals, deviations = np.empty(len(weighted)), np.empty(len(weighted))
        for group in groups:
            index = np.asarray(group)
            covariance = np.linalg.inv(inverse[np.ix_(index, index)])
            residuals[index] = covariance @ weighted[index]
            deviations[index] = np.sqrt(np.maximum(np.diag(covariance), 1e-9))
        return residuals, deviations

    @cached_property
    def _factor(self) -> LowerTriangle:
        return LowerTriangle(np.asarray(np.linalg.cholesky(self._measured), dtype=float))

    @cached_property
    def _weighted(self) -> Array:
        """What was measured beyond the mean, as `_explained` weighs it."""
        return self._factor.solved(self.log_seconds - self._mean(self._points))

    @property
    def _measured(self) -> Array:
        """The covariance of what was measured."""
        noise = np.eye(len(self.log_seconds)) * self._parameters.deviations["noise"] ** 2
        return self._covariance(self._points.features, self._points.features) + noise

    def _own_variance(self) -> float:
        """Of a setting with itself: every component, a level for all, and the noise of one measurement."""
        return _LEVEL_DEVIATION**2 + sum(deviation**2 for deviation in self._parameters.deviations.values())

    def _mean(self, points: _Points) -> Array:
        found = self._parameters
        per_layer = np.array([found.layer_seconds[cost] for cost in points.layer_costs])
        work_s = points.ideal_s / np.where(points.is_cpu, found.cpu_peak_ratio, found.peak_ratio)
        work_s = (work_s + found.elementwise_cost * points.elementwise_s) * points.cores**found.core_loss
        return np.log(work_s + points.layers * per_layer)

    def _covariance(self, one: _Features, other: _Features) -> Array:
        lengths = self._parameters.lengths
        work = _likeness(one.work, other.work, [lengths[name] for name in LENGTHS[:4]])
        size = _likeness(one.work[:, :1], other.work[:, :1], [lengths["size"]])
        device_like = _likeness(one.device, other.device, [lengths[name] for name in LENGTHS[5:]])
        # Which names of a pair are the same is one number, by which the sums over components are looked up: that takes
        # a third of the time of a matrix for each component.
        pairs = np.zeros(work.shape, dtype=np.intp)
        for place, (left, right) in enumerate(zip(one.names, other.names, strict=True)):
            pairs |= (left[:, None] == right[None, :]).astype(np.intp) << place
        flat, with_work, with_size = self._sums_of_variances
        device_like *= self._parameters.deviations["device_work"] ** 2
        device_like += with_size[pairs]
        device_like *= size
        work *= with_work[pairs]
        work += device_like
        work += flat[pairs]
        return work

    @cached_property
    def _sums_of_variances(self) -> tuple[Array, Array, Array]:
        """What two settings share by which names are the same, bit by bit: in any case, of like work, of like size."""
        variance = {name: deviation**2 for name, deviation in self._parameters.deviations.items()}
        same = {name: np.arange(2 ** len(_NAMES)) >> place & 1 for place, name in enumerate(_NAMES)}
        device_class = same["device"] * same["class"]
        flat = (
            _LEVEL_DEVIATION**2
            + same["device"] * variance["device"]
            + device_class * variance["device_class"]
            + same["precision"] * same["class"] * variance["class_precision"]
            + same["precision"] * same["device"] * variance["device_precision"]
            + same["place"] * same["label"] * variance["place_label"]
        )
        with_work = (
            variance["work"]
            + same["class"] * variance["class_work"]
            + device_class * same["precision"] * variance["device_class_precision_work"]
            + same["label"] * variance["label_work"]
            + same["source"] * variance["source_work"]
        )
        return flat, with_work, same["device"] * variance["device_size"]


class LowerTriangle:
    """A lower triangular matrix to solve systems with, half by half: most of that is products of matrices."""

    def __init__(self, lower: Array) -> None:
        self._half = half = 0 if len(lower) <= _INVERTED_AT_ONCE else len(lower) // 2
        if half:
            self._first, self._below = LowerTriangle(lower[:half, :half]), lower[half:, :half]
            self._second = LowerTriangle(lower[half:, half:])
        else:
            self._inverse = np.asarray(np.linalg.inv(lower), dtype=float)

    def solved(self, right: Array) -> Array:
        """What the matrix times it is `right`, a vector or the columns of a matrix."""
        if not self._half:
            return self._inverse @ right
        first = self._first.solved(right[: self._half])
        return np.concatenate([first, self._second.solved(right[self._half :] - self._below @ first)])


def _likeness(one: Array, other: Array, lengths: Sequence[float]) -> Array:
    scaled, others = one / np.asarray(lengths), other / np.asarray(lengths)
    squared = scaled @ others.T
    squared *= -2
    squared += np.sum(scaled**2, 1)[:, None]
    squared += np.sum(others**2, 1)
    np.maximum(squared, 0, out=squared)
    squared *= -0.5
    return np.exp(squared, out=squared)
