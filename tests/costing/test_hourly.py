from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycost.costing.fleet import plan_fleet
from deploycost.costing.hourly import HourlyFleet, Purchase, Schedule, plan_hours, weekly_hours
from deploycost.traffic_shape import HOURS_PER_WEEK, week_shape
from deploycost.verdicts import Policy, Traffic

PRICE = Decimal("0.1")
BY_THE_HOUR = Purchase(PRICE)
BY_THE_SECOND = Purchase(PRICE, granularity_s=1, minimum_s=60)
MONTH = 262_800_000  # 100/s on the mean of 730 hours
# A day of 12 hours at one and 12 at three, seven times: the mean is two.
TWO_LEVELS = ((1.0,) * 12 + (3.0,) * 12) * 7

weights = st.lists(st.integers(0, 40), min_size=HOURS_PER_WEEK, max_size=HOURS_PER_WEEK).filter(any)
rates = st.floats(0.5, 500)
ratios = st.floats(0.05, 1.0)
volumes = st.integers(1, 10**10)


def shaped(hourly: tuple[float, ...] | list[int], requests: int = MONTH) -> Traffic:
    return Traffic(requests_per_month=requests, hourly_weights=tuple(float(weight) for weight in hourly))


def test_by_hand() -> None:
    # On the mean 100/s, so 50/s in quiet hours and 150/s in busy ones; a machine is given 70 of its 100/s. That is 1
    # and 3 machines, with the spare 2 and 4: on the mean 3, for 730 hours.
    policy = Policy(autoscale=True)
    fleet = plan_hours(100.0, shaped(TWO_LEVELS), policy, BY_THE_HOUR)
    assert fleet.schedule(MONTH) == Schedule(0, ((2,) * 12 + (4,) * 12) * 7)
    assert fleet.replicas(MONTH) == 4
    assert fleet.billed_hours(MONTH) == (0, 3 * 730)
    assert fleet.monthly_usd(MONTH) == 219
    # Not autoscaled, the 4 run all the time.
    assert plan_hours(100.0, shaped(TWO_LEVELS), Policy(), BY_THE_HOUR).monthly_usd(MONTH) == 292


def test_a_cold_start_is_paid_ahead_of_need() -> None:
    # Each morning two machines are started 180 s early: 7 x 2 x 180 s a week, by the second; by the hour a whole one.
    policy = Policy(autoscale=True, cold_start_s=180)
    early = Fraction(7 * 2 * 180, 3600)
    week = Fraction(3 * HOURS_PER_WEEK)
    month = Fraction(730, HOURS_PER_WEEK)
    assert plan_hours(100.0, shaped(TWO_LEVELS), policy, BY_THE_SECOND).billed_hours(MONTH)[1] == (week + early) * month
    assert plan_hours(100.0, shaped(TWO_LEVELS), policy, BY_THE_HOUR).billed_hours(MONTH)[1] == (week + 14) * month


def test_machines_come_in_steps() -> None:
    # 1 and 3 machines become 2 and 4 in steps of two; the spare comes on top.
    fleet = plan_hours(100.0, shaped(TWO_LEVELS), Policy(autoscale=True, scale_step=2), BY_THE_HOUR)
    assert set(fleet.schedule(MONTH).by_hour) == {3, 5}


def test_a_mix_by_hand() -> None:
    # Every hour needs 2 machines: reserved at 0.06. The other 2 are spot at 0.03 in 12 hours of 24; one in five is
    # taken to be away, so 3 are rented for 2.
    reserved = Purchase(Decimal("0.06"), always_on=True)
    spot = Purchase(Decimal("0.03"), 1, 60, interruption_ratio=Fraction(1, 5))
    fleet = plan_hours(100.0, shaped(TWO_LEVELS), Policy(autoscale=True), spot, reserved)
    assert fleet.schedule(MONTH) == Schedule(2, ((0,) * 12 + (3,) * 12) * 7)
    assert fleet.billed_hours(MONTH) == (1460, 1095)
    assert float(fleet.monthly_usd(MONTH)) == pytest.approx(1460 * 0.06 + 1095 * 0.03)


def test_what_is_reserved_is_paid_whether_it_runs_or_not() -> None:
    reserved = Purchase(PRICE, always_on=True)
    fleet = plan_hours(100.0, shaped(TWO_LEVELS), Policy(autoscale=True), reserved)
    assert fleet.billed_hours(MONTH) == (0, 4 * 730)


@pytest.mark.parametrize(
    ("counts", "lead_s", "granularity_s", "minimum_s", "hours"),
    [
        ([1, 1, 1, 1], 500, 1, 60, 4),  # nothing ever starts
        ([0, 2, 2, 0], 0, 1, 60, 4),
        ([0, 2, 2, 0], 90, 60, 60, 4 + 2 * 120 / 3600),
        ([0, 2, 2, 0], 90, 3600, 3600, 4 + 2),
        ([2, 0, 0, 2], 90, 3600, 3600, 4 + 2),  # the circle: one run over its end
        ([0, 0, 1, 0], 3600, 1, 60, 2),  # an hour ahead is an hour more
        ([0, 1, 0, 1], 5400, 1, 60, 4),  # started before it would be stopped: kept
        ([0, 0, 1, 0], 0, 1, 7200, 2),  # the minimum is longer than the need
        ([0, 1, 0, 1], 0, 1, 9000, 4),  # paid until it is due again: kept
        ([0, 0, 0, 1], 0, 7200, 7200, 2),
        ([0, 1, 2, 1], 0, 7200, 7200, 4 + 2),  # a run of 3 hours is billed 4, that of the second machine 2
    ],
)
def test_billed_hours(counts: list[int], lead_s: int, granularity_s: int, minimum_s: int, hours: float) -> None:
    assert float(weekly_hours(counts, Fraction(lead_s), granularity_s, minimum_s)) == pytest.approx(hours)


