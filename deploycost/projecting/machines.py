"""Capacity on a machine for hire by projection: the time of a request there, and what a queue makes of it.

A load test of the same variant elsewhere corrects the projection twice: as one more measurement that like machines
follow, and in how much of what the queue allows the endpoint really carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple, get_args

import numpy as np

from deploycost.carried import NO_LOAD, Carried
from deploycost.projecting.endpoints import (
    RATE_KEPT_BY_COPIES,
    THREAD_IN_CORES,
    Counts,
    Flags,
    Hosts,
    OnCards,
    OnCpus,
    Tests,
    slowness,
    tests_of,
    usual_slowness,
)
from deploycost.projecting.hardware import Device, Kind
from deploycost.projecting.projection import WIDEST_RATIO
from deploycost.projecting.queue import Floats, Numbers
from deploycost.projecting.request_times import (
    CARD_BATCHES,
    NOTHING_SEEN,
    USUAL_SLO_MS,
    Seen,
    Times,
    known_device,
    seen_in,
    times_by_chip,
    times_on,
)
from deploycost.projecting.variant_work import Request, request_of
from deploycost.records import Figure, LoadRecord, Variant
from deploycost.units import milliseconds
from deploycost.verdicts import Capacity
from pricing.book import Offer


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
    """A capacity in requests per second and why it is that; the latency at as much of it as is planned; how many servers
    share the machine's CPU, 1 where its cards compute."""

    rps: Figure
    reason: str
    p95_ms: Figure
    server_copies: int


def projected_capacity(
    variant: Variant, offer: Offer, loads: Sequence[LoadRecord], planned: Planned
) -> Capacity | None:
    """What the variant carries there by projection; None where the model's shape or the machine's chip is not known.

    None too where evidence is too thin for a CPU that a load test can be scaled to. `loads` are load tests of the
    variant on other machines, the last made first: that on the same chip tells, else on a known one, else any. The
    p95 is projected too, at as much of the capacity as is planned.
    """
    request, machine = request_of(variant), machine_of(offer)
    if request is None or machine is None:
        return None
    all_seen = _all_seen(loads, planned)
    number = _telling(all_seen, machine.device)
    seen, load = all_seen[number], loads[number] if loads and machine.is_cpu else None
    times = times_on(request, seen, machine.device)
    if times is None:
        return None
    if _is_thin(times.reach):
        return None if load else _too_thin(variant, offer, times)
    told = _told(request, seen, machine, planned)
    return Capacity(
        capacity_rps=told.rps,
        reason=told.reason,
        load=load,
        server_copies=told.server_copies if load else None,
        p95_ms=told.p95_ms,
    )


def projected_rates(
    requests: Sequence[Request | None],
    loads: Sequence[Sequence[LoadRecord]],
    machines: Sequence[Machine],
    planned: Planned,
) -> tuple[Carried, Flags]:
    """What ranks the same of many variants on many machines: no interval is reckoned, no reason written.

    `requests` are the mean requests of the variants and `loads` the load tests of each, the last made first. Flagged is
    where `projected_capacity` tells something, if only that too little is known.
    """
    carried = Carried.unknown(len(requests), len(machines), [load for own in loads for load in own])
    all_seen = [_all_seen(own, planned) for own in loads]
    pairs, hosts = _pairs(requests, all_seen, machines), _hosts(machines)
    tests = tests_of([seen for own in all_seen for seen in own], planned.utilisation_ratio)
    # Of all that was seen, what a load test saw: those of `carried`, in their order.
    is_load = np.array([bool(own) for own, seen in zip(loads, all_seen, strict=True) for _ in seen], dtype=np.bool_)
    is_cpu = np.array([machine.is_cpu for machine in machines], dtype=np.bool_)
    load_of = np.where(is_cpu & is_load[pairs.seen], (np.cumsum(is_load) - 1)[pairs.seen], NO_LOAD)
    is_told, is_thin = ~np.isnan(pairs.reach), _is_thin(pairs.reach)
    place = np.nonzero(is_told & ~is_thin & is_cpu)
    cpus = OnCpus(pairs.seconds[1][place], tests.at(pairs.seen[place]), hosts.at(place[1]))
    _put_cpus(carried, place, cpus, load_of[place], planned)
    place = np.nonzero(is_told & ~is_thin & ~is_cpu)
    batch_s = {size: seconds[place] for size, seconds in pairs.seconds.items()}
    _put_cards(carried, place, OnCards(batch_s, planned.slo_ms / 1000, hosts.at(place[1])), planned)
    return carried, is_told & ~(is_thin & (load_of != NO_LOAD))


