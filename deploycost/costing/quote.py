"""A quote: what each variant costs on each machine for hire, and how sure each figure is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from math import inf

from deploycost.costing.fleet import floor_usd_per_million, plan_fleet
from deploycost.records import Figure, LoadRecord, Quote, Scores, UsdPerMillion, Variant, weakest
from deploycost.stats import wilson_interval
from deploycost.units import GIB, bytes_text, milliseconds
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer

# What a slim Linux with its agents keeps for itself, before the server starts.
OS_RESERVE_BYTES = GIB // 2

CapacityOn = Callable[[Variant, Offer], Capacity]


def quote(
    variants: Sequence[Variant],
    offers: Sequence[Offer],
    capacity_on: CapacityOn,
    traffic: Traffic,
    policy: Policy,
    slo_p95_ms: float,
) -> QuoteSheet:
    """Every variant on every machine, by planned cost, then cost at saturation, then name; unknown last.

    `capacity_on` says what a variant carries on a machine. Each quote pins its price row. A low capacity is a high
    price, so the ends of the intervals change places; replicas are whole at both ends.
    """
    question = _Question(traffic, policy, slo_p95_ms)
    quotes: list[Quote] = []
    loads: dict[str, LoadRecord] = {}
    for variant in variants:
        for offer in offers:
            capacity = capacity_on(variant, offer)
            quotes.append(question.ask(variant, offer, capacity))
            if capacity.load:
                loads[f"{variant.name} on {capacity.load.environment.cpu_model}"] = capacity.load
    return QuoteSheet(
        quotes=tuple(sorted(quotes, key=cost_order)),
        traffic=traffic,
        policy=policy,
        slo_p95_ms=slo_p95_ms,
        warnings=(*_load_warnings(loads, slo_p95_ms), *_quote_warnings(quotes), *_model_warnings(variants)),
    )


def cost_order(quoted: Quote) -> tuple[float, float, str, str]:
    """Sorts quotes: planned cost, then cost at saturation (room to grow), then name; unknown last."""
    planned, at_saturation = quoted.usd_per_million.planned.value, quoted.usd_per_million.floor.value
    machine = f"{quoted.cloud} {quoted.region} {quoted.instance_type} {quoted.purchase_option}"
    return (
        inf if planned is None else planned,
        inf if at_saturation is None else at_saturation,
        quoted.variant,
        machine,
    )


@dataclass(frozen=True)
class _Question:
    traffic: Traffic
    policy: Policy
    slo_p95_ms: float

    def ask(self, variant: Variant, offer: Offer, capacity: Capacity) -> Quote:
        """The quote of one variant on one machine with that capacity."""
        rate, load = capacity.capacity_rps, capacity.load
        requests = self.traffic.requests_per_month
        fleet_at = cache(lambda rps: plan_fleet(rps, offer.usd_per_hour, self.traffic, self.policy))
        planned = _falling(rate, lambda rps: fleet_at(rps).planned_usd_per_million(requests))
        accuracy = _accuracy(variant)
        fits_memory, memory_reason = _memory(capacity, offer)
        p95_ms = self._p95_ms(capacity)
        return Quote(
            variant=variant.name,
            cloud=offer.cloud,
            region=offer.region,
            instance_type=offer.instance_type,
            purchase_option=offer.purchase_option,
            usd_per_hour=offer.usd_per_hour,
            capacity_rps=rate,
            capacity_reason=capacity.reason,
            measured_capacity_rps=load.capacity_rps if load else Figure(value=None),
            certified=load is not None and load.certificate.certified,
            replicas=fleet_at(rate.value).replicas(requests) if rate.value else None,
            usd_per_million=UsdPerMillion(
                floor=_falling(rate, lambda rps: floor_usd_per_million(rps, offer.usd_per_hour)),
                planned=planned,
                per_correct=_per_correct(planned, accuracy),
            ),
            monthly_usd=_falling(rate, lambda rps: fleet_at(rps).monthly_usd(requests)),
            p95_ms=p95_ms,
            accuracy=accuracy,
            fits_memory=fits_memory,
            memory_reason=memory_reason,
            meets_slo=self._meets_slo(rate, p95_ms),
            price_source=offer.source,
            price_date=offer.as_of.isoformat(),
        )

    def _p95_ms(self, capacity: Capacity) -> Figure:
        """The latency where it was measured, at the planned load there: a machine scaled by cores is not faster."""
        if capacity.load is None:
            return Figure(value=None, basis=capacity.capacity_rps.basis)
        planned_rps = self.policy.utilisation_ratio * (capacity.load.capacity_rps.value or 0.0)
        return Figure(value=capacity.load.p95_at(planned_rps), basis=capacity.capacity_rps.basis)

    def _meets_slo(self, rate: Figure, p95_ms: Figure) -> bool | None:
        if rate.value is None or p95_ms.value is None:
            return False if rate.value == 0 else None
        return rate.value > 0 and p95_ms.value <= self.slo_p95_ms


def _falling(rate: Figure, price: Callable[[float], Decimal]) -> Figure:
    """A price that falls with capacity, at the capacity and at the ends of its interval; none at no capacity."""

    def at(rps: float | None) -> float | None:
        return float(price(rps)) if rps else None

    return Figure(value=at(rate.value), low=at(rate.high), high=at(rate.low), basis=rate.basis)


def _accuracy(variant: Variant) -> Figure:
    scores = variant.export.scores
    if not isinstance(scores, Scores):
        return Figure(value=None)  # texts without labels, or a number: neither has a share of right answers
    low, high = wilson_interval(round(scores.accuracy * scores.rows), scores.rows)
    return Figure(value=scores.accuracy, low=low, high=high, basis="measured")


def _per_correct(planned: Figure, accuracy: Figure) -> Figure:
    def ratio(price: float | None, share: float | None) -> float | None:
        return price / share if price is not None and share else None

    return Figure(
        value=ratio(planned.value, accuracy.value),
        low=ratio(planned.low, accuracy.high),
        high=ratio(planned.high, accuracy.low),
        basis=weakest(planned.basis, accuracy.basis),
    )


def _memory(capacity: Capacity, offer: Offer) -> tuple[bool | None, str]:
    if capacity.load is None or capacity.server_copies is None:
        return None, "unknown until load-tested"
    peak, copies = capacity.load.memory_bytes.peak, capacity.server_copies
    needed, there = copies * peak + OS_RESERVE_BYTES, float(offer.memory_gib) * GIB
    servers = "1 server" if copies == 1 else f"{copies} servers"
    reason = (
        f"{servers} of {bytes_text(peak)} at peak and {bytes_text(OS_RESERVE_BYTES)} for the system need "
        f"{bytes_text(needed)} of {bytes_text(there)}"
    )
    return needed <= there, reason


def _load_warnings(loads: dict[str, LoadRecord], slo_p95_ms: float) -> list[str]:
    told = []
    for name, load in sorted(loads.items()):
        if not load.certificate.certified:
            failed = ", ".join(check.name for check in load.certificate.checks if not check.ok)
            told.append(f"{name}: the load test is not certified ({failed or 'no check passed'})")
        if load.slo.p95_ms != slo_p95_ms:
            told.append(
                f"{name}: capacity was found for p95 within {milliseconds(load.slo.p95_ms)}, not "
                f"{milliseconds(slo_p95_ms)}; load-test again with --slo-p95 {slo_p95_ms:g}"
            )
    return told


def _model_warnings(variants: Sequence[Variant]) -> list[str]:
    names = dict.fromkeys(each.tuning.slug for each in variants if each.export.accuracy is None)
    return [f"the accuracy of {name} is unknown, so what a right answer costs is too" for name in names]


def _quote_warnings(quotes: Sequence[Quote]) -> list[str]:
    told = []
    unknown = [each for each in quotes if each.capacity_rps.value is None]
    if unknown:
        told.append(
            f"{len(unknown)} of {len(quotes)} quotes have no capacity, so no cost; {unknown[0].variant} on "
            f"{unknown[0].instance_type}, for one, is {unknown[0].capacity_reason}"
        )
    if any(each.capacity_rps.basis == "assumed" and each.capacity_rps.value is not None for each in quotes):
        told.append("capacity marked assumed is scaled from the measured cores: load-test on the machine before buying")
    if any(each.purchase_option == "spot" for each in quotes):
        told.append(
            "spot machines can be taken back at any time and their prices move; spares are not planned for that"
        )
    return told
