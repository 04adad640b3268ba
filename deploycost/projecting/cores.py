"""Capacity on a machine for hire, from the cores that were measured.

Until machines are modelled by what they can compute, a CPU that was not measured is scaled by its cores under the
assumptions below. An accelerator that was not measured is unknown, and so is a CPU of another architecture, whose
vector units differ in kind. None of them is ever called measured.
"""

from __future__ import annotations

from typing import NamedTuple

from deploycost.records import Figure, LoadRecord, Subject
from deploycost.verdicts import Capacity
from pricing.book import Offer


class Band(NamedTuple):
    """A factor that is assumed, with the range that it is assumed to lie in."""

    low: float
    value: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:g} ({self.low:g} to {self.high:g})"


# Two threads of one core share its vector units, which is what inference keeps busy: together they do little more than
# one, so each counts somewhat over half. It counts one where the measured core was itself a thread of a rented machine.
THREAD_IN_CORES = Band(0.5, 0.6, 1.0)
WHOLE_CORE = Band(1.0, 1.0, 1.0)
# The same rate per core as where it was measured. Sustained clocks of machines for hire run from 2.2 to 4.5 GHz around
# 3.2, and vector units differ.
SPEED_PER_CORE = Band(0.7, 1.0, 1.4)
# Copies of a server share caches and memory bandwidth, so several carry less than as many times one.
RATE_KEPT_BY_COPIES = Band(0.75, 0.9, 1.0)
ONE_COPY = Band(1.0, 1.0, 1.0)


def capacity_on(variant: Subject, offer: Offer) -> Capacity:
    """What the variant carries on the machine, in requests per second, with its basis and a sentence that says why.

    Measured where a load test was made on this instance type; assumed, by cores, on other CPUs of the measured
    architecture; unknown on the rest and for variants without a load test.
    """
    here = [load for load in _loads(variant) if _is_on(load, offer)]
    if here:
        # The last made, should there be several; times are ISO 8601 and sort as text.
        return _measured(max(here, key=lambda load: load.finished_at), offer)
    reason = _why_unknown(variant, offer)
    if reason:
        return Capacity(capacity_rps=Figure(value=None, basis="assumed"), reason=f"unknown: {reason}")
    return _scaled(_loads(variant)[0], offer)


def _why_unknown(variant: Subject, offer: Offer) -> str | None:
    there = f"run 'deploycost loadtest {variant.name}' on {offer.instance_type} and give its load.json with --record"
    if offer.accelerator_name:
        return f"{offer.accelerator_name} was not measured; {there}"
    if not _loads(variant):
        return f"not load-tested; run 'deploycost loadtest {variant.name}'"
    measured = _architecture(_loads(variant)[0])
    if offer.architecture not in (None, measured):
        return (
            f"measured on {measured}, and {offer.cpu_model} is {offer.architecture}, which computes otherwise; {there}"
        )
    return None


def _architecture(load: LoadRecord) -> str:
    """The instruction set, as price rows name it: the last word of a platform such as `Linux x86_64`."""
    word = load.environment.platform.split()[-1].lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(word, word)


def _loads(variant: Subject) -> tuple[LoadRecord, ...]:
    return ((variant.load,) if variant.load else ()) + variant.elsewhere


def _is_on(load: LoadRecord, offer: Offer) -> bool:
    named = (load.environment.instance_type or "").lower()
    return named in (offer.instance_type.lower(), f"{offer.cloud}-{offer.instance_type}".lower())


def _measured(load: LoadRecord, offer: Offer) -> Capacity:
    reason = f"measured on {offer.instance_type}, server on {load.server_cores} of {float(offer.vcpus):g} vCPUs"
    return Capacity(capacity_rps=load.capacity_rps, reason=reason, load=load, server_copies=1)


def _scaled(load: LoadRecord, offer: Offer) -> Capacity:
    vcpus, cores = float(offer.vcpus), load.server_cores
    copies = max(1, int(vcpus // cores))
    used_vcpus = min(vcpus, float(copies * cores))
    thread = WHOLE_CORE if offer.vcpu_is == "core" else THREAD_IN_CORES
    kept = RATE_KEPT_BY_COPIES if copies > 1 else ONE_COPY
    machines = used_vcpus / cores * float(offer.sustained_cpu_ratio)
    low, value, high = (machines * a * b * c for a, b, c in zip(thread, SPEED_PER_CORE, kept, strict=True))
    measured = load.capacity_rps
    capacity = Figure(
        value=_times(measured.value, value),
        low=_times(measured.low if measured.low is not None else measured.value, low),
        high=_times(measured.high if measured.high is not None else measured.value, high),
        basis="assumed",
    )
    reason = _reason(load, offer, thread, kept, copies)
    return Capacity(capacity_rps=capacity, reason=reason, load=load, server_copies=copies)


def _times(rate: float | None, factor: float) -> float | None:
    return None if rate is None else rate * factor


def _reason(load: LoadRecord, offer: Offer, thread: Band, kept: Band, copies: int) -> str:
    kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[offer.vcpu_is]
    parts = [
        f"assumed from {load.server_cores} measured core{'s' if load.server_cores > 1 else ''} of "
        f"{load.environment.cpu_model}: {float(offer.vcpus):g} vCPUs of {offer.cpu_model or 'an unknown CPU'}",
        f"a vCPU is {kind} and counts {thread if thread is not WHOLE_CORE else 1} of a core",
        f"speed per core times {SPEED_PER_CORE}",
    ]
    if copies > 1:
        parts.append(f"{copies} servers keep {kept} of their rates")
    if offer.sustained_cpu_ratio < 1:
        parts.append(f"burstable: only {float(offer.sustained_cpu_ratio):g} of each vCPU may be used without end")
    return "; ".join(parts)
