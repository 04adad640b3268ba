"""How long a variant's mean request takes on each known chip, given the same request's time where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycost.errors import UserError
from deploycost.projecting.calibration import (
    Calibration,
    calibrated_device,
    calibration_file,
    observations_of,
    read_calibration,
)
from deploycost.projecting.fitted import Novelty
from deploycost.projecting.hardware import Device, Kind, Place, devices, known_place
from deploycost.projecting.observations import Setting
from deploycost.projecting.projection import Projector
from deploycost.projecting.queue import spread_of
from deploycost.projecting.utilisation import Prediction
from deploycost.projecting.variant_work import Request
from deploycost.records import LoadRecord

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Floats = NDArray[np.float64]
# Texts of one task differ in length by about this much, as the deviation of a logarithm, and their times with them.
USUAL_SPREAD = 0.35
# What an objective is where no load test says.
USUAL_SLO_MS = 100.0
# What the endpoint adds to a text's time in the model: HTTP, JSON and cutting it into tokens.
ENDPOINT_S = 0.0004
# Up to the endpoint's own most texts in a batch.
CARD_BATCHES = (1, 2, 4, 8)


class Seen(NamedTuple):
    """What a load test elsewhere says: where it was, how long a lone request took there, how service times spread.

    `device` is None where that machine is of no known kind; `architecture` is then the instruction set of its CPU.
    `planned_p95_ms` is the latency there at the share of its capacity that is planned.
    """

    device: Device | None
    cores: int
    alone_ms: float | None
    spread: float
    capacity_rps: float | None
    slo_ms: float
    architecture: str | None = None
    planned_p95_ms: float | None = None


NOTHING_SEEN = Seen(None, 1, None, USUAL_SPREAD, None, USUAL_SLO_MS)


@dataclass(frozen=True)
class Times:
    """Seconds per batch by its size, and the factor that both ends of a 90 % interval lie away.

    `first` is the setting of the smallest batch and `novelty` what is new about it; `stand_ins` is of how many known
    CPUs the one was taken to be that corrected these times, 0 where none or a known one did.
    """

    seconds: dict[int, float]
    reach: float
    first: Setting
    novelty: Novelty
    stand_ins: int = 0

    @cached_property
    def evidence(self) -> str:
        """A sentence on what the evidence is: written when it is read, since most times are only ranked."""
        told = _told(self.first, self.novelty)
        if not self.stand_ins:
            return told
        return f"{told}, corrected by a load test on a CPU in no table, which may be any of {self.stand_ins} known ones"


def seen_in(load: LoadRecord, utilisation_ratio: float = 1.0) -> Seen:
    """What a load test of a CPU says, of machines that are to be used up to such a share of their capacity."""
    points = sorted((point for point in load.curve if point.p50_ms), key=lambda point: point.rate_rps)
    # At the lowest rate that was tried hardly any request waits.
    lone = points[0] if points else None
    device = known_device(load.environment.cpu_model)
    return Seen(
        device=device,
        cores=load.server_cores,
        alone_ms=(lone.service_p50_ms or lone.p50_ms) if lone else None,
        spread=spread_of(lone.p50_ms, lone.p95_ms, USUAL_SPREAD) if lone else USUAL_SPREAD,
        capacity_rps=load.capacity_rps.value,
        slo_ms=load.slo.p95_ms,
        architecture=architecture_of(load) if device is None else None,
        planned_p95_ms=load.p95_at(utilisation_ratio * (load.capacity_rps.value or 0.0)),
    )


def architecture_of(load: LoadRecord) -> str:
    """The instruction set, as price rows name it: the last word of a platform such as `Linux x86_64`."""
    word = load.environment.platform.split()[-1].lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(word, word)


@cache
def known_device(name: str | None) -> Device | None:
    """The device of that name: as this machine was calibrated, else as the facts know it, else None."""
    if not name:
        return None
    calibration = _calibration()
    if calibration is not None and calibration.machine.cpu_model == name:
        return calibrated_device(calibration)
    place = known_place(name)
    return place and place.device


def times_on(request: Request, seen: Seen, device: Device) -> Times | None:
    """The times of a request's batches on one chip, on as many of a CPU's cores as were used where it was measured.

    None where the request's runtime or precision is of no known class.
    """
    told = times_by_chip(request, seen, device.kind)
    number = told.chips.numbers.get(device.name) if told else None
    if told is None or number is None:
        return None
    chips, seconds = told.chips, dict(zip(told.chips.sizes, told.seconds[:, number].tolist(), strict=True))
    return Times(seconds, float(chips.reach[number]), chips.first[number], chips.novelty[number], chips.stand_ins)


class Chips(NamedTuple):
    """Every chip of a kind for a request: their places by name, and the `sizes` of its batches.

    `reach`, `first` and `novelty` of each and `stand_ins` are as of `Times`.
    """

    numbers: dict[str, int]
    sizes: tuple[int, ...]
    reach: Floats
    first: list[Setting]
    novelty: list[Novelty]
    stand_ins: int


class ChipTimes(NamedTuple):
    """The times of a request's batches on every chip of a kind: seconds by size (rows) and chip (columns)."""

    chips: Chips
    seconds: Floats


