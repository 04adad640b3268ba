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
from deploycost.projecting.request_times import architecture_of, known_device
from deploycost.projecting.variant_work import Request, request_of
from deploycost.records import Figure, LoadRecord, Service, Subject
from deploycost.verdicts import Capacity
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
    assumed, by cores, on other CPUs of the measured architecture; unknown on the rest. Where no load test tells of
    latencies, p95 is projected at the share of the capacity that is planned.
    """
    here = [load for load in variant.loads if _is_on(load, offer)]
    if here:
        # The last made, should there be several; times are ISO 8601 and sort as text.
        return _measured(max(here, key=lambda load: load.finished_at), offer)
    # Of a service of the user's own it is not known what it computes.
    if not isinstance(variant, Service):
        projected = projected_capacity(variant, offer, _in_order(variant), planned)
        if projected is not None:
            return projected
    reason = _why_unknown(variant, offer)
    if reason:
        return Capacity(capacity_rps=Figure(value=None, basis="assumed"), reason=f"unknown: {reason}")
    return _scaled(_nearest(variant.loads, offer), offer)


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
    for row, (variant, own) in enumerate(zip(variants, loads, strict=True)):
        named = [load for load in own if load.environment.instance_type]
        for column, offer in enumerate(offers):
            if named and any(_is_on(load, offer) for load in named):
                carried.put_capacity(row, column, capacity_on(variant, offer))
            elif not is_projected[row, column] and not _why_unknown(variant, offer):
                load = _nearest(variant.loads, offer)
                scale = _scale(load, offer)
                carried.put(row, column, _times(load.capacity_rps.value, scale.value), load, scale.copies)
    return carried


def _request(variant: Subject) -> Request | None:
    """What one request of it computes; of a service of the user's own that is not known."""
    return None if isinstance(variant, Service) else request_of(variant)


def _in_order(variant: Subject) -> list[LoadRecord]:
    """The last made first; times are ISO 8601 and sort as text."""
    return sorted(variant.loads, key=lambda load: load.finished_at)[::-1]


def _why_unknown(variant: Subject, offer: Offer) -> str | None:
    there = f"run 'deploycost loadtest {variant.name}' on {offer.instance_type} and give its load.json with --record"
    if offer.accelerator_name:
        return f"{offer.accelerator_name} was not measured; {there}"
    if not variant.loads:
        return f"not load-tested; run 'deploycost loadtest {variant.name}'"
    measured = architecture_of(_nearest(variant.loads, offer))
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


class _Scale(NamedTuple):
    """By how much a machine carries more than what was measured, with the bands and copies behind it."""

    low: float
    value: float
    high: float
    thread: Band
    speed: Band
    kept: Band
    copies: int


def _scale(load: LoadRecord, offer: Offer) -> _Scale:
    vcpus, cores = float(offer.vcpus), load.server_cores
    copies = max(1, int(vcpus // cores))
    used_vcpus = min(vcpus, float(copies * cores))
    thread = WHOLE if offer.vcpu_is == "core" else THREAD_IN_CORES
    speed = _speed(load, offer)
    kept = RATE_KEPT_BY_COPIES if copies > 1 else WHOLE
    machines = used_vcpus / cores * float(offer.sustained_cpu_ratio)
    low, value, high = (float(machines * a * b * c) for a, b, c in zip(thread, speed, kept, strict=True))
    return _Scale(low, value, high, thread, speed, kept, copies)


def _speed(load: LoadRecord, offer: Offer) -> Band:
    """The rate of a core there over one where it was measured."""
    if _is_same_chip(load, offer):
        return SPEED_OF_SAME
    return SPEED_PER_CORE if known_device(load.environment.cpu_model) else SPEED_OF_UNKNOWN


def _scaled(load: LoadRecord, offer: Offer) -> Capacity:
    scale, measured = _scale(load, offer), load.capacity_rps
    capacity = Figure(
        value=_times(measured.value, scale.value),
        low=_times(measured.low if measured.low is not None else measured.value, scale.low),
        high=_times(measured.high if measured.high is not None else measured.value, scale.high),
        basis="assumed",
    )
    reason = _reason(load, offer, scale)
    return Capacity(capacity_rps=capacity, reason=reason, load=load, server_copies=scale.copies)


def _times(rate: float | None, factor: float) -> float | None:
    return None if rate is None else rate * factor


def _reason(load: LoadRecord, offer: Offer, scale: _Scale) -> str:
    thread, kept, copies = scale.thread, scale.kept, scale.copies
    chip = {SPEED_OF_SAME: ", the same chip", SPEED_OF_UNKNOWN: ", measured on one in no table"}.get(scale.speed, "")
    kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[offer.vcpu_is]
    parts = [
        f"assumed from {load.server_cores} measured core{'s' if load.server_cores > 1 else ''} of "
        f"{load.environment.cpu_model}: {float(offer.vcpus):g} vCPUs of {offer.cpu_model or 'an unknown CPU'}",
        f"a vCPU is {kind} and counts {thread if thread is not WHOLE else 1} of a core",
        f"speed per core times {scale.speed}{chip}",
    ]
    if copies > 1:
        parts.append(f"{copies} servers keep {kept} of their rates")
    if offer.sustained_cpu_ratio < 1:
        parts.append(f"burstable: only {float(offer.sustained_cpu_ratio):g} of each vCPU may be used without end")
    return "; ".join(parts)
