"""Capacity on a machine for hire: measured there, else projected, else scaled by cores under stated assumptions.

A measurement on the very machine always stands. Where none was made it is projected (`deploycost.projecting.machines`)
if it is known which chip it has and what the model measures. What is left is scaled by its cores where the architecture
is that which was measured, and unknown where it is not. None of them is ever called measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from deploycost.carried import Carried
from deploycost.projecting.endpoints import RATE_KEPT_BY_COPIES, THREAD_IN_CORES, WHOLE, Band
from deploycost.projecting.machines import AS_USUAL, Planned, machine_of, projected_capacity, projected_rates
from deploycost.projecting.queue import Numbers
from deploycost.projecting.request_times import architecture_of, known_device
from deploycost.projecting.variant_work import Request, request_of
from deploycost.records import Basis, Figure, LoadRecord, Service, Subject
from deploycost.units import GIB
from deploycost.verdicts import OS_RESERVE_BYTES, Capacity
from pricing.book import Offer

# The same rate per core as where it was measured. Sustained clocks of machines for hire run from 2.2 to 4.5 GHz around
# 3.2, and vector units differ.
SPEED_PER_CORE = Band(0.7, 1.0, 1.4)
# Where neither that CPU nor this one is in a table: of the servers that are, nine pairs in ten differ by no more in the
# time that a text is projected to take in int8 on a core.
SPEED_OF_UNKNOWN = Band(0.4, 1.0, 2.5)
# On the same chip: what boost clocks and neighbours move.
SPEED_OF_SAME = Band(0.8, 1.0, 1.2)
# What tells one chip from others of its maker: a word with a digit, as in `Xeon Platinum 8375C`.
_CHIP_WORD = re.compile(r"\b(?=[a-z]*\d)[a-z0-9]{3,}\b")


def capacity_on(variant: Subject, offer: Offer, planned: Planned = AS_USUAL) -> Capacity:
    """What the variant carries on the machine, in requests per second, with its basis and a sentence that says why.

    Measured where a load test was made on this instance type; projected where its chip and the model's shape are known;
    assumed, by cores, on other CPUs of the measured architecture; unknown on the rest. A server that was measured on
    a part of its machine's cores is taken to stand there as often as it has room. The p95 is that at the share of the
    capacity that is planned.
    """
    here = [load for load in variant.loads if _is_on(load, offer)]
    if here:
        # The last made, should there be several; times are ISO 8601 and sort as text.
        last = max(here, key=lambda load: load.finished_at)
        copies = _room(last, offer)
        return _measured(last, offer) if copies == 1 else _filled(last, offer, copies, planned)
    # Of a service of the user's own it is not known what it computes.
    if not isinstance(variant, Service):
        projected = projected_capacity(variant, offer, _in_order(variant), planned)
        if projected is not None:
            return projected
    reason = _why_unknown(variant, offer)
    if reason:
        return Capacity(capacity_rps=Figure(value=None, basis="assumed"), reason=f"unknown: {reason}")
    return _scaled(_nearest(_of_cpus(variant), offer), offer, planned)


def carried_on(variants: Sequence[Subject], offers: Sequence[Offer], planned: Planned = AS_USUAL) -> Carried:
    """The same of every variant (rows) on every machine (columns): what ranks them, without the reasons."""
    loads = [_in_order(variant) for variant in variants]
    carried = Carried.unknown(len(variants), len(offers), [load for own in loads for load in own])
    machines = {column: machine for column, offer in enumerate(offers) if (machine := machine_of(offer))}
    is_projected = np.zeros(carried.rps.shape, dtype=np.bool_)
    on_known, is_projected[:, list(machines)] = projected_rates(
        [_request(variant) for variant in variants], loads, list(machines.values()), planned
    )
    carried.put_columns(list(machines), on_known)
    for row, variant in enumerate(variants):
        named = [load for load in variant.loads if load.environment.instance_type]
        for column, offer in enumerate(offers):
            if named and any(_is_on(load, offer) for load in named):
                carried.put_capacity(row, column, capacity_on(variant, offer, planned))
            elif not is_projected[row, column] and not _why_unknown(variant, offer):
                load = _nearest(_of_cpus(variant), offer)
                scale, p95_ms = _scale(load, offer), _planned_p95_ms(load, planned)
                rps = _times(load.capacity_rps.value, scale.all.value)
                carried.put(row, column, rps, _times(p95_ms, 1 / scale.one.value), load, scale.copies)
    return carried


def _request(variant: Subject) -> Request | None:
    """What one request of it computes; of a service of the user's own that is not known."""
    return None if isinstance(variant, Service) else request_of(variant)