def _put_cpus(carried: Carried, place: tuple[Counts, ...], question: OnCpus, load_of: Counts, planned: Planned) -> None:
    usual = usual_slowness(question.bands())
    carried.rps[place] = rate_rps = question.rate(usual)
    carried.p95_ms[place] = question.p95_ms(usual, planned.utilisation_ratio * rate_rps)
    carried.load_of[place] = load_of
    carried.server_copies[place] = np.where(load_of != NO_LOAD, question.copies, 0)


def _put_cards(carried: Carried, place: tuple[Counts, ...], question: OnCards, planned: Planned) -> None:
    usual = usual_slowness(question.bands())
    carried.rps[place] = rate_rps = question.rate(usual)
    carried.p95_ms[place] = question.p95_ms(usual, planned.utilisation_ratio * rate_rps)


class _Pairs(NamedTuple):
    """Variants (rows) on machines (columns): seconds of a batch by its size, the reach of their interval (NaN where
    there are none), and the place of the load test that tells among all that was seen."""

    seconds: dict[int, Floats]
    reach: Floats
    seen: Counts


def _pairs(
    requests: Sequence[Request | None], all_seen: Sequence[Sequence[Seen]], machines: Sequence[Machine]
) -> _Pairs:
    chips = list(dict.fromkeys(machine.device for machine in machines))
    kinds, shape, first = np.array([chip.kind for chip in chips]), (len(requests), len(chips)), 0
    seconds, reach = {size: np.full(shape, np.nan) for size in CARD_BATCHES}, np.full(shape, np.nan)
    telling = np.zeros(shape, dtype=np.int64)
    for row, (request, seen) in enumerate(zip(requests, all_seen, strict=True)):
        telling[row] = [_telling(seen, chip) for chip in chips]
        for number, kind in product(np.unique(telling[row]), get_args(Kind)) if request else ():
            columns = np.flatnonzero((telling[row] == number) & (kinds == kind))
            told = times_by_chip(request, seen[number], kind) if columns.size else None
            if told:
                places = [told.chips.numbers[chips[column].name] for column in columns]
                reach[row, columns] = told.chips.reach[places]
                for size, on_chips in zip(told.chips.sizes, told.seconds, strict=True):
                    seconds[size][row, columns] = on_chips[places]
        telling[row] += first
        first += len(seen)
    number_of = {chip: number for number, chip in enumerate(chips)}
    chip_of = [number_of[machine.device] for machine in machines]
    return _Pairs({size: each[:, chip_of] for size, each in seconds.items()}, reach[:, chip_of], telling[:, chip_of])


def _hosts(machines: Sequence[Machine]) -> Hosts:
    return Hosts(
        vcpus=np.array([machine.vcpus for machine in machines], dtype=np.float64),
        are_cores=np.array([machine.vcpu_is == "core" for machine in machines], dtype=np.bool_),
        sustained_ratio=np.array([machine.sustained_ratio for machine in machines], dtype=np.float64),
        cards=np.array([machine.cards for machine in machines], dtype=np.float64),
    )


def machine_of(offer: Offer) -> Machine | None:
    """What of an offer decides a capacity; None where its chip is not known."""
    device = known_device(offer.accelerator_name or offer.cpu_model)
    if device is None:
        return None
    return Machine(
        device, float(offer.vcpus), offer.vcpu_is, float(offer.sustained_cpu_ratio), float(offer.accelerator_count)
    )


def _all_seen(loads: Sequence[LoadRecord], planned: Planned) -> list[Seen]:
    """What each load test says; of none what is usual, within what is asked."""
    ratio = planned.utilisation_ratio
    return [seen_in(load, ratio) for load in loads] or [NOTHING_SEEN._replace(slo_ms=planned.slo_ms)]


