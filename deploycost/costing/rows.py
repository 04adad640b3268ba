"""One row of a quote sheet with all that it says, exact to the machine: a variant on a machine for hire or owned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import TypeVar

from deploycost.costing.alternatives import Machine, MixPart, SiteOf
from deploycost.costing.bills import FleetBill
from deploycost.costing.energy import energy_of
from deploycost.costing.fleet import MILLION
from deploycost.costing.hourly import HourlyFleet, Purchase, plan_hours
from deploycost.costing.ranking import Floats, usd_per_answer
from deploycost.costing.returns import one_off_usd
from deploycost.records import (
    Figure,
    FleetPart,
    LoadRecord,
    Quote,
    Scores,
    Subject,
    UsdPerMillion,
    Variant,
    weakest,
)
from deploycost.stats import wilson_interval
from deploycost.units import GIB, SECONDS_PER_HOUR, bytes_text
from deploycost.verdicts import OS_RESERVE_BYTES, Capacity, Policy, Traffic
from pricing.book import Offer

_Number = TypeVar("_Number", int, Floats)


@dataclass(frozen=True)
class MachineRow:
    """A variant on a machine, with what it carries there."""

    variant: Subject
    machine: Machine
    capacity: Capacity
    traffic: Traffic
    policy: Policy

    def fleet(self, capacity_rps: float) -> HourlyFleet:
        """The fleet of such machines, if each carries so much."""
        return plan_hours(capacity_rps, self.traffic, self.policy, *self.machine.purchases(self.policy))

    def bill(self, capacity_rps: float) -> FleetBill:
        """The bill of such machines, if each carries so much."""
        return FleetBill(
            self.fleet(capacity_rps),
            usd_per_request=self.machine.usd_per_request(capacity_rps) + usd_per_answer(self.policy),
            fixed_usd=Fraction(self._training_usd) - Fraction(self.machine.free_monthly_usd),
        )

    def quote(self, site_of: SiteOf, slo_p95_ms: float) -> Quote:
        """The row in full."""
        offer, rate, load = self.machine.offer, self.capacity.capacity_rps, self.capacity.load
        requests = self.traffic.requests_per_month
        bill_at = cache(self.bill)
        usd_at = cache(lambda rps: bill_at(rps).monthly_usd(requests))
        fleet = bill_at(rate.value).fleet if rate.value else None
        schedule = fleet.schedule(requests) if fleet else None
        hours = {
            rps: float(sum(bill_at(rps).fleet.billed_hours(requests)))
            for rps in {rate.value, rate.low, rate.high}
            if rps
        }
        energy = energy_of(site_of(offer), rate, hours, requests, self.capacity.own_load)
        accuracy = accuracy_of(self.variant)
        fits_memory, memory_reason = memory_fit(self.capacity, offer)
        p95_ms = planned_p95(self.capacity, self.policy)
        parts = self._parts(fleet, requests) if fleet else ()
        return self._row(
            usd_per_hour=_mean_price(parts) if self.machine.base and parts else self._usd_per_hour(offer),
            measured_capacity_rps=load.capacity_rps if load else Figure(value=None),
            certified=load is not None and load.certificate.certified,
            replicas=max(schedule.by_hour) if schedule else None,
            replicas_by_hour=schedule.by_hour if schedule and self.traffic.hourly_weights else None,
            fleet_hours=hours[rate.value] if rate.value else None,
            parts=parts,
            usd_per_million=self._usd_per_million(usd_at, accuracy),
            usd_per_request=_decimal(bill_at(rate.value).usd_per_request) if rate.value else Decimal(0),
            monthly_usd=falling(rate, usd_at),
            training_monthly_usd=self._training_usd if rate.value and self.policy.horizon_months else None,
            free_monthly_usd=self.machine.free_monthly_usd,
            p95_ms=p95_ms,
            accuracy=accuracy,
            fits_memory=fits_memory,
            memory_reason=memory_reason,
            meets_slo=meets_slo(rate, p95_ms, slo_p95_ms),
            energy_kwh_per_million=energy.kwh_per_million,
            grams_co2e_per_million=energy.grams_co2e_per_million,
            energy_reason=energy.reason,
        )

    def _row(self, **known: object) -> Quote:
        """What is known of the row, with whose it is and where its price is from."""
        offer = self.machine.offer
        return Quote.model_validate(
            {
                "variant": self.variant.name, "kind": "owned" if self.machine.owned else "machine",
                "cloud": offer.cloud, "region": offer.region, "instance_type": offer.instance_type,
                "purchase_option": self.machine.bought,
                "capacity_rps": self.capacity.capacity_rps, "capacity_reason": self.capacity.reason,
                "price_source": offer.source, "price_date": offer.as_of.isoformat(),
            } | known
        )  # fmt: skip

    def _usd_per_million(self, usd_at: Callable[[float], Fraction], accuracy: Figure) -> UsdPerMillion:
        rate, requests = self.capacity.capacity_rps, self.traffic.requests_per_month

        def planned_at(rps: float) -> Fraction:
            return usd_at(rps) * MILLION / requests

        planned = falling(rate, planned_at)
        return UsdPerMillion(
            # What is free may bring the plan below the list price.
            floor=falling(rate, lambda rps: min(self._floor(rps), planned_at(rps))),
            planned=planned,
            per_correct=per_correct(planned, accuracy),
        )

    def _floor(self, rps: float) -> Fraction:
        """At saturation: 1e6 x USD/h / (3600 x capacity), bought the cheaper way, and each request's cost beside."""
        hourly = min(purchase.usd_per_hour for purchase in self.machine.purchases(self.policy) if purchase)
        per_second = Fraction(hourly) / (SECONDS_PER_HOUR * Fraction(Decimal(str(rps))))
        return MILLION * (per_second + self.machine.usd_per_request(rps) + usd_per_answer(self.policy))

    @property
    def _training_usd(self) -> float:
        return training_monthly_usd(self.variant, self.machine.offer.effective_usd_per_hour, self.policy)

    def _usd_per_hour(self, offer: Offer) -> Decimal:
        """Of the price row; of a machine of one's own, when it idles."""
        return self.machine.owned.hourly_usd(Decimal(0)) if self.machine.owned else offer.effective_usd_per_hour

    def _parts(self, fleet: HourlyFleet, requests: int) -> tuple[FleetPart, ...]:
        schedule, (base_hours, peak_hours) = fleet.schedule(requests), fleet.billed_hours(requests)
        peak, base = self.machine.purchases(self.policy)
        bought: tuple[tuple[MixPart, Offer | None, Purchase | None, int, Fraction], ...] = (
            ("base", self.machine.base, base, schedule.base, base_hours),
            ("peak", self.machine.offer, peak, max(schedule.peak), peak_hours),
        )
        return tuple(
            FleetPart(
                part=part,
                purchase_option=self.machine.bought if self.machine.owned else offer.purchase_option,
                usd_per_hour=self._usd_per_hour(offer),
                granularity_s=purchase.granularity_s,
                minimum_s=purchase.minimum_s,
                replicas=count,
                hours_per_month=float(hours),
                price_source=offer.source,
                price_date=offer.as_of.isoformat(),
            )
            for part, offer, purchase, count, hours in bought
            if offer is not None and purchase is not None
        )


