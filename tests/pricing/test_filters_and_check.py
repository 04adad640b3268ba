import datetime
from collections.abc import Callable
from decimal import Decimal

import pytest

from pricing.book import Offer, PriceBook
from pricing.check import ages, gaps
from pricing.errors import PriceError
from pricing.filters import Filters, narrowed


def test_limits_are_inclusive(make_offer: Callable[..., Offer]) -> None:
    small = make_offer(vcpus=Decimal(2), memory_gib=Decimal(4), usd_per_hour=Decimal("0.1"))
    large = make_offer(vcpus=Decimal(8), memory_gib=Decimal(32), usd_per_hour=Decimal("0.4"))
    gpu = make_offer(accelerator_name="T4", accelerator_count=Decimal(1), usd_per_hour=Decimal("0.5"))
    offers = [small, large, gpu]
    for filters, expected in (
        (Filters(), offers),
        (Filters(min_vcpus=Decimal(8)), [large]),
        (Filters(max_vcpus=Decimal(2)), [small, gpu]),
        (Filters(min_memory_gib=Decimal(4), max_memory_gib=Decimal(4)), [small, gpu]),
        (Filters(max_usd_per_hour=Decimal("0.4")), [small, large]),
        (Filters(accelerator="t4"), [gpu]),
        (Filters(accelerator="any"), [gpu]),
        (Filters(accelerator="none"), [small, large]),
    ):
        assert narrowed(offers, filters, offers) == expected


def test_an_unknown_accelerator_and_an_empty_answer_are_told(book: PriceBook) -> None:
    with pytest.raises(PriceError, match=r"unknown accelerator 'L40' \(did you mean 'L40S'"):
        narrowed(book.offers, Filters(accelerator="L40"), book.offers)
    with pytest.raises(PriceError, match="none of 1853 prices is within these limits"):
        narrowed(book.offers, Filters(max_usd_per_hour=Decimal(0)), book.offers)


def test_ages_by_hand(make_offer: Callable[..., Offer]) -> None:
    offers = [
        make_offer(as_of=datetime.date(2026, 1, day), instance_type=str(day), purchase_option=option)
        for day, option in ((1, "spot"), (3, "on-demand"), (11, "on-demand"), (21, "on-demand"))
    ]
    on_demand, spot = ages(offers, datetime.date(2026, 1, 31), 19)
    assert (on_demand.rows, on_demand.oldest, on_demand.newest) == (
        3, datetime.date(2026, 1, 3), datetime.date(2026, 1, 21),
    )  # fmt: skip
    assert (on_demand.median_days, on_demand.stale) == (20, 2)
    assert (spot.purchase_option, spot.stale) == ("spot", 1)


def test_gaps_by_hand(make_offer: Callable[..., Offer]) -> None:
    offers = [
        make_offer(family="aws-a", region="r1"),
        make_offer(family="aws-a", region="r1", purchase_option="spot"),
        make_offer(family="aws-a", region="r2"),
        make_offer(family="aws-b", region="r1"),
    ]
    assert [(gap.what, gap.families) for gap in gaps(offers)] == [
        ("no reserved-1y, reserved-3y prices", ()), ("no spot prices", ("aws-b",)), ("no prices in r2", ("aws-b",)),
    ]  # fmt: skip


def test_gaps_of_the_shipped_book(book: PriceBook) -> None:
    told = {(gap.cloud, gap.what): gap.families for gap in gaps(book.offers)}
    assert "aws-c7i" in told["aws", "no prices in us-west-2"]
    assert told["gcp", "no prices in us-east4"] == ("gcp-t2a",)
    # Vast is a market: that a country has no host of a kind today is no gap in a price list.
    assert not [what for cloud, what in told if cloud == "vast" and "prices in" in what]
