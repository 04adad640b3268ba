"""Machines that are bought in more than one way, or partly free: by hand, in full and in arrays."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycost.costing.alternatives import Alternatives, Machine, Site, instance_machines
from deploycost.costing.quote import Question, quote
from deploycost.costing.quoted_bill import bill_of
from deploycost.costing.ranking import cost_all
from deploycost.costing.rows import training_monthly_usd
from deploycost.records import LoadRecord, Quote, Subject, Variant
from deploycost.traffic_shape import HOURS_PER_WEEK, week_shape
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer
from pricing.serverless import load_serverless

# 100/s in every hour of 730: one machine of 100/s, where nothing is kept in reserve.
FLAT = Traffic(requests_per_month=262_800_000, hourly_weights=(1.0,) * HOURS_PER_WEEK)
FULL = Policy(utilisation_ratio=1.0, spare_replicas=0)


def carries(variant: Subject, _: Offer) -> Capacity:
    assert variant.load
    return Capacity(capacity_rps=variant.load.capacity_rps, reason="", load=variant.load, server_copies=1)


def ask(variant: Variant, machine: Machine, policy: Policy) -> tuple[QuoteSheet, Quote]:
    sheet = quote([variant], Alternatives([machine]), carries, lambda _: Site(), Question(FLAT, policy, 100.0))
    return sheet, sheet.quotes[0]


def in_arrays(variant: Variant, machines: Sequence[Machine], policy: Policy) -> tuple[float, float]:
    """The monthly bill and the floor as the ranking has them."""
    costs = cost_all(
        np.array([[100.0]]), np.zeros(len(machines), dtype=np.int64), machines,
        lambda usd_per_hour: np.array([training_monthly_usd(variant, usd_per_hour, policy)]), FLAT, policy,
    )  # fmt: skip
    return float(costs.monthly_usd[0, 0]), float(costs.floor_usd_per_million[0, 0])


def test_the_floor_of_a_mix_is_that_of_the_cheaper_part(
    make_variant: Callable[..., Variant], make_offer: Callable[..., Offer]
) -> None:
    on_demand, reserved = make_offer(), make_offer(purchase_option="reserved-1y", usd_per_hour=Decimal("0.02"))
    variant = make_variant()
    for machine in (Machine(on_demand, reserved), Machine(reserved, on_demand)):
        _, row = ask(variant, machine, FULL)
        # A machine of 0.02 USD that answers 360,000 requests in an hour.
        assert row.usd_per_million.floor.value == pytest.approx(0.02 * 1e6 / 360_000)
        assert in_arrays(variant, [machine], FULL) == pytest.approx((row.monthly_usd.value, 1 / 18))
    # The one machine of every hour is reserved: 730 h, never idle, so that its plan is its floor.
    _, row = ask(variant, Machine(on_demand, reserved), FULL)
    assert row.monthly_usd.value == pytest.approx(14.6)
    assert row.usd_per_million.planned.value == pytest.approx(row.usd_per_million.floor.value)


@settings(max_examples=40, deadline=None)
@given(
    base=st.decimals("0.01", "2", places=2), peak=st.decimals("0.01", "2", places=2), rate=st.floats(1, 500),
    requests=st.integers(1, 10**9), utilisation=st.floats(0.1, 1), spares=st.integers(0, 2), spiky=st.booleans(),
)  # fmt: skip
def test_no_plan_is_below_its_floor(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Callable[..., Offer],
    *, base: Decimal, peak: Decimal, rate: float, requests: int, utilisation: float, spares: int, spiky: bool,
) -> None:  # fmt: skip
    machine = Machine(
        make_offer(purchase_option="spot", usd_per_hour=peak),
        make_offer(purchase_option="reserved-1y", usd_per_hour=base),
    )
    traffic = Traffic(requests_per_month=requests, hourly_weights=week_shape("spiky" if spiky else "flat"))
    policy = Policy(utilisation_ratio=utilisation, spare_replicas=spares, autoscale=True)
    asked = Question(traffic, policy, 100.0)
    variant = make_variant(load=make_load(rate, None, None))
    price = quote([variant], Alternatives([machine]), carries, lambda _: Site(), asked).quotes[0].usd_per_million
    assert price.floor.value is not None
    assert price.planned.value is not None
    assert price.floor.value == pytest.approx(min(float(base), float(peak)) * 1e6 / (3600 * rate))
    assert price.planned.value >= price.floor.value * (1 - 1e-12)


def test_training_is_paid_at_the_price_with_what_is_upfront(
    make_variant: Callable[..., Variant], make_offer: Callable[..., Offer]
) -> None:
    # 876 USD over 8,760 h and 0.05 an hour; an hour of training and export, spread over 10 months.
    offer = make_offer(
        purchase_option="reserved-1y", usd_per_hour=Decimal("0.05"), term_upfront_usd=Decimal(876)
    )  # fmt: skip
    variant, policy = make_variant(), FULL.model_copy(update={"horizon_months": 10})
    _, row = ask(variant, Machine(offer), policy)
    assert row.training_monthly_usd == pytest.approx(0.015)
    assert row.monthly_usd.value == pytest.approx(730 * 0.15 + 0.015)
    assert in_arrays(variant, [Machine(offer)], policy)[0] == pytest.approx(row.monthly_usd.value)


def test_what_a_service_that_bills_instances_gives_is_free(make_variant: Callable[..., Variant]) -> None:
    (rate,) = (
        rate for rate in load_serverless() if (rate.service, rate.region) == ("cloud-run-instance", "us-central1")
    )
    machine, variant = instance_machines(rate)[0], make_variant()
    sheet, row = ask(variant, machine, FULL)
    # One vCPU and 2 GiB for 730 h at 0.0792, less 240,000 s of a vCPU at 0.000018 and 450,000 of a GiB at 0.000002.
    bill = 730 * 0.0792 - 4.32 - 0.9
    assert float(row.free_monthly_usd) == pytest.approx(5.22)
    assert row.monthly_usd.value == pytest.approx(bill)
    # The list price of a full machine is above this plan.
    assert row.usd_per_million.floor.value == pytest.approx(bill / 262.8)
    assert in_arrays(variant, [machine], FULL) == pytest.approx((bill, bill / 262.8))
    pinned = bill_of(row, sheet)
    assert pinned is not None
    assert float(pinned.monthly_usd(FLAT.requests_per_month)) == pytest.approx(bill)