def training_monthly_usd(variant: Subject, usd_per_hour: Decimal, policy: Policy) -> float:
    """The share of a month in what making the variant cost once; nothing unless a horizon was given."""
    if policy.horizon_months is None or not isinstance(variant, Variant):
        return 0.0
    return (one_off_usd(variant, usd_per_hour).value or 0.0) / policy.horizon_months


def falling(rate: Figure, price: Callable[[float], Fraction]) -> Figure:
    """A price that falls with capacity, at the capacity and at the ends of its interval; none at no capacity."""

    def at(rps: float | None) -> float | None:
        return float(price(rps)) if rps else None

    return Figure(value=at(rate.value), low=at(rate.high), high=at(rate.low), basis=rate.basis)


def accuracy_of(variant: Subject) -> Figure:
    """The accuracy of the artifact with Wilson's interval; unknown where it was not scored."""
    # A service that runs elsewhere was never judged; texts without labels and numbers have no share of right answers.
    scores = variant.export.scores if isinstance(variant, Variant) else None
    if not isinstance(scores, Scores):
        return Figure(value=None, basis="assumed")
    low, high = wilson_interval(round(scores.accuracy * scores.rows), scores.rows)
    return Figure(value=scores.accuracy, low=low, high=high, basis="measured")


def per_correct(planned: Figure, accuracy: Figure) -> Figure:
    """The planned price over the accuracy."""

    def ratio(price: float | None, share: float | None) -> float | None:
        return price / share if price is not None and share else None

    return Figure(
        value=ratio(planned.value, accuracy.value),
        low=ratio(planned.low, accuracy.high),
        high=ratio(planned.high, accuracy.low),
        basis=weakest(planned.basis, accuracy.basis),
    )


def needed_bytes(peak_bytes: _Number, server_copies: _Number) -> _Number:
    """Memory that the servers of a machine take at their peak, and the system."""
    return server_copies * peak_bytes + OS_RESERVE_BYTES


def memory_fit(capacity: Capacity, offer: Offer) -> tuple[bool | None, str]:
    """Whether the servers fit the machine's memory, and the reckoning."""
    if capacity.load is None or capacity.server_copies is None:
        return None, "unknown until load-tested"
    memory = capacity.load.memory_bytes
    if memory is None:
        return None, "unknown: the load test was not told the process of the service (--pid)"
    needed = needed_bytes(memory.peak, capacity.server_copies)
    there, copies = float(offer.memory_gib) * GIB, capacity.server_copies
    servers = "1 server" if copies == 1 else f"{copies} servers"
    reason = (
        f"{servers} of {bytes_text(memory.peak)} at peak and {bytes_text(OS_RESERVE_BYTES)} for "
        f"the system need {bytes_text(needed)} of {bytes_text(there)}"
    )
    return needed <= there, reason


def planned_p95_ms(load: LoadRecord | None, policy: Policy) -> float | None:
    """The latency where it was measured, at the planned load there."""
    return load.p95_at(policy.utilisation_ratio * (load.capacity_rps.value or 0.0)) if load else None


def planned_p95(capacity: Capacity, policy: Policy) -> Figure:
    """The latency at the planned load: as it is projected to the machine, else as it was measured on it."""
    if capacity.p95_ms is not None:
        return capacity.p95_ms
    return Figure(value=planned_p95_ms(capacity.load, policy), basis=capacity.capacity_rps.basis)


def meets_slo(rate: Figure, p95_ms: Figure, slo_p95_ms: float) -> bool | None:
    """Whether the latency is within the objective; None where one of the two is unknown."""
    if rate.value is None or p95_ms.value is None:
        return False if rate.value == 0 else None
    return rate.value > 0 and p95_ms.value <= slo_p95_ms


def _mean_price(parts: tuple[FleetPart, ...]) -> Decimal:
    """USD of an hour of the whole fleet, on the mean of its parts."""
    hours = sum((Decimal(str(part.hours_per_month)) for part in parts), Decimal(0))
    total = sum((Decimal(str(part.hours_per_month)) * part.usd_per_hour for part in parts), Decimal(0))
    return (total / hours).quantize(Decimal("0.000001"))


def _decimal(amount: Fraction) -> Decimal:
    return Decimal(amount.numerator) / amount.denominator
