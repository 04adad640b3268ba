from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.costing.fleet import Fleet, floor_usd_per_million, plan_fleet
from deploycost.verdicts import Policy, Traffic

PRICE = Decimal("0.1")
rates = st.floats(0.01, 1e5)
ratios = st.floats(0.01, 1.0)
prices = st.decimals("0.001", "100", places=4)
volumes = st.integers(1, 10**11)


def fleet(capacity: float = 100.0, price: Decimal = PRICE, **policy: float) -> Fleet:
    return plan_fleet(capacity, price, Traffic(requests_per_month=1), Policy.model_validate(policy))


def test_by_hand(traffic: Traffic) -> None:
    # 300/s at the peak over 100/s x 0.7 is 4.29 machines, so 5 and a spare; 6 x 0.1 x 730 h = 438.
    planned = plan_fleet(100.0, PRICE, traffic, Policy())
    assert planned.replicas(traffic.requests_per_month) == 6
    assert planned.monthly_usd(traffic.requests_per_month) == Decimal(438)
    assert float(planned.planned_usd_per_million(traffic.requests_per_month)) == pytest.approx(438 / 262.8)
    # 1e6 x 0.1 / (3600 x 100)
    assert float(floor_usd_per_million(100.0, PRICE)) == pytest.approx(0.277777777778)


def test_a_step_is_exact() -> None:
    # 100/s x 0.7 / 3 x 2,628,000 s, although 0.7 is no binary fraction
    planned = fleet()
    assert planned.requests_per_replica == 61_320_000
    assert [planned.replicas(requests) for requests in (1, 61_320_000, 61_320_001)] == [2, 2, 3]
    assert [planned.step_end(serving) for serving in (0, 1, 2)] == [0, 61_320_000, 122_640_000]


def test_one_machine_at_least_and_no_spare_if_told() -> None:
    assert fleet(spare_replicas=0).replicas(1) == 1


@given(capacity=rates, price=prices, factor=st.integers(2, 50), requests=volumes)
def test_cost_is_linear_in_price(capacity: float, price: Decimal, factor: int, requests: int) -> None:
    assert fleet(capacity, price * factor).monthly_usd(requests) == factor * fleet(capacity, price).monthly_usd(
        requests
    )


@given(capacity=rates, one=ratios, other=ratios, requests=volumes)
def test_more_utilisation_never_costs_more(capacity: float, one: float, other: float, requests: int) -> None:
    low, high = sorted((one, other))
    busier, idler = fleet(capacity, utilisation_ratio=high), fleet(capacity, utilisation_ratio=low)
    assert busier.monthly_usd(requests) <= idler.monthly_usd(requests)


@given(capacity=rates, requests=volumes, more=volumes)
def test_more_requests_never_need_fewer_machines(capacity: float, requests: int, more: int) -> None:
    assert fleet(capacity).replicas(requests) <= fleet(capacity).replicas(requests + more)


@given(capacity=rates, faster=rates, requests=volumes)
def test_more_capacity_never_costs_more(capacity: float, faster: float, requests: int) -> None:
    slow, fast = sorted((capacity, faster))
    assert fleet(fast).monthly_usd(requests) <= fleet(slow).monthly_usd(requests)


@given(capacity=rates, requests=volumes)
def test_the_plan_is_never_below_the_floor(capacity: float, requests: int) -> None:
    planned = fleet(capacity).planned_usd_per_million(requests)
    assert planned >= floor_usd_per_million(capacity, PRICE) * (1 - Decimal("1e-20"))


@given(capacity=rates, serving=st.integers(1, 10_000))
def test_a_step_ends_where_the_next_machine_is_needed(capacity: float, serving: int) -> None:
    planned = Fleet(fleet(capacity).requests_per_replica + Fraction(1), PRICE, 0)
    assert planned.replicas(planned.step_end(serving)) <= serving
    assert planned.replicas(planned.step_end(serving) + 1) == serving + 1