@lru_cache(maxsize=1024)
def times_by_chip(request: Request, seen: Seen, kind: Kind) -> ChipTimes | None:
    """What a request takes on every chip of a kind, given what was seen; None where it has no known class there."""
    elsewhere = _setting_seen(request, seen)
    # Of a chip in no table only this is known of what it computes.
    unknown = seen.architecture if kind == "cpu" and seen.alone_ms is not None else None
    there = _everywhere(request, kind, seen.cores, elsewhere, unknown)
    if there is None:
        return None
    logs = there.logs
    if there.correction is not None:
        logs = logs + there.correction.share * (log(model_s(seen)) - there.correction.expected)
    # More texts never take less time, whatever was measured of one and of many.
    return ChipTimes(there.chips, np.exp(rising(logs.reshape(-1, len(there.chips.sizes)))).T)


def rising(rows: Floats) -> Floats:
    """The nearest rows, by least squares, that never fall from place to place.

    At each place it is the greatest, over where a pool of places may begin, of the least mean of those that reach at
    least so far (Barlow et al., 1972).
    """
    fitted, count = np.full_like(rows, -np.inf), rows.shape[1]
    for begin in range(count):
        means = np.cumsum(rows[:, begin:], axis=1) / np.arange(1, count - begin + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fitted[:, begin:] = np.maximum(fitted[:, begin:], least)
    return fitted


class Correction(NamedTuple):
    """What a value measured at a place changes elsewhere: its `share` of the difference to what was `expected` of it.

    `variances` are those that are left.
    """

    share: Floats
    expected: float
    variances: Floats


def correction(variances: Floats, covariance: Floats, means_there: Floats, variances_there: Floats) -> Correction:
    """The best linear estimate once a value is measured at one of several places, each as likely to be the one.

    `covariance` (n, p) is that with the values at the places.
    """
    common = covariance.mean(axis=1)
    # Of the value measured: what it varies at each place, and what the places differ by.
    share = common / (variances_there.mean() + means_there.var())
    return Correction(share, float(means_there.mean()), variances - share * common)


class _Everywhere(NamedTuple):
    """A request on every chip of a kind: what is expected of the logarithms of its times, those of a chip side by side,
    and what a measurement changes of that."""

    chips: Chips
    logs: Floats
    correction: Correction | None


@lru_cache(maxsize=1024)
def _everywhere(
    request: Request, kind: Kind, cores: int, elsewhere: Setting | None, unknown: str | None
) -> _Everywhere | None:
    """A request on every known chip of a kind at once, since most quotes ask for many.

    It was measured `elsewhere`, on a chip of which only the instruction set is known, or not at all.
    """
    label, precision = request.runs_as(kind)
    # On a card all artifacts of a model are one.
    before = _unmeasured(request._replace(runtime=label, precision=precision), kind, cores if kind == "cpu" else 1)
    if before is None:
        return None
    predicted, sizes = before.predicted, before.sizes
    places = [place for place, each in enumerate(before.like) if each.place.device.architecture == unknown]
    corrected = _corrected(predicted, elsewhere, places)
    variances = corrected.variances if corrected else predicted.variance
    deviations = np.sqrt(np.maximum(variances, 1e-6)).reshape(-1, len(sizes))
    first, projector = before.like[:: len(sizes)], _projector()
    novelty: list[Novelty] = [projector.novelty(setting) for setting in first]
    widths = np.array([projector.width(setting, new) for setting, new in zip(first, novelty, strict=True)])
    reach = np.exp(widths * deviations.max(axis=1))
    return _Everywhere(Chips(before.numbers, sizes, reach, first, novelty, len(places)), predicted.mean, corrected)


def _corrected(predicted: Prediction, elsewhere: Setting | None, places: Sequence[int]) -> Correction | None:
    """By a measurement elsewhere, or at one of some places."""
    if elsewhere:
        there = _predicted([elsewhere])
        covariance = _projector().covariance(predicted, there)
    elif places:
        there = predicted.at(places)
        covariance = _projector().covariance(predicted, there)
        covariance[places, range(len(places))] = there.variance  # of the measurement itself, with its noise
    else:
        return None
    return correction(predicted.variance, covariance, there.mean, there.variance)


class _Unmeasured(NamedTuple):
    """A request on every known chip of a kind before anything of it was measured: its settings chip by chip."""

    numbers: dict[str, int]
    sizes: tuple[int, ...]
    like: list[Setting]
    predicted: Prediction


@lru_cache(maxsize=64)  # some hold a megabyte
def _unmeasured(request: Request, kind: Kind, cores: int) -> _Unmeasured | None:
    devices_of_kind = [device for device in _known_devices().values() if device.kind == kind]
    sizes = (1,) if kind == "cpu" else CARD_BATCHES
    like: list[Setting] = []
    for device in devices_of_kind:
        place = Place(device, 1, float(min(cores, device.cores))) if kind == "cpu" else Place(device)
        like += [setting for size in sizes if (setting := request.on(place, size))]
    if not like:
        return None
    numbers = {device.name: number for number, device in enumerate(devices_of_kind)}
    return _Unmeasured(numbers, sizes, like, _predicted(like))


def _predicted(settings: Sequence[Setting]) -> Prediction:
    # The matrices are small: threads would wait for one another longer than they compute.
    with _threads().limit(limits=1, user_api="blas"):
        return _projector().prediction(settings)


@cache
def _threads() -> ThreadpoolController:
    """Of the libraries loaded, which takes long to find out."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _known_devices() -> dict[str, Device]:
    """Every device by name: those of the facts, and this machine as it was calibrated."""
    calibration = _calibration()
    own = calibrated_device(calibration) if calibration else None
    return devices() | ({own.name: own} if own else {})


def _setting_seen(request: Request, seen: Seen) -> Setting | None:
    if seen.device is None or seen.device.kind != "cpu" or seen.alone_ms is None:
        return None
    return request.on(Place(seen.device, 1, float(min(seen.cores, seen.device.cores))))


def model_s(seen: Seen) -> float:
    """Seconds in the model of a lone request that was seen at the endpoint."""
    alone_s = (seen.alone_ms or 0.0) / 1000
    return max(alone_s - ENDPOINT_S, alone_s / 2)


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


@lru_cache(maxsize=1024)
def _told(setting: Setting, novelty: Novelty) -> str:
    return _projector().told(setting, novelty)