@settings(deadline=None, max_examples=60)
@given(capacity=rates, utilisation=ratios, requests=volumes, autoscale=st.booleans())
def test_a_flat_week_is_the_closed_formula(capacity: float, utilisation: float, requests: int, autoscale: bool) -> None:
    policy = Policy(utilisation_ratio=utilisation, autoscale=autoscale, cold_start_s=300)
    hourly = plan_hours(capacity, shaped(week_shape("flat"), requests), policy, BY_THE_HOUR)
    closed = plan_fleet(capacity, PRICE, Traffic(requests_per_month=requests, peak_to_mean_ratio=1), policy)
    assert hourly.replicas(requests) == closed.replicas(requests)
    assert hourly.monthly_usd(requests) == Fraction(closed.monthly_usd(requests))


@settings(deadline=None, max_examples=60)
@given(hourly=weights, capacity=rates, requests=volumes, factor=st.integers(2, 30), autoscale=st.booleans())
def test_cost_is_linear_in_price(
    hourly: list[int], capacity: float, requests: int, factor: int, autoscale: bool
) -> None:
    def bill(price: Decimal) -> Fraction:
        policy = Policy(autoscale=autoscale, cold_start_s=200)
        return plan_hours(capacity, shaped(hourly, requests), policy, Purchase(price, 60, 60)).monthly_usd(requests)

    assert bill(PRICE * factor) == factor * bill(PRICE)


@settings(deadline=None, max_examples=60)
@given(hourly=weights, capacity=rates, requests=volumes, one=ratios, other=ratios, autoscale=st.booleans())
def test_more_utilisation_never_costs_more(
    hourly: list[int], capacity: float, requests: int, one: float, other: float, autoscale: bool
) -> None:
    def bill(utilisation: float) -> Fraction:
        policy = Policy(utilisation_ratio=utilisation, autoscale=autoscale, cold_start_s=1000)
        return plan_hours(capacity, shaped(hourly, requests), policy, BY_THE_SECOND).monthly_usd(requests)

    assert bill(max(one, other)) <= bill(min(one, other))


@settings(deadline=None, max_examples=60)
@given(hourly=weights, capacity=rates, requests=volumes, cold_start_s=st.sampled_from([0, 240, 5000]))
def test_autoscaling_never_costs_more_than_the_peak_all_the_time(
    hourly: list[int], capacity: float, requests: int, cold_start_s: int
) -> None:
    traffic = shaped(hourly, requests)
    scaled = plan_hours(capacity, traffic, Policy(autoscale=True, cold_start_s=cold_start_s), BY_THE_HOUR)
    fixed = plan_hours(capacity, traffic, Policy(), BY_THE_HOUR)
    assert scaled.replicas(requests) == fixed.replicas(requests)
    assert scaled.monthly_usd(requests) <= fixed.monthly_usd(requests)


@settings(deadline=None, max_examples=60)
@given(hourly=weights, capacity=rates, requests=volumes, seed=st.integers(0, 1000))
def test_the_order_of_hours_changes_nothing_of_a_fixed_fleet(
    hourly: list[int], capacity: float, requests: int, seed: int
) -> None:
    shuffled = list(hourly)
    Random(seed).shuffle(shuffled)
    bills = {
        plan_hours(capacity, shaped(each, requests), Policy(), BY_THE_HOUR).monthly_usd(requests)
        for each in (hourly, shuffled)
    }
    assert len(bills) == 1


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(0, 5), min_size=2, max_size=30), lead_s=st.integers(0, 20_000))
def test_a_longer_start_is_never_cheaper_and_never_beyond_the_peak(counts: list[int], lead_s: int) -> None:
    for granularity_s, minimum_s in ((1, 60), (3600, 3600), (7000, 100), (86_400, 86_400)):
        billed = weekly_hours(counts, Fraction(lead_s), granularity_s, minimum_s)
        assert sum(counts) <= weekly_hours(counts, Fraction(0), 1, 1) <= billed <= max(counts) * len(counts)


@settings(deadline=None, max_examples=60)
@given(hourly=weights, capacity=st.floats(5, 500), requests=st.integers(1, 10**8))
def test_bills_change_only_where_they_are_told_to(hourly: list[int], capacity: float, requests: int) -> None:
    fleet: HourlyFleet = plan_hours(capacity, shaped(hourly, requests), Policy(autoscale=True), BY_THE_HOUR)
    begins, searched_to = fleet.beginnings(20)
    assert begins == sorted(set(begins))
    for begin in begins[:5]:
        assert fleet.needed(begin) != fleet.needed(begin - 1)
    inside = [(low, high - 1) for low, high in pairwise(begins[:6])]
    assert all(fleet.monthly_usd(low) == fleet.monthly_usd(high) for low, high in inside)
    assert max(fleet.needed(searched_to)) <= 21 <= max(fleet.needed(searched_to + 1))