def _telling(all_seen: Sequence[Seen], device: Device) -> int:
    """The place of the load test that tells most of a chip, of those alike the first."""

    def nearness(place: int) -> int:
        there = all_seen[place].device
        return 0 if there is None or there.kind != "cpu" else 2 if there.family == device.family else 1

    return max(range(len(all_seen)), key=nearness)


def _is_thin(reach: Numbers) -> Flags:
    """Whether the ends of an interval are too far apart to act on."""
    return np.greater(np.square(reach), WIDEST_RATIO)


def _too_thin(variant: Variant, offer: Offer, times: Times) -> Capacity:
    reason = (
        f"unknown: too little is known ({times.evidence}): measure it, run 'deploycost loadtest {variant.name}' on "
        f"{offer.instance_type} and give its load.json with --record"
    )
    return Capacity(capacity_rps=Figure(value=None, basis="projected"), reason=reason)


@lru_cache(maxsize=100_000)
def _told(request: Request, seen: Seen, machine: Machine, planned: Planned) -> Told:
    times = times_on(request, seen, machine.device)
    assert times is not None, "asked for only where there are times"  # noqa: S101 - for the types
    if machine.is_cpu:
        tests = _test_of(seen, planned.utilisation_ratio)
        question, limit_ms = OnCpus(times.seconds[1], tests, _hosts([machine])), seen.slo_ms
    else:
        question, limit_ms = OnCards(times.seconds, planned.slo_ms / 1000, _hosts([machine])), planned.slo_ms
    slower = slowness(question.bands(), times.reach)
    rates = question.rate(slower)
    value, low, high = rates.tolist()
    parts = _why(question, request, machine, times, float(slower[0]), value)
    if value == 0:
        parts.append(f"an answer takes longer than p95 within {milliseconds(limit_ms)} allows")
    return Told(
        Figure(value=value, low=low, high=high, basis="projected"),
        "; ".join(parts),
        _latency(question, slower, planned.utilisation_ratio * rates),
        int(question.copies[0]) if isinstance(question, OnCpus) else 1,
    )


def _latency(question: OnCpus | OnCards, slower: Floats, rates: Floats) -> Figure:
    """At each end of the interval at that end of the capacity too, as fleets are planned by it."""
    p95_ms = question.p95_ms(slower, rates).tolist()
    # Larger batches carry more and answer later: an end of the capacity is not always that end of the latency.
    return Figure(value=p95_ms[0], low=min(p95_ms), high=max(p95_ms), basis="projected")


@lru_cache(maxsize=4096)
def _test_of(seen: Seen, utilisation_ratio: float) -> Tests:
    return tests_of([seen], utilisation_ratio)


def _why(
    question: OnCpus | OnCards, request: Request, machine: Machine, times: Times, slower: float, rate_rps: float
) -> list[str]:
    """In parts of a sentence."""
    label, precision = request.runs_as(machine.device.kind)
    size = max(times.seconds)
    told_ms = milliseconds(times.seconds[size] * slower * 1000)
    if isinstance(question, OnCards):
        parts = [
            f"projected: {size} texts of {request.tokens} tokens take {told_ms} in {label} {precision} on "
            f"{machine.device.name} ({times.evidence})",
            f"taken to serve the same model exported for it in {precision}, not this CPU artifact",
        ]
        if rate_rps >= question.fed_rps[0]:
            parts.append(f"its {machine.vcpus:g} vCPUs feed no more than that")
        return parts
    kind = {"thread": "a thread", "core": "a core", None: "taken for a thread"}[machine.vcpu_is]
    parts = [
        f"projected: a text of {request.tokens} tokens takes {told_ms} in {label} {precision} ({times.evidence})",
        f"a vCPU is {kind} and counts {1 if machine.vcpu_is == 'core' else THREAD_IN_CORES} of a core",
    ]
    if question.copies[0] > 1:
        parts.append(f"{question.copies[0]:g} servers keep {RATE_KEPT_BY_COPIES} of their rates")
    if machine.sustained_ratio < 1:
        parts.append(f"burstable: only {machine.sustained_ratio:g} of each vCPU may be used without end")
    return parts
