"""Capacity on a machine for hire by projection: the time of a request there, and what a queue makes of it.

A load test of the same variant elsewhere corrects the projection twice: as one more measurement that like machines
follow, and in how much of what the queue allows the endpoint really carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, hypot, log
from typing import NamedTuple

import numpy as np

from deploycost.errors import UserError
from deploycost.projecting.calibration import (
    Calibration,
    calibrated_device,
    calibration_file,
    observations_of,
    read_calibration,
)
from deploycost.projecting.hardware import Device, Place, devices, find_place
from deploycost.projecting.observations import Setting
from deploycost.projecting.projection import WIDEST_RATIO, Projector
from deploycost.projecting.queue import batched_capacity_within, capacity_within, spread_of
from deploycost.projecting.variant_work import runs_as, setting_on, shape_of_variant
from deploycost.records import Figure, LoadRecord, Variant
from deploycost.units import milliseconds
from deploycost.verdicts import Capacity
from pricing.book import Offer

# What an objective is where no load test says.
USUAL_SLO_MS = 100.0
# Texts of one task differ in length by about this much, as the deviation of a logarithm, and their times with them.
_USUAL_SPREAD = 0.35
# What the endpoint adds to a text's time in the model: HTTP, JSON and cutting it into tokens.
_ENDPOINT_S = 0.0004
# The share of a CPU's threads that feed a GPU's server, and the endpoint's most texts in a batch.
GPU_BATCHES = (1, 2, 4, 8)


class Band(NamedTuple):
    """A factor that is assumed, with the range that it is assumed to lie in."""

    low: float
    value: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:g} ({self.low:g} to {self.high:g})"


# Two threads of one core share its vector units, which is what inference keeps busy: together they do little more than
# one, so each counts somewhat over half.
THREAD_IN_CORES = Band(0.5, 0.6, 1.0)
WHOLE = Band(1.0, 1.0, 1.0)
# Copies of a server share caches and memory bandwidth, so several carry less than as many times one.
RATE_KEPT_BY_COPIES = Band(0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Times:
    """Seconds per batch by its size, and the factor that both ends of a 90 % interval lie away."""

    seconds: dict[int, float]
    reach: float
    evidence: str


def projected_capacity(variant: Variant, offer: Offer, loads: Sequence[LoadRecord]) -> Capacity | None:
    """What the variant carries there by projection; None where its shape or the machine's chip is not known.

    `loads` are load tests of the variant on other machines, the last made last.
    """
    shape = shape_of_variant(variant)
    place = _place_of(offer)
    if shape is None or place is None:
        return None
    load = loads[-1] if loads else None
    is_gpu = place.device.kind != "cpu"
    cores = load.server_cores if load else 1
    used = place if is_gpu else replace(place, cores=float(cores))
    settings = [setting_on(variant, shape, used, batch) for batch in (GPU_BATCHES if is_gpu else (1,))]
    known = [each for each in settings if each is not None]
    if not known:
        return None
    times = _times(known, _seen(variant, load))
    if times.reach**2 > WIDEST_RATIO:
        return _too_thin(variant, offer, times)
    return _Queue(variant, offer, load, times, place).capacity()


def _place_of(offer: Offer) -> Place | None:
    name = offer.accelerator_name or offer.cpu_model
    if not name:
        return None
    try:
        return find_place(name)
    except UserError:
        return None


def _seen(variant: Variant, load: LoadRecord | None) -> tuple[Setting, float] | None:
    """The measured time of one request elsewhere, where it is known what that machine is."""
    shape = shape_of_variant(variant)
    if load is None or shape is None:
        return None
    device = _device_of(load)
    alone_ms = alone_p50_ms(load)
    if device is None or alone_ms is None or device.kind != "cpu":
        return None
    setting = setting_on(variant, shape, Place(device, 1, float(min(load.server_cores, device.cores))))
    alone_s = max(alone_ms / 1000 - _ENDPOINT_S, alone_ms / 2000)
    return None if setting is None else (setting, log(alone_s))


def _device_of(load: LoadRecord) -> Device | None:
    name = load.environment.gpu_model or load.environment.cpu_model
    calibration = _calibration()
    if calibration is not None and calibration.machine.cpu_model == name:
        return calibrated_device(calibration)
    try:
        return find_place(name).device
    except UserError:
        return None


def alone_p50_ms(load: LoadRecord) -> float | None:
    """The median time of a request where hardly any waits: at the lowest rate that was tried."""
    points = sorted((point for point in load.curve if point.p50_ms is not None), key=lambda point: point.rate_rps)
    if not points:
        return None
    return points[0].service_p50_ms or points[0].p50_ms


@cache
def _calibration() -> Calibration | None:
    try:
        return read_calibration() if calibration_file().exists() else None
    except UserError:
        return None  # of an older format: as if it had not been made


@cache
def _projector() -> Projector:
    calibration = _calibration()
    return Projector(own=tuple(observations_of(calibration)) if calibration else ())


@cache
def _all_times(like: tuple[Setting, ...]) -> tuple[dict[tuple[str, int], int], np.ndarray, np.ndarray]:
    """Of settings that differ in where they run only: their rows, log means and covariance, for all at once."""
    rows = {(each.place.device.name, each.batch): number for number, each in enumerate(like)}
    return rows, *_projector().together(like)


def _times(settings: Sequence[Setting], seen: tuple[Setting, float] | None) -> Times:
    """The times of one place's batches, given what was seen elsewhere."""
    first = settings[0]
    like = _everywhere(first)
    extra = (seen[0],) if seen else ()
    rows, mean, covariance = _all_times((*like, *extra))
    index = [rows[each.place.device.name, each.batch] for each in settings]
    means, variances = mean[index], np.diag(covariance)[index]
    if seen:
        across = covariance[index, -1] / covariance[-1, -1]
        means = means + across * (seen[1] - mean[-1])
        variances = variances - across * covariance[index, -1]
    projector = _projector()
    novelty = projector.novelty(first)
    deviation = float(np.sqrt(np.maximum(variances, 1e-6)).max())
    seconds = {each.batch: float(exp(value)) for each, value in zip(settings, means, strict=True)}
    return Times(seconds, exp(projector.width(first, novelty) * deviation), projector.told(first, novelty))


