"""The bill that a quote stands for, from what the quote itself pins: a refreshed price book does not change it."""

from __future__ import annotations

from fractions import Fraction

from deploycost.costing.alternatives import OWNED, storage_usd_per_hour
from deploycost.costing.bills import FleetBill, RequestBill
from deploycost.costing.fleet import exact
from deploycost.costing.hourly import Purchase, plan_hours
from deploycost.records import FleetPart, Quote
from deploycost.verdicts import Policy, QuoteSheet


def bill_of(quote: Quote, sheet: QuoteSheet, *, with_training: bool = True) -> FleetBill | RequestBill | None:
    """The bill of a machine's or an API's quote over requests a month.

    None where its capacity is unknown, and for a service, whose meter no quote holds.
    """
    if quote.kind == "api":
        return RequestBill(Fraction(quote.usd_per_request))
    capacity_rps, parts = quote.capacity_rps.value, {part.part: part for part in quote.parts}
    if not capacity_rps or "peak" not in parts:
        return None
    policy = sheet.policy
    base = _purchase(parts["base"], policy) if "base" in parts else None
    training = Fraction(quote.training_monthly_usd or 0) if with_training else Fraction(0)
    return FleetBill(
        plan_hours(capacity_rps, sheet.traffic, policy, _purchase(parts["peak"], policy), base),
        usd_per_request=Fraction(quote.usd_per_request),
        fixed_usd=training - Fraction(quote.free_monthly_usd),
    )


def _purchase(part: FleetPart, policy: Policy) -> Purchase:
    return Purchase(
        usd_per_hour=part.usd_per_hour + storage_usd_per_hour(policy),
        granularity_s=part.granularity_s,
        minimum_s=part.minimum_s,
        always_on=part.purchase_option == OWNED or part.purchase_option.startswith("reserved"),
        interruption_ratio=exact(policy.spot_interruption_ratio) if part.purchase_option == "spot" else Fraction(0),
    )
