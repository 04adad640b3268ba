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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploycost.projecting.observations import Setting
from deploycost.projecting.work import work_of

Array = NDArray[np.float64]
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


@dataclass(frozen=True)
class _Points:
    """Settings as numbers: `work` (n, 4), `device` (n, 5), `ideal_s` (n,) and the codes of their names.

    `is_cpu`, `elementwise_s` at the peak, and `cores` on one request are (n,) too.
    """

    work: Array
    device: Array
    ideal_s: Array
    is_cpu: NDArray[np.bool_]
    elementwise_s: Array
    cores: Array
    layers: Array
    layer_costs: list[str]
    names: dict[str, list[Any]]


def ideal_seconds(setting: Setting) -> float:
    """The least time of a batch: its matrix products at the peak rate, or its weights through the memory."""
    work = work_of(setting.shape, setting.batch, setting.tokens, setting.precision)
    place = setting.place
    return max(work.counted_flops / place.rate(setting.precision), work.weight_bytes / place.bytes_per_s)


def _points(settings: Sequence[Setting]) -> _Points:
    ideal = np.array([ideal_seconds(each) for each in settings])
    layers = np.array([float(each.shape.layers) for each in settings])
    return _Points(
        work=np.log(
            np.array(
                [
                    [second / each.shape.layers, each.batch * each.tokens, each.tokens, each.shape.hidden]
                    for second, each in zip(ideal, settings, strict=True)
                ]
            ).reshape(-1, 4)
        ),
        device=np.array([_device_features(each) for each in settings]).reshape(-1, 5),
        ideal_s=ideal,
        is_cpu=np.array([each.place.device.kind == "cpu" for each in settings], dtype=bool),
        elementwise_s=np.array([_elementwise_seconds(each) for each in settings]),
        # Streams work side by side, each on cores of its own; a thread of a core waits for no other.
        cores=np.array([1.0 if each.runtime.streams else max(1.0, each.place.cores or 1.0) for each in settings]),
        layers=layers,
        layer_costs=["cpu" if each.place.device.kind == "cpu" else each.runtime.group for each in settings],
        names={
            "class": [each.class_name for each in settings],
            "device": [each.place.device.family for each in settings],
            "precision": [each.precision for each in settings],
            "label": [each.runtime_label.casefold() for each in settings],
            "place": [each.place_label.casefold() for each in settings],
            # Whoever asks has measured nothing: no two that are unknown are one.
            "source": [each.source or f"asked {number}" for number, each in enumerate(settings)],
        },
    )


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
        self._points = _points(settings)
        self.log_seconds = np.asarray(log_seconds, dtype=float)

    def predict(self, settings: Sequence[Setting]) -> tuple[Array, Array]:
        """Means and standard deviations of log seconds per batch, as a new measurement would come out."""
        points = _points(settings)
        mean, explained, across = self._explained(points)
        variance = self._own_variance() - np.sum(explained * across, axis=1)
        return mean, np.sqrt(np.maximum(variance, 1e-6))

    def predict_together(self, settings: Sequence[Setting]) -> tuple[Array, Array]:
        """Means, and the covariance of what new measurements of all settings would come out at."""
        points = _points(settings)
        mean, explained, across = self._explained(points)
        noise = np.eye(len(mean)) * self._parameters.deviations["noise"] ** 2
        return mean, self._covariance(points, points) + noise - explained @ across.T

    def _explained(self, points: _Points) -> tuple[Array, Array, Array]:
        across = self._covariance(points, self._points)
        explained = across @ self._inverse
        mean = self._mean(points) + explained @ (self.log_seconds - self._mean(self._points))
        # Nothing is faster than the speed of light, however far from all evidence.
        return np.maximum(mean, np.log(points.ideal_s * _LEAST_OVER_IDEAL)), explained, across

    def left_out(self, groups: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """Residuals and deviations of every point when its whole group is left out; `groups` part all points.

        From the inverse alone: with K^-1 in blocks, the residuals of block g are (K^-1_gg)^-1 (K^-1 r)_g, and their
        covariance is (K^-1_gg)^-1.
        """
        inverse = self._inverse
        weighted = inverse @ (self.log_seconds - self._mean(self._points))
        residuals, deviations = np.empty(len(weighted)), np.empty(len(weighted))
        for group in groups:
            index = np.asarray(group)
            covariance = np.linalg.inv(inverse[np.ix_(index, index)])
            residuals[index] = covariance @ weighted[index]
            deviations[index] = np.sqrt(np.maximum(np.diag(covariance), 1e-9))
        return residuals, deviations

    @cached_property
    def _inverse(self) -> Array:
        noise = np.eye(len(self.log_seconds)) * self._parameters.deviations["noise"] ** 2
        return np.asarray(np.linalg.inv(self._covariance(self._points, self._points) + noise), dtype=float)

    def _own_variance(self) -> float:
        """Of a setting with itself: every component, a level for all, and the noise of one measurement."""
        return _LEVEL_DEVIATION**2 + sum(deviation**2 for deviation in self._parameters.deviations.values())

    def _mean(self, points: _Points) -> Array:
        found = self._parameters
        per_layer = np.array([found.layer_seconds[cost] for cost in points.layer_costs])
        work_s = points.ideal_s / np.where(points.is_cpu, found.cpu_peak_ratio, found.peak_ratio)
        work_s = (work_s + found.elementwise_cost * points.elementwise_s) * points.cores**found.core_loss
        return np.log(work_s + points.layers * per_layer)

    def _covariance(self, one: _Points, other: _Points) -> Array:
        lengths = self._parameters.lengths
        work = _likeness(one.work, other.work, [lengths[name] for name in LENGTHS[:4]])
        size = _likeness(one.work[:, :1], other.work[:, :1], [lengths["size"]])
        device_like = _likeness(one.device, other.device, [lengths[name] for name in LENGTHS[5:]])
        # Which names of a pair are the same is one number, by which the sums over components are looked up: that takes
        # a third of the time of a matrix for each component.
        pairs = np.zeros((len(one.ideal_s), len(other.ideal_s)), dtype=np.intp)
        for place, name in enumerate(one.names):
            pairs |= _same(one.names[name], other.names[name]).astype(np.intp) << place
        flat, with_work, with_size = self._sums_of_variances(list(one.names))
        device_like *= self._parameters.deviations["device_work"] ** 2
        device_like += with_size[pairs]
        device_like *= size
        work *= with_work[pairs]
        work += device_like
        work += flat[pairs]
        return work

    def _sums_of_variances(self, names: Sequence[str]) -> tuple[Array, Array, Array]:
        """What two settings share by which names are the same, bit by bit: in any case, of like work, of like size."""
        variance = {name: deviation**2 for name, deviation in self._parameters.deviations.items()}
        same = {name: np.arange(2 ** len(names)) >> place & 1 for place, name in enumerate(names)}
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


def _likeness(one: Array, other: Array, lengths: Sequence[float]) -> Array:
    scaled, others = one / np.asarray(lengths), other / np.asarray(lengths)
    squared = scaled @ others.T
    squared *= -2
    squared += np.sum(scaled**2, 1)[:, None]
    squared += np.sum(others**2, 1)
    np.maximum(squared, 0, out=squared)
    squared *= -0.5
    return np.exp(squared, out=squared)


def _same(one: Sequence[Any], other: Sequence[Any]) -> NDArray[np.bool_]:
    codes = {name: code for code, name in enumerate(dict.fromkeys([*one, *other]))}
    left, right = np.array([codes[name] for name in one]), np.array([codes[name] for name in other])
    return left[:, None] == right[None, :]
