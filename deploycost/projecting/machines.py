"""Capacity on a machine for hire by projection: the time of a request there, and what a queue makes of it.

A load test of the same variant elsewhere corrects the projection twice: as one more measurement that like machines
follow, and in how much of what the queue allows the endpoint really carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, hypot, log
from typing import NamedTuple

from deploycost.projecting.hardware import Device
from deploycost.projecting.projection import WIDEST_RATIO
from deploycost.projecting.queue import (
    Batches,
    batched_capacity_within,
    batched_latency_at,
    capacity_within,
    latency_at,
)
from deploycost.projecting.request_times import (
    ENDPOINT_S,
    NOTHING_SEEN,
    USUAL_SLO_MS,
    Seen,
    Times,
    known_device,
    seen_in,
    times_on,
)
from deploycost.projecting.variant_work import Request, request_of
from deploycost.records import Figure, LoadRecord, Variant
from deploycost.units import milliseconds
from deploycost.verdicts import Capacity, Carried
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
WHOLE = Band(1.0, 1.0, 1.0)
# Copies of a server share caches and memory bandwidth, so several carry less than as many times one.
RATE_KEPT_BY_COPIES = Band(0.75, 0.9, 1.0)


class Machine(NamedTuple):
    """What of an offer decides a capacity; `cards` may be a share of one."""

    device: Device
    vcpus: float
    vcpu_is: str | None
    sustained_ratio: float
    cards: float

    @property
    def is_cpu(self) -> bool:
        """Whether its own CPU computes, not a card in it."""
        return self.device.kind == "cpu"


class Planned(NamedTuple):
    """How machines are to be used: at most so much of their capacity, with p95 within so many ms.

    A CPU's capacity that rests on a load test keeps to the objective of that test.
    """

    utilisation_ratio: float = 1.0
    slo_ms: float = USUAL_SLO_MS


AS_USUAL = Planned()


class Told(NamedTuple):
    """A capacity in requests per second with its interval, and why."""

    value: float
    low: float
    high: float
    reason: str


def projected_capacity(
    variant: Variant, offer: Offer, loads: Sequence[LoadRecord], planned: Planned
) -> Capacity | None:
    """What the variant carries there by projection; None where the model's shape or the machine's chip is not known.

    None too where evidence is too thin for a CPU that a load test can be scaled to. `loads` are load tests of the
    variant on other machines, the last made last: that on the same chip tells, else on a known one, else any. Where
    none tells latencies they are projected too, at as much of the capacity as is planned.
    """
    request, machine = request_of(variant), machine_of(offer)
    if request is None or machine is None:
        return None
    load, seen = _telling(_all_seen(loads, planned.slo_ms), machine.device, planned.slo_ms)
    times = times_on(request, seen, machine.device)
    if times is None:
        return None
    if _is_thin(times):
        return None if load and machine.is_cpu else _too_thin(variant, offer, times)
    told = _capacity(request, seen, machine)
    rests_on = load if machine.is_cpu else None
    return Capacity(
        capacity_rps=Figure(value=told.value, low=told.low, high=told.high, basis="projected"),
        reason=told.reason,
        load=rests_on,
        server_copies=_copies(machine, seen) if rests_on else None,
        p95_ms=None if rests_on else _p95_ms(request, seen, machine, planned.utilisation_ratio),
    )


def projected_rates(
    variant: Variant, machines: Sequence[Machine | None], loads: Sequence[LoadRecord], planned: Planned
) -> list[Carried | None]:
    """What ranks the same on many machines, None where it would be None: no interval is reckoned, no reason written."""
    request = request_of(variant)
    if request is None:
        return [None] * len(machines)
    on_each: list[Carried | None] = [None] * len(machines)
    all_seen = _all_seen(loads, planned.slo_ms)
    for device, numbers in _by_device(tuple(machines)).items():
        load, seen = _telling(all_seen, device, planned.slo_ms)
        times = times_on(request, seen, device)
        if times is None:
            continue
        is_thin = _is_thin(times)
        for number in numbers:
            machine = machines[number]
            assert machine is not None, "it has a device"  # noqa: S101 - for the types
            if is_thin:
                on_each[number] = None if load and machine.is_cpu else Carried(None, None, None)
            else:
                on_each[number] = _rate_on(_question(request, seen, machine, times), load, planned.utilisation_ratio)
    return on_each


def _rate_on(question: _OnCard | _OnCpu, load: LoadRecord | None, utilisation_ratio: float) -> Carried:
    usual = _usual(question.bands())
    rate_rps = question.rate(usual)
    if load and question.machine.is_cpu:
        return Carried(rate_rps, load, _copies(question.machine, question.seen))
    return Carried(rate_rps, None, None, question.p95_ms(usual, utilisation_ratio * rate_rps))


@lru_cache(maxsize=8)
def _by_device(machines: tuple[Machine | None, ...]) -> dict[Device, list[int]]:
    """The numbers of the machines with each device."""
    found: dict[Device, list[int]] = {}
    for number, machine in enumerate(machines):
        if machine is not None:
            found.setdefault(machine.device, []).append(number)
    return found


def machine_of(offer: Offer) -> Machine | None:
    """What of an offer decides a capacity; None where its chip is not known."""
    device = known_device(offer.accelerator_name or offer.cpu_model)
    if device is None:
        return None
    return Machine(
        device, float(offer.vcpus), offer.vcpu_is, float(offer.sustained_cpu_ratio), float(offer.accelerator_count)
    )


def _all_seen(loads: Sequence[LoadRecord], slo_ms: float) -> list[tuple[LoadRecord | None, Seen]]:
    """Each load test with what it says, the last made first; of none what is usual, within what is asked."""
    return [(load, seen_in(load)) for load in reversed(loads)] or [(None, NOTHING_SEEN._replace(slo_ms=slo_ms))]


def _telling(
    all_seen: Sequence[tuple[LoadRecord | None, Seen]], device: Device, slo_ms: float
) -> tuple[LoadRecord | None, Seen]:
    """The load test that tells most of a chip, of those alike the first; a card it binds to no objective."""

    def nearness(each: tuple[LoadRecord | None, Seen]) -> int:
        there = each[1].device
        return 0 if there is None or there.kind != "cpu" else 2 if there.family == device.family else 1

    load, seen = max(all_seen, key=nearness)
    return load, seen if device.kind == "cpu" else seen._replace(slo_ms=slo_ms)


def _is_thin(times: Times) -> bool:
    """Whether the ends of its interval are too far apart to act on."""
    return times.reach**2 > WIDEST_RATIO


def _too_thin(variant: Variant, offer: Offer, times: Times) -> Capacity:
    reason = (
        f"unknown: too little is known ({times.evidence}): measure it, run 'deploycost loadtest {variant.name}' on "
        f"{offer.instance_type} and give its load.json with --record"
    )
    return Capacity(capacity_rps=Figure(value=None, basis="projected"), reason=reason)


def _copies(machine: Machine, seen: Seen) -> int:
    return max(1, int(machine.vcpus // seen.cores))


@lru_cache(maxsize=100_000)
def _capacity(request: Request, seen: Seen, machine: Machine) -> Told:
    times = times_on(request, seen, machine.device)
    assert times is not None, "asked for only where there are times"  # noqa: S101 - for the types
    question = _question(request, seen, machine, times)
    usual, worst, best = _slowness(question.bands(), times.reach)
    value, low, high = (question.rate(slower) for slower in (usual, worst, best))
    parts = question.reasons(usual)
    if value == 0:
        parts.append(f"an answer takes longer than p95 within {milliseconds(seen.slo_ms)} allows")
    return Told(value, low, high, "; ".join(parts))


@lru_cache(maxsize=100_000)
def _p95_ms(request: Request, seen: Seen, machine: Machine, utilisation_ratio: float) -> Figure:
    """The latency at so much of the capacity. At each end of the interval the capacity is that end's too, as fleets
    are planned by it."""
    times = times_on(request, seen, machine.device)
    assert times is not None, "asked for only where there are times"  # noqa: S101 - for the types
    question = _question(request, seen, machine, times)
    ends = [
        question.p95_ms(slower, utilisation_ratio * question.rate(slower))
        for slower in _slowness(question.bands(), times.reach)
    ]
    # Larger batches carry more and answer later: an end of the capacity is not always that end of the latency.
    return Figure(value=ends[0], low=min(ends), high=max(ends), basis="projected")


def _slowness(bands: Sequence[Band], reach: float) -> tuple[float, float, float]:
    """How many times as long everything takes: usually, at worst and at best."""
    usual = _usual(bands)
    worse = exp(hypot(log(reach), *(log(band.value / band.low) for band in bands)))
    better = exp(hypot(log(reach), *(log(band.high / band.value) for band in bands)))
    return usual, usual * worse, usual / better


def _question(request: Request, seen: Seen, machine: Machine, times: Times) -> _OnCard | _OnCpu:
    return _OnCard(request, seen, machine, times) if machine.cards else _OnCpu(request, seen, machine, times)


def _usual(bands: Sequence[Band]) -> float:
    """How many times as long everything takes, as what is assumed is usually."""
    usual = 1.0
    for band in bands:
        usual /= band.value
    return usual


@dataclass(frozen=True)
class _OnCpu:
    """Copies of the endpoint on a CPU, each on as many cores as where it was measured."""

    request: Request
    seen: Seen
    machine: Machine
    times: Times

    def bands(self) -> list[Band]:
        """What is assumed besides: the share of a core that a vCPU is, and what copies keep."""
        thread = WHOLE if self.machine.vcpu_is == "core" else THREAD_IN_CORES
        return [thread, RATE_KEPT_BY_COPIES if _copies(self.machine, self.seen) > 1 else WHOLE]

    def rate(self, slower: float) -> float:
        """Requests per second where everything takes `slower` times as long as projected."""
        alone = capacity_within(self._service_s(slower), self.seen.spread, self.seen.slo_ms / 1000)
        return alone * self._over_alone

    def p95_ms(self, slower: float, rate_rps: float) -> float:
        """The latency at a rate of the whole machine."""
        return 1000 * latency_at(rate_rps / self._over_alone, self._service_s(slower), self.seen.spread)

    @property
    def _over_alone(self) -> float:
        """What the machine carries over what the queue allows one copy of the endpoint."""
        copies = _copies(self.machine, self.seen)
        return copies * _kept_by_the_endpoint(self.seen) * self.machine.sustained_ratio

    def _service_s(self, slower: float) -> float:
        # Fewer cores than the server had where it was measured: it takes its work in turns.
        short = max(1.0, self.seen.cores / self.machine.vcpus)
        return (self.times.seconds[1] * slower + ENDPOINT_S) * short

    def reasons(self, slower: float) -> list[str]:
        """Why, in parts of a sentence."""
        label, precision = self.request.runs_as("cpu")
        told_ms = milliseconds(self.times.seconds[1] * slower * 1000)
        thread, kept = self.bands()
        kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[self.machine.vcpu_is]
        parts = [
            f"projected: a text of {self.request.tokens} tokens takes {told_ms} in {label} {precision} "
            f"({self.times.evidence})",
            f"a vCPU is {kind} and counts {thread if thread is not WHOLE else 1} of a core",
        ]
        if kept is not WHOLE:
            parts.append(f"{_copies(self.machine, self.seen)} servers keep {kept} of their rates")
        if self.machine.sustained_ratio < 1:
            parts.append(f"burstable: only {self.machine.sustained_ratio:g} of each vCPU may be used without end")
        return parts


@dataclass(frozen=True)
class _OnCard:
    """One endpoint for each GPU or accelerator, fed by the machine's CPU."""

    request: Request
    seen: Seen
    machine: Machine
    times: Times

    def bands(self) -> list[Band]:
        """Nothing is assumed but what the reason says."""
        return [WHOLE]

    def rate(self, slower: float) -> float:
        """Requests per second where everything takes `slower` times as long as projected."""
        per_card = batched_capacity_within(self._batch_s(slower), self.seen.slo_ms / 1000)
        return min(per_card * self._endpoints, self._fed_rps())

    def p95_ms(self, slower: float, rate_rps: float) -> float:
        """The latency at a rate of the whole machine."""
        return 1000 * batched_latency_at(rate_rps / self._endpoints, self._batch_s(slower))

    @property
    def _endpoints(self) -> float:
        return max(1.0, self.machine.cards // 1)

    def _batch_s(self, slower: float) -> Batches:
        share = min(1.0, self.machine.cards)
        return tuple((size, seconds * slower / share + ENDPOINT_S) for size, seconds in self.times.seconds.items())

    def reasons(self, slower: float) -> list[str]:
        """Why, in parts of a sentence."""
        label, precision = self.request.runs_as(self.machine.device.kind)
        size = max(self.times.seconds)
        told_ms = milliseconds(self.times.seconds[size] * slower * 1000)
        parts = [
            f"projected: {size} texts of {self.request.tokens} tokens take {told_ms} in {label} {precision} on "
            f"{self.machine.device.name} ({self.times.evidence})",
            f"taken to serve the same model exported for it in {precision}, not this CPU artifact",
        ]
        if self.rate(slower) >= self._fed_rps():
            parts.append(f"its {self.machine.vcpus:g} vCPUs feed no more than that")
        return parts

    def _fed_rps(self) -> float:
        """What the CPU prepares: each request takes of it what the endpoint adds."""
        return self.machine.vcpus * THREAD_IN_CORES.value / ENDPOINT_S


@lru_cache(maxsize=4096)
def _kept_by_the_endpoint(seen: Seen) -> float:
    """What was carried where it was measured, over what the queue allows for a lone request's time there."""
    if not seen.capacity_rps or seen.alone_ms is None:
        return 1.0
    mean_s = seen.alone_ms / 1000 * exp(seen.spread**2 / 2)
    allowed = capacity_within(mean_s, seen.spread, seen.slo_ms / 1000)
    return seen.capacity_rps / allowed if allowed else 1.0
