"""How long a variant's mean request takes on each known chip, given the same request's time where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

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
from deploycost.projecting.hardware import Device, Kind, Place, devices, find_place
from deploycost.projecting.observations import Setting
from deploycost.projecting.projection import Projector
from deploycost.projecting.queue import spread_of
from deploycost.projecting.variant_work import Request
from deploycost.records import LoadRecord
from deploycost.stats import isotonic

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
    """

    device: Device | None
    cores: int
    alone_ms: float | None
    spread: float
    capacity_rps: float | None
    slo_ms: float
    architecture: str | None = None


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
        told = _projector().told(self.first, self.novelty)
        if not self.stand_ins:
            return told
        return f"{told}, corrected by a load test on a CPU in no table, which may be any of {self.stand_ins} known ones"


def seen_in(load: LoadRecord | None) -> Seen:
    """What a load test says; the usual where there is none."""
    if load is None:
        return NOTHING_SEEN
    points = sorted((point for point in load.curve if point.p50_ms), key=lambda point: point.rate_rps)
    # At the lowest rate that was tried hardly any request waits.
    lone = points[0] if points else None
    device = known_device(load.environment.gpu_model or load.environment.cpu_model)
    return Seen(
        device=device,
        cores=load.server_cores,
        alone_ms=(lone.service_p50_ms or lone.p50_ms) if lone else None,
        spread=spread_of(lone.p50_ms, lone.p95_ms, USUAL_SPREAD) if lone else USUAL_SPREAD,
        capacity_rps=load.capacity_rps.value,
        slo_ms=load.slo.p95_ms,
        architecture=architecture_of(load) if device is None and load.environment.gpu_model is None else None,
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
    try:
        return find_place(name).device
    except UserError:
        return None


@lru_cache(maxsize=100_000)
def times_on(request: Request, seen: Seen, device: Device) -> Times | None:
    """The times of a request's batches on one chip, on as many of a CPU's cores as were used where it was measured.

    None where the request's runtime or precision is of no known class.
    """
    told = _estimates(request, seen, device.kind)
    chip = told.chips.get(device.name)
    if chip is None:
        return None
    logs = [told.means[place] for place in chip.places]
    if any(later < before for before, later in pairwise(logs)):
        # More texts never take less time, whatever was measured of one and of many.
        samples = [(float(size), mean, 1.0) for size, mean in zip(chip.sizes, logs, strict=True)]
        logs = [value for _, value in isotonic(samples)]
    reach = exp(chip.width * max(told.deviations[place] for place in chip.places))
    seconds = {size: exp(value) for size, value in zip(chip.sizes, logs, strict=True)}
    return Times(seconds, reach, chip.first, chip.novelty, told.stand_ins)


class _Estimates(NamedTuple):
    """Means and deviations of log seconds, the chips that they are of, and how many stand-ins told."""

    means: list[float]
    deviations: list[float]
    chips: dict[str, _Chip]
    stand_ins: int = 0


@lru_cache(maxsize=1024)
def _estimates(request: Request, seen: Seen, kind: Kind) -> _Estimates:
    """What a request takes on every chip of a kind."""
    elsewhere = _setting_seen(request, seen)
    everywhere = _everywhere(request, kind, seen.cores, elsewhere)
    if everywhere is None:
        return _Estimates([], [], {})
    like, means, covariance, chips = everywhere
    variances = np.diag(covariance)
    # The request where it was seen is the last of all.
    places = [len(like)] if elsewhere is not None else _stand_ins(seen, like)
    if places:
        means, variances = corrected(means, covariance, places, log(model_s(seen)))
    deviations = np.sqrt(np.maximum(variances, 1e-6))
    return _Estimates(means.tolist(), deviations.tolist(), chips, len(places) if elsewhere is None else 0)


def corrected(
    means: NDArray[np.float64], covariance: NDArray[np.float64], places: Sequence[int], measured: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and variances once a value was measured at one of the places, each as likely to be the one: the best linear
    estimate."""
    common = covariance[:, places].mean(axis=1)
    expected = means[places]
    # Of the value measured: what it varies at each place, and what the places differ by.
    share = common / (np.diag(covariance)[places].mean() + expected.var())
    return means + share * (measured - expected.mean()), np.diag(covariance) - share * common


def _stand_ins(seen: Seen, like: Sequence[Setting]) -> list[int]:
    """The places of those CPUs that an unknown one may be: all of its instruction set."""
    if seen.alone_ms is None or seen.architecture is None or like[0].place.device.kind != "cpu":
        return []
    return [number for number, each in enumerate(like) if each.place.device.architecture == seen.architecture]


class _Chip(NamedTuple):
    """A request on one chip: the smallest batch, what is new about it and how wide its interval is in deviations, and
    the sizes of all batches with their places among all settings."""

    first: Setting
    novelty: Novelty
    width: float
    sizes: list[int]
    places: list[int]


class _Everywhere(NamedTuple):
    """A request on every chip of a kind: settings, means and covariance of log times, and the chips by name."""

    like: list[Setting]
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chips: dict[str, _Chip]


@lru_cache(maxsize=1024)
def _everywhere(request: Request, kind: Kind, cores: int, elsewhere: Setting | None) -> _Everywhere | None:
    """A request on every known chip of a kind at once, since most quotes ask for many; where it was seen comes last."""
    like: list[Setting] = []
    chips: dict[str, _Chip] = {}
    for device in _known_devices().values():
        if device.kind != kind:
            continue
        place = Place(device, 1, float(min(cores, device.cores))) if kind == "cpu" else Place(device)
        batches = (1,) if kind == "cpu" else CARD_BATCHES
        found = [setting for batch in batches if (setting := request.on(place, batch))]
        if found:
            novelty = _projector().novelty(found[0])
            places = list(range(len(like), len(like) + len(found)))
            sizes = [setting.batch for setting in found]
            chips[device.name] = _Chip(found[0], novelty, _projector().width(found[0], novelty), sizes, places)
            like += found
    if not like:
        return None
    from threadpoolctl import threadpool_limits

    # The matrices are small: threads would wait for one another longer than they compute.
    with threadpool_limits(1, user_api="blas"):
        mean, covariance = _projector().together([*like, elsewhere] if elsewhere else like)
    return _Everywhere(like, mean, covariance, chips)


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
