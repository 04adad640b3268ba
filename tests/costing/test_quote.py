import json
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest

from deploycost.costing.quote import CapacityOn
from deploycost.records import (
    Certificate,
    Check,
    Figure,
    LoadRecord,
    MemoryUse,
    MultiLabelScores,
    RegressionScores,
    Slo,
    Variant,
)
from deploycost.units import GIB
from deploycost.verdicts import OS_RESERVE_BYTES, Capacity, QuoteSheet, Traffic
from pricing.book import Offer

Price = Callable[..., QuoteSheet]
MakeVariant = Callable[..., Variant]
MakeLoad = Callable[..., LoadRecord]
MakeOffer = Callable[..., Offer]


@pytest.fixture
def ask(price: Price, traffic: Traffic, measured_capacity: CapacityOn) -> Callable[..., QuoteSheet]:
    def ask(variants: list[Variant], offers: list[Offer], slo_p95_ms: float = 100.0) -> QuoteSheet:
        return price(variants, offers, measured_capacity, traffic, slo_p95_ms)

    return ask


def test_by_hand(ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    (row,) = ask([make_variant()], [make_offer()]).quotes
    assert row.replicas == 6
    # 110/s needs 3.9 machines at the peak, 90/s needs 4.8; a spare on top: 5 and 6 machines at 73 a month.
    assert row.monthly_usd == Figure(value=438.0, low=365.0, high=438.0)
    planned = row.usd_per_million.planned
    assert (planned.value, planned.low, planned.high) == pytest.approx((438 / 262.8, 365 / 262.8, 438 / 262.8))
    at_saturation = row.usd_per_million.floor
    assert (at_saturation.value, at_saturation.low, at_saturation.high) == pytest.approx(
        (0.1 / 0.36, 0.1 / 0.396, 0.1 / 0.324)
    )
    # Wilson's interval of 900 in 1000, worked out apart from the code
    assert (row.accuracy.low, row.accuracy.high) == pytest.approx((0.879848, 0.917091), abs=1e-6)
    correct = row.usd_per_million.per_correct
    assert (correct.value, correct.low, correct.high) == pytest.approx(
        (438 / 262.8 / 0.9, 365 / 262.8 / 0.917091, 438 / 262.8 / 0.879848), rel=1e-5
    )
    # Planned for 70/s; the nearest probe above was at 80/s.
    assert row.p95_ms == Figure(value=40.0)
    assert row.meets_slo is True
    assert row.certified is True
    assert {row.monthly_usd.basis, planned.basis, at_saturation.basis, correct.basis} == {"measured"}
    assert row.measured_capacity_rps == row.capacity_rps


def test_unknown_accuracy_leaves_the_price_of_a_right_answer_unknown(
    ask: Callable[..., QuoteSheet], make_brought: MakeVariant, make_offer: MakeOffer
) -> None:
    numbers = RegressionScores(mse=1.0, mae=1.0, pearson=0.5, spearman=0.5, rows=10)
    for scores, task in ((None, "single-label"), (numbers, "regression")):
        sheet = ask([make_brought(scores=scores, task=task)], [make_offer()])
        (row,) = sheet.quotes
        assert row.accuracy.value is None
        assert row.usd_per_million.per_correct.value is None
        assert row.usd_per_million.planned.value == pytest.approx(438 / 262.8)
        assert "the accuracy of own is unknown, so what a right answer costs is too" in sheet.warnings


def test_whole_answers_of_several_labels_are_priced_as_right_ones(
    ask: Callable[..., QuoteSheet], make_brought: MakeVariant, make_offer: MakeOffer
) -> None:
    shares = dict.fromkeys(("macro_f1", "precision", "recall", "micro_f1", "micro_precision", "micro_recall"), 0.8)
    scores = MultiLabelScores(accuracy=0.5, rows=1000, **shares)
    (row,) = ask([make_brought(scores=scores, task="multi-label")], [make_offer()]).quotes
    assert row.accuracy.value == 0.5
    assert row.usd_per_million.per_correct.value == pytest.approx(2 * 438 / 262.8)


def test_the_price_row_is_pinned(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_offer: MakeOffer
) -> None:
    (row,) = ask([make_variant()], [make_offer(usd_per_hour=Decimal("0.0123"))]).quotes
    assert (row.usd_per_hour, row.price_source, row.price_date) == (Decimal("0.0123"), "price list", "2026-07-20")


def test_the_json_is_what_scripts_rely_on(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_offer: MakeOffer
) -> None:
    sheet = ask([make_variant()], [make_offer(usd_per_hour=Decimal("0.526"))])
    document = json.loads(sheet.model_dump_json())
    assert document.keys() >= {"quotes", "traffic", "policy", "warnings"}
    (row,) = document["quotes"]
    assert row.keys() >= {
        "variant", "cloud", "region", "instance_type", "purchase_option", "usd_per_hour", "capacity_rps", "replicas",
        "usd_per_million", "monthly_usd", "p95_ms", "accuracy", "fits_memory", "meets_slo",
        "price_source", "price_date",
    }  # fmt: skip
    assert row["usd_per_million"].keys() == {"floor", "planned", "per_correct"}
    assert row["usd_per_hour"] == 0.526
    for figure in (row["capacity_rps"], row["monthly_usd"], row["p95_ms"], *row["usd_per_million"].values()):
        assert figure.keys() == {"value", "low", "high", "basis"}
    assert QuoteSheet.model_validate_json(sheet.model_dump_json()) == sheet


def test_cheapest_first_and_unknown_last(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer
) -> None:
    slow = make_variant("slow.onnx-fp32", load=make_load(20.0, 18.0, 22.0))
    fast = make_variant("fast.onnx-int8", load=make_load(200.0, 180.0, 220.0))
    untested = make_variant("full.onnx-fp32", load=None)
    sheet = ask([untested, slow, fast], [make_offer(), make_offer(instance_type="dear", usd_per_hour=Decimal("0.2"))])
    assert [(row.variant, row.instance_type) for row in sheet.quotes] == [
        ("fast.onnx-int8", "x.large"),
        ("fast.onnx-int8", "dear"),
        ("slow.onnx-fp32", "x.large"),
        ("slow.onnx-fp32", "dear"),
        ("full.onnx-fp32", "dear"),
        ("full.onnx-fp32", "x.large"),
    ]
    last = sheet.quotes[-1]
    assert (last.replicas, last.fits_memory, last.meets_slo, last.certified) == (None, None, None, False)
    assert last.monthly_usd.value is None
    assert last.usd_per_million.per_correct.value is None
    assert any("2 of 6 quotes have no capacity" in warning for warning in sheet.warnings)


def test_equal_bills_are_ordered_by_room_to_grow(
    price: Price, make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer, measured_capacity: CapacityOn
) -> None:
    little = Traffic(requests_per_month=1000)
    variants = [make_variant("a.onnx-fp32", load=make_load(50.0)), make_variant("b.onnx-int8", load=make_load(100.0))]
    first, second = price(variants, [make_offer()], measured_capacity, little).quotes
    assert first.monthly_usd.value == second.monthly_usd.value == 146.0
    assert first.variant == "b.onnx-int8"


def test_memory_counts_every_server_and_the_system(
    price: Price, make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer, traffic: Traffic
) -> None:
    variant = make_variant(load=make_load(memory_bytes=MemoryUse(idle=1, at_capacity=1, peak=GIB // 2)))

    def three_copies(variant: Variant, offer: Offer) -> Capacity:
        return Capacity(capacity_rps=Figure(value=10.0), reason="", load=variant.load, server_copies=3)

    exact, short = Decimal(2), Decimal("1.9")
    assert 3 * GIB // 2 + OS_RESERVE_BYTES == 2 * GIB
    offers = [make_offer(memory_gib=exact, instance_type="fits"), make_offer(memory_gib=short, instance_type="tight")]
    rows = {row.instance_type: row for row in price([variant], offers, three_copies, traffic).quotes}
    assert rows["fits"].fits_memory is True
    assert rows["tight"].fits_memory is False
    assert (
        rows["tight"].memory_reason == "3 servers of 512 MiB at peak and 512 MiB for the system need 2 GiB of 1.9 GiB"
    )


def test_no_capacity_under_the_slo_is_a_no(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer
) -> None:
    (row,) = ask([make_variant(load=make_load(0.0, 0.0, 0.0))], [make_offer()]).quotes
    assert row.meets_slo is False
    assert row.replicas is None
    assert row.monthly_usd.value is None


def test_a_capacity_that_may_be_nothing_has_no_highest_price(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer
) -> None:
    (row,) = ask([make_variant(load=make_load(10.0, 0.0, 20.0))], [make_offer()]).quotes
    assert row.monthly_usd.low is not None
    assert row.monthly_usd.high is None


def test_warnings_say_what_to_doubt(
    ask: Callable[..., QuoteSheet], make_variant: MakeVariant, make_load: MakeLoad, make_offer: MakeOffer
) -> None:
    checks = (Check(name="client CPU", ok=False, value=0.99, limit=0.8), Check(name="drift", ok=True, value=0, limit=1))
    load = make_load(certificate=Certificate(certified=False, checks=checks), slo=Slo(p95_ms=200.0))
    sheet = ask([make_variant(load=load)], [make_offer(purchase_option="spot")])
    told = "\n".join(sheet.warnings)
    assert "full.onnx-int8 on Test CPU: the load test is not certified (client CPU)" in told
    assert "capacity was found for p95 within 200 ms, not 100 ms; load-test again with --slo-p95 100" in told
    assert "spot machines can be taken back" in told
    assert ask([make_variant()], [make_offer()]).warnings == ()


def test_an_assumed_capacity_makes_assumed_prices(
    price: Price, make_variant: MakeVariant, make_offer: MakeOffer, traffic: Traffic
) -> None:
    def assumed(variant: Variant, offer: Offer) -> Capacity:
        figure = Figure(value=50.0, low=20.0, high=80.0, basis="assumed")
        return Capacity(capacity_rps=figure, reason="scaled", load=variant.load, server_copies=1)

    sheet = price([make_variant()], [make_offer()], assumed, traffic)
    (row,) = sheet.quotes
    assert {row.usd_per_million.per_correct.basis, row.monthly_usd.basis, row.p95_ms.basis} == {"assumed"}
    assert row.accuracy.basis == "measured"
    assert row.measured_capacity_rps.value == 100.0
    assert any(re.search("scaled from the measured cores", warning) for warning in sheet.warnings)
    assert row.monthly_usd.low is not None
    assert Fraction(row.monthly_usd.low) <= Fraction(row.monthly_usd.value or 0) <= Fraction(row.monthly_usd.high or 0)