@cache
def _everywhere(setting: Setting) -> tuple[Setting, ...]:
    """The same request on every known device of that kind: most quotes ask for many, and all cost little more."""
    is_cpu = setting.place.device.kind == "cpu"
    found = []
    for device in devices().values():
        if (device.kind == "cpu") != is_cpu:
            continue
        if is_cpu:
            cores = min(setting.place.cores or 1.0, float(device.cores))
            found.append(replace(setting, place=Place(device, 1, cores), place_label=device.name))
        else:
            found += [
                replace(setting, place=Place(device), place_label=device.name, batch=size) for size in GPU_BATCHES
            ]
    return tuple(found)


def _too_thin(variant: Variant, offer: Offer, times: Times) -> Capacity:
    reason = (
        f"unknown: too little is known ({times.evidence}): measure it, run 'deploycost loadtest {variant.name}' on "
        f"{offer.instance_type} and give its load.json with --record"
    )
    return Capacity(capacity_rps=Figure(value=None, basis="projected"), reason=reason)


@dataclass(frozen=True)
class _Queue:
    """From times to a capacity with its interval and its sentence."""

    variant: Variant
    offer: Offer
    load: LoadRecord | None
    times: Times
    place: Place

    def capacity(self) -> Capacity:
        bands = self._bands()
        worse = exp(hypot(log(self.times.reach), *(log(band.value / band.low) for band in bands)))
        better = exp(hypot(log(self.times.reach), *(log(band.high / band.value) for band in bands)))
        slower = 1.0
        for band in bands:
            slower /= band.value
        value, low, high = (self._rate(slower * factor) for factor in (1.0, worse, 1 / better))
        return Capacity(
            capacity_rps=Figure(value=value, low=low, high=high, basis="projected"),
            reason=self._reason(bands, slower, value),
            load=None if self._is_gpu else self.load,
            server_copies=None if self._is_gpu or self.load is None else self._copies,
        )

    @property
    def _is_gpu(self) -> bool:
        return self.place.device.kind != "cpu"

    @property
    def _slo_s(self) -> float:
        return (self.load.slo.p95_ms if self.load else USUAL_SLO_MS) / 1000

    @property
    def _spread(self) -> float:
        """The measured spread of service times: at the lowest rate that was tried, where hardly any waits."""
        points = sorted(self.load.curve, key=lambda point: point.rate_rps) if self.load else []
        lone = next((point for point in points if point.p50_ms and point.p95_ms), None)
        return spread_of(lone.p50_ms, lone.p95_ms, _USUAL_SPREAD) if lone else _USUAL_SPREAD

    @property
    def _copies(self) -> int:
        return max(1, int(float(self.offer.vcpus) // (self.load.server_cores if self.load else 1)))

    def _bands(self) -> list[Band]:
        if self._is_gpu:
            return [WHOLE]
        thread = WHOLE if self.offer.vcpu_is == "core" else THREAD_IN_CORES
        return [thread, RATE_KEPT_BY_COPIES if self._copies > 1 else WHOLE]

    def _rate(self, slower: float) -> float:
        """Requests per second of the whole machine where everything takes `slower` times as long as projected."""
        if self._is_gpu:
            cards = float(self.offer.accelerator_count)
            share = min(1.0, cards)
            batch_s = {size: seconds * slower / share + _ENDPOINT_S for size, seconds in self.times.seconds.items()}
            per_card = batched_capacity_within(batch_s, 0.0, self._slo_s)
            fed = float(self.offer.vcpus) * THREAD_IN_CORES.value / _ENDPOINT_S
            return min(per_card * max(1.0, cards // 1), fed)
        service_s = self.times.seconds[1] * slower + _ENDPOINT_S
        alone = capacity_within(service_s, self._spread, self._slo_s)
        return self._copies * alone * self._kept_by_the_endpoint() * float(self.offer.sustained_cpu_ratio)

    def _kept_by_the_endpoint(self) -> float:
        """What was carried where it was measured, over what the queue allows for its time alone there."""
        if self.load is None or not self.load.capacity_rps.value:
            return 1.0
        alone_ms = alone_p50_ms(self.load)
        if alone_ms is None:
            return 1.0
        spread = self._spread
        mean_s = alone_ms / 1000 * exp(spread * spread / 2)
        allowed = capacity_within(mean_s, spread, self._slo_s)
        return self.load.capacity_rps.value / allowed if allowed else 1.0

    def _reason(self, bands: Sequence[Band], slower: float, value: float) -> str:
        label, precision = runs_as(self.variant, self.place.device.kind)
        size = max(self.times.seconds)
        told_ms = milliseconds(self.times.seconds[size] * slower * 1000)
        tokens = round(self.variant.export.mean_tokens)
        what = f"{size} texts of {tokens} tokens" if size > 1 else f"a text of {tokens} tokens"
        parts = [f"projected: {what} take {told_ms} in {label} {precision} ({self.times.evidence})"]
        if self._is_gpu:
            parts.append("the artifact is taken to be the same model exported for the GPU in fp16, not this CPU bundle")
        else:
            kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[self.offer.vcpu_is]
            parts.append(f"a vCPU is {kind} and counts {bands[0] if bands[0] is not WHOLE else 1} of a core")
            if self._copies > 1:
                parts.append(f"{self._copies} servers keep {bands[1]} of their rates")
        if self.offer.sustained_cpu_ratio < 1:
            parts.append(f"burstable: only {float(self.offer.sustained_cpu_ratio):g} of it may be used without end")
        if value == 0:
            parts.append(f"an answer takes longer than p95 within {milliseconds(self._slo_s * 1000)} allows")
        return "; ".join(parts)
