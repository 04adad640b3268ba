from decimal import Decimal
from fractions import Fraction
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from deploycost.costing.break_even import MOST_REQUESTS_PER_MONTH, break_even_with_api, break_even_with_fleet
from deploycost.costing.fleet import Fleet
from deploycost.verdicts import NOT_REACHED, BreakEven

# One machine carries 61,320,000 requests a month for 73 dollars; there is one spare.
FLEET = Fleet(Fraction(61_320_000), Decimal(73), 1)
MILLIONTH = Fraction(1, 1_000_000)

fractions = st.fractions(Fraction(1, 2), Fraction(40), max_denominator=7)
dollars = st.integers(1, 40).map(Decimal)
fleets = st.builds(Fleet, fractions, dollars, st.integers(0, 2))


def reached_at(crossing: BreakEven) -> float:
    return crossing.requests_per_month if isinstance(crossing.requests_per_month, int) else inf


def test_an_api_by_hand() -> None:
    # Two machines cost 146; at 5 dollars a million that is 29.2 million requests, and more than reached by then.
    crossing = break_even_with_api(FLEET, 5 * MILLIONTH)
    assert crossing.requests_per_month == 29_200_001
    assert crossing.stays_cheaper is True
    assert crossing.cheaper_for_good_from == 29_200_001


def test_a_step_that_makes_the_api_cheaper_again() -> None:
    # At 3 dollars, 146 is passed at 48,666,666.7. The third machine comes at 61,320,001 requests, which cost 184
    # through the API and 219 here, until 73 million.
    crossing = break_even_with_api(FLEET, 3 * MILLIONTH)
    assert crossing.requests_per_month == 48_666_667
    assert crossing.stays_cheaper is False
    assert crossing.cheaper_for_good_from == 73_000_001


def test_an_api_below_the_price_of_a_full_machine_is_never_beaten() -> None:
    for price in (Fraction(0), MILLIONTH, Fraction(73, 61_320_000)):
        crossing = break_even_with_api(FLEET, price)
        assert crossing.requests_per_month == NOT_REACHED
        assert crossing.cheaper_for_good_from == NOT_REACHED
        assert crossing.searched_to_requests_per_month == MOST_REQUESTS_PER_MONTH


def test_a_gain_too_small_for_any_volume() -> None:
    crossing = break_even_with_api(FLEET, Fraction(73, 61_320_000) + Fraction(1, 10**20))
    assert crossing.requests_per_month == NOT_REACHED


@given(fleet=fleets, price=st.fractions(Fraction(1, 5), Fraction(30), max_denominator=11))
def test_an_api_by_brute_force(fleet: Fleet, price: Fraction) -> None:
    crossing = break_even_with_api(fleet, price)
    cheaper = [fleet.monthly_usd(requests) < price * requests for requests in range(1, 1500)]
    first = cheaper.index(True) + 1 if True in cheaper else None
    if first is None:
        assert reached_at(crossing) >= 1500
        return
    assert crossing.requests_per_month == first
    for_good = crossing.cheaper_for_good_from
    assert isinstance(for_good, int)
    assert all(cheaper[for_good - 1 :])
    assert crossing.stays_cheaper == (for_good == first)
    if first < for_good <= 1500:
        assert not cheaper[for_good - 2]


def test_a_faster_variant_by_hand() -> None:
    # On the same machines, twice the capacity: cheaper as soon as the slower one needs its second machine, and from
    # there on it always needs one more.
    slow = Fleet(Fraction(100), Decimal(10), 1)
    fast = Fleet(Fraction(200), Decimal(10), 1)
    crossing = break_even_with_fleet(fast, slow)
    assert crossing.requests_per_month == 101
    assert crossing.stays_cheaper is True
    assert crossing.searched_to_requests_per_month == 100_000


def test_the_same_fleet_is_never_cheaper() -> None:
    crossing = break_even_with_fleet(FLEET, FLEET)
    assert (crossing.requests_per_month, crossing.stays_cheaper) == (NOT_REACHED, None)


@given(fleet=fleets, baseline=fleets)
def test_two_fleets_by_brute_force(fleet: Fleet, baseline: Fleet) -> None:
    crossing = break_even_with_fleet(fleet, baseline)
    cheaper = [fleet.monthly_usd(requests) < baseline.monthly_usd(requests) for requests in range(1, 500)]
    first = cheaper.index(True) + 1 if True in cheaper else None
    if first is None:
        assert reached_at(crossing) >= 500
        return
    assert crossing.requests_per_month == first
    for_good = crossing.cheaper_for_good_from
    assert crossing.stays_cheaper == (for_good == first)
    if isinstance(for_good, int):
        assert all(cheaper[for_good - 1 :])
