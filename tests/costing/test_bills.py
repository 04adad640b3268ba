import datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycost.costing.bills import Bill, FleetBill, MeteredBill, RequestBill, billed_seconds
from deploycost.costing.break_even import crossover
from deploycost.costing.hourly import HourlyFleet, Purchase
from deploycost.verdicts import NOT_REACHED, Policy
from pricing.serverless import ServerlessRate

MILLIONTH = Fraction(1, 1_000_000)


def service(**changes: object) -> ServerlessRate:
    """A GiB-second costs 0.00002 for the first 1,000 and 0.00001 beyond, a million requests 0.2; 100 GiB-s are free."""
    fields: dict[str, object] = {
        "provider": "aws", "service": "lambda", "region": "us-east-1", "architecture": "x86_64", "billing": "request",
        "usd_per_gib_second": ((Decimal(1000), Decimal("0.00002")), (None, Decimal("0.00001"))),
        "usd_per_vcpu_second": Decimal(0), "usd_per_million_requests": Decimal("0.2"), "rounding_ms": 1,
        "minimum_ms": 1,
        "memory_min_mib": 128, "memory_max_mib": 10240, "memory_step_mib": 1, "mib_per_vcpu": 1769, "vcpus_max": 6,
        "free_gib_seconds": Decimal(100), "free_vcpu_seconds": Decimal(0), "free_requests": Decimal(50),
        "concurrency_per_instance": 1, "source": "price list", "as_of": datetime.date(2026, 7, 20), "note": "",
    }  # fmt: skip
    return ServerlessRate(**(fields | changes))  # type: ignore[arg-type]


def metered(**changes: object) -> MeteredBill:
    return MeteredBill(service(**changes), memory_mib=2048, vcpus=Fraction(0), billed_s=Fraction(1))


def fleet(needs: tuple[int, ...], dollars: int, spares: int = 1, autoscale: bool = True) -> FleetBill:
    policy = Policy(spare_replicas=spares, autoscale=autoscale, hours_per_month=len(needs))
    return FleetBill(HourlyFleet(needs, 60, policy, Purchase(Decimal(dollars))))


bills = st.one_of(
    st.builds(fleet, st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 9), st.integers(0, 1), st.booleans()),
    st.builds(RequestBill, st.fractions(Fraction(1, 7), 4, max_denominator=7), st.fractions(0, 9, max_denominator=3)),
    st.builds(
        lambda free, usd, end: metered(
            free_gib_seconds=Decimal(free), free_requests=Decimal(free // 3),
            usd_per_gib_second=((Decimal(end), Decimal(usd)), (None, Decimal(usd) / 2)),
        ),
        st.integers(0, 99), st.integers(1, 3), st.integers(1, 300),
    ),
)  # fmt: skip


def test_a_metered_month_by_hand() -> None:
    # A request takes 2 GiB-s. 50 requests: all free. 100 requests: 100 GiB-s at 0.00002 and 50 fees. 1,000 requests:
    # 1,900 paid GiB-s, of which 900 in the second tier, and 950 fees.
    bill = metered()
    assert bill.monthly_usd(50) == 0
    assert bill.monthly_usd(100) == Fraction("0.002") + 50 * Fraction("0.2") * MILLIONTH
    assert bill.monthly_usd(1000) == Fraction("0.02") + Fraction("0.009") + 950 * Fraction("0.2") * MILLIONTH
    assert bill.list_usd_per_request() == Fraction("0.00004") + Fraction("0.2") * MILLIONTH


def test_cpu_that_is_paid_apart() -> None:
    rate = service(
        usd_per_vcpu_second=Decimal("0.001"), free_vcpu_seconds=Decimal(10), usd_per_million_requests=Decimal(0)
    )
    bill = MeteredBill(rate, memory_mib=1024, vcpus=Fraction(1, 2), billed_s=Fraction(2), egress_usd=Fraction(1, 1000))
    # 20 requests: 40 GiB-s are free; 20 vCPU-s, 10 of them free; a thousandth of egress each.
    assert bill.monthly_usd(20) == Fraction("0.01") + Fraction("0.02")


@pytest.mark.parametrize(
    ("duration_ms", "rounding_ms", "minimum_ms", "seconds"),
    [
        ("12.3", 1, 1, "0.013"),
        ("12", 1, 1, "0.012"),
        ("12.3", 100, 100, "0.1"),
        ("101", 100, 100, "0.2"),
        ("5", 1, 50, "0.05"),
    ],
)
def test_durations_are_rounded_up(duration_ms: str, rounding_ms: int, minimum_ms: int, seconds: str) -> None:
    rate = service(rounding_ms=rounding_ms, minimum_ms=minimum_ms)
    assert billed_seconds(Fraction(duration_ms), rate) == Fraction(seconds)


def test_a_fleet_and_a_price_per_request_by_hand() -> None:
    # One machine carries 20 requests a month; it costs 10 dollars in each of the month's 3 hours, and a spare stands
    # by: 60 for the month up to 20 requests, 90 up to 40. At 2 dollars a request the fourth step, 150 for 61 to 80
    # requests, is the first to be passed, by the 76th.
    bill, per_request = fleet((3, 3, 3), 10), RequestBill(Fraction(2))
    assert [bill.monthly_usd(requests) for requests in (1, 20, 21, 40, 41)] == [60, 60, 90, 90, 120]
    crossing = crossover(bill, per_request)
    assert crossing.requests_per_month == 76
    assert crossing.stays_cheaper is False
    # Step n costs 30 (n + 1) and begins with request 20 (n - 1) + 1, so it begins too dear while 40 n - 38 <= 30 n +
    # 30: the sixth, 210 for 101 to 120 requests, is passed by the 106th; the seventh begins cheaper.
    assert crossing.cheaper_for_good_from == 106


def test_a_bill_that_is_never_below_another() -> None:
    same = RequestBill(Fraction(1))
    assert crossover(same, same).requests_per_month == NOT_REACHED
    assert crossover(RequestBill(Fraction(1), Fraction(5)), RequestBill(Fraction(2))).requests_per_month == 6


@settings(deadline=None, max_examples=60)
@given(bill=bills, other=bills)
def test_crossings_by_brute_force(bill: Bill, other: Bill) -> None:
    crossing = crossover(bill, other)
    most = min(600, crossing.searched_to_requests_per_month)
    cheaper = [bill.monthly_usd(requests) < other.monthly_usd(requests) for requests in range(1, most + 1)]
    first = cheaper.index(True) + 1 if True in cheaper else None
    if first is None:
        assert not isinstance(crossing.requests_per_month, int) or crossing.requests_per_month > most
        return
    assert crossing.requests_per_month == first
    for_good = crossing.cheaper_for_good_from
    assert crossing.stays_cheaper == (for_good == first)
    if isinstance(for_good, int) and for_good <= most:
        assert all(cheaper[for_good - 1 :])
        assert for_good == first or not cheaper[for_good - 2]