def _in_order(variant: Subject) -> list[LoadRecord]:
    """Those that tell of CPUs, the last made first; times are ISO 8601 and sort as text."""
    return sorted(_of_cpus(variant), key=lambda load: load.finished_at)[::-1]


def _of_cpus(variant: Subject) -> list[LoadRecord]:
    return [load for load in variant.loads if not load.on_gpu]


def _why_unknown(variant: Subject, offer: Offer) -> str | None:
    there = f"run 'deploycost loadtest {variant.name}' on {offer.instance_type} and give its load.json with --record"
    if offer.accelerator_name:
        return f"{offer.accelerator_name} was not measured; {there}"
    if not _of_cpus(variant):
        tested = "load-tested on a GPU alone; on a CPU " if variant.loads else "not load-tested; "
        return f"{tested}run 'deploycost loadtest {variant.name}'"
    measured = architecture_of(_nearest(_of_cpus(variant), offer))
    if offer.architecture not in (None, measured):
        return (
            f"measured on {measured}, and {offer.cpu_model} is {offer.architecture}, which computes otherwise; {there}"
        )
    return None


def _nearest(loads: Sequence[LoadRecord], offer: Offer) -> LoadRecord:
    """The load test to scale from: on the same chip, else on the same kind of CPU, else the first there is."""
    return max(loads, key=lambda load: (_is_same_chip(load, offer), architecture_of(load) == offer.architecture))


def _is_same_chip(load: LoadRecord, offer: Offer) -> bool:
    """Whether the CPU measured has all that tells the offer's from others; asked of those in no table alone."""
    there = _chip_words(offer.cpu_model or "")
    return bool(there) and there <= _chip_words(load.environment.cpu_model)


@lru_cache(maxsize=1024)
def _chip_words(cpu_model: str) -> frozenset[str]:
    return frozenset(_CHIP_WORD.findall(cpu_model.casefold()))


def _is_on(load: LoadRecord, offer: Offer) -> bool:
    named = (load.environment.instance_type or "").lower()
    return named in (offer.instance_type.lower(), f"{offer.cloud}-{offer.instance_type}".lower())


def _measured(load: LoadRecord, offer: Offer) -> Capacity:
    reason = f"measured on {offer.instance_type}, server on {load.server_cores} of {float(offer.vcpus):g} vCPUs"
    return Capacity(capacity_rps=load.capacity_rps, reason=reason, load=load, server_copies=1)


def _room(load: LoadRecord, offer: Offer) -> int:
    """How many of the measured servers the machine that they were measured on has room for."""
    if load.on_gpu or offer.accelerator_name:
        return 1
    copies = _copies(load, offer)
    if load.memory_bytes is not None and load.memory_bytes.peak:
        copies = min(copies, int((float(offer.memory_gib) * GIB - OS_RESERVE_BYTES) // load.memory_bytes.peak))
    return max(1, copies)


def _filled(load: LoadRecord, offer: Offer, copies: int, planned: Planned) -> Capacity:
    """A machine on which one server was measured, with several of them: they carry no less than the one."""
    thread, sustained = _thread(offer), float(offer.sustained_cpu_ratio)
    each = Band(*(a * b for a, b in zip(thread, RATE_KEPT_BY_COPIES, strict=True)))
    times = Band(*(max(1.0, copies * sustained * one) for one in each))
    burstable = f", burstable: only {sustained:g} of each may be used without end" if sustained < 1 else ""
    reason = (
        f"projected from the server measured on {load.server_cores} of the {float(offer.vcpus):g} vCPUs of "
        f"{offer.instance_type}: {copies} of them carry {times} times as much, no less than the one; they keep "
        f"{RATE_KEPT_BY_COPIES} of their rates, {_thread_told(offer)}{burstable}"
    )
    return Capacity(
        capacity_rps=_multiplied(load.capacity_rps, times, "projected"),
        reason=reason,
        load=load,
        server_copies=copies,
        p95_ms=_slowed_ms(load, each, planned, "projected"),
    )


def _copies(load: LoadRecord, offer: Offer) -> int:
    return max(1, int(float(offer.vcpus) // load.server_cores))


class _Scale(NamedTuple):
    """By how much a machine carries more than what was measured, with the bands and copies behind it."""

    machines: float
    thread: Band
    speed: Band
    kept: Band
    copies: int

    @property
    def one(self) -> Band:
        """How fast each server is, over the one that was measured."""
        return Band(*(a * b * c for a, b, c in zip(self.thread, self.speed, self.kept, strict=True)))

    @property
    def all(self) -> Band:
        """How much all of them carry, over the one."""
        return Band(*(self.machines * each for each in self.one))


def _scale(load: LoadRecord, offer: Offer) -> _Scale:
    vcpus, cores, copies = float(offer.vcpus), load.server_cores, _copies(load, offer)
    used_vcpus = min(vcpus, float(copies * cores))
    kept = RATE_KEPT_BY_COPIES if copies > 1 else WHOLE
    machines = used_vcpus / cores * float(offer.sustained_cpu_ratio)
    return _Scale(machines, _thread(offer), _speed(load, offer), kept, copies)


def _thread(offer: Offer) -> Band:
    return WHOLE if offer.vcpu_is == "core" else THREAD_IN_CORES


def _thread_told(offer: Offer) -> str:
    kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[offer.vcpu_is]
    return f"a vCPU is {kind} and counts {1 if offer.vcpu_is == 'core' else THREAD_IN_CORES} of a core"


def _slowed_ms(load: LoadRecord, speed: Band, planned: Planned, basis: Basis) -> Figure:
    """The p95 at the planned share of the capacity: a queue is as many times as long as everything in it takes."""
    slowest, usual, fastest = (1 / each for each in speed)
    return _multiplied(Figure(value=_planned_p95_ms(load, planned)), Band(fastest, usual, slowest), basis)


def _planned_p95_ms(load: LoadRecord, planned: Planned) -> float | None:
    return load.p95_at(planned.utilisation_ratio * (load.capacity_rps.value or 0.0))


def _multiplied(measured: Figure, band: Band, basis: Basis) -> Figure:
    """A figure with its interval, if it has one, as many times over."""
    low = measured.low if measured.low is not None else measured.value
    high = measured.high if measured.high is not None else measured.value
    value, low, high = map(_times, (measured.value, low, high), (band.value, band.low, band.high))
    return Figure(value=value, low=low, high=high, basis=basis)


def _times(measured: float | None, factor: Numbers) -> float | None:
    return None if measured is None else measured * float(factor)


def _speed(load: LoadRecord, offer: Offer) -> Band:
    """The rate of a core there over one where it was measured."""
    if _is_same_chip(load, offer):
        return SPEED_OF_SAME
    return SPEED_PER_CORE if known_device(load.environment.cpu_model) else SPEED_OF_UNKNOWN


def _scaled(load: LoadRecord, offer: Offer, planned: Planned) -> Capacity:
    scale = _scale(load, offer)
    return Capacity(
        capacity_rps=_multiplied(load.capacity_rps, scale.all, "assumed"),
        reason=_reason(load, offer, scale),
        load=load,
        server_copies=scale.copies,
        p95_ms=_slowed_ms(load, scale.one, planned, "assumed"),
    )


def _reason(load: LoadRecord, offer: Offer, scale: _Scale) -> str:
    kept, copies = scale.kept, scale.copies
    chip = {SPEED_OF_SAME: ", the same chip", SPEED_OF_UNKNOWN: ", measured on one in no table"}.get(scale.speed, "")
    parts = [
        f"assumed from {load.server_cores} measured core{'s' if load.server_cores > 1 else ''} of "
        f"{load.environment.cpu_model}: {float(offer.vcpus):g} vCPUs of {offer.cpu_model or 'an unknown CPU'}",
        _thread_told(offer),
        f"speed per core times {scale.speed}{chip}",
    ]
    if copies > 1:
        parts.append(f"{copies} servers keep {kept} of their rates")
    if offer.sustained_cpu_ratio < 1:
        parts.append(f"burstable: only {float(offer.sustained_cpu_ratio):g} of each vCPU may be used without end")
    return "; ".join(parts)
