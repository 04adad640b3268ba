from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycost.costing.quote import CapacityOn
from deploycost.costing.returns import (
    ApiRequest,
    Terms,
    api_usd_per_request,
    classification_request,
    one_off_notes,
    one_off_usd,
    return_against_api,
    return_against_variant,
)
from deploycost.errors import UserError
from deploycost.records import Figure, LoadRecord, Variant
from deploycost.verdicts import NOT_REACHED, QuoteSheet, Traffic
from pricing.book import Offer
from pricing.llm import find_llm_api

Price = Callable[..., QuoteSheet]
MakeVariant = Callable[..., Variant]
MakeLoad = Callable[..., LoadRecord]


# One per cent a month, compounded
ONE_PER_CENT_A_MONTH = 1.01**12 - 1
COST = Figure(value=100.0, basis="assumed")


@pytest.fixture(scope="module")
def sheet(
    price: Price,
    make_variant: MakeVariant,
    make_load: MakeLoad,
    make_offer: Callable[..., Offer],
    measured_capacity: CapacityOn,
    traffic: Traffic,
) -> QuoteSheet:
    """`full.onnx-int8` for 438 a month (365 to 438), `full.onnx-fp32` for 730 (657 to 803), and an unknown."""
    variants = [
        make_variant("full.onnx-int8"),
        make_variant("full.onnx-fp32", load=make_load(50.0, 45.0, 55.0)),
        make_variant("lora.onnx-int8", load=None),
    ]
    return price(variants, [make_offer()], measured_capacity, traffic)


def test_one_off_by_hand(make_variant: MakeVariant) -> None:
    # 3,000 s of training and 600 s of export at 0.10 an hour
    assert one_off_usd(make_variant(), Decimal("0.1")) == Figure(value=0.1, basis="assumed")


def test_a_request_to_an_api_by_hand() -> None:
    # 50 tokens and a prompt of 60 at 0.05 a million, 5 tokens at 0.40 a million
    request = classification_request(50.0)
    assert request == ApiRequest(input_tokens=110.0, output_tokens=5)
    assert api_usd_per_request(find_llm_api("gpt-5-nano"), request) == Decimal("7.5e-6")


def test_a_model_that_answers_no_prompts_is_refused() -> None:
    with pytest.raises(UserError, match="text-embedding-3-small is for embedding and cannot classify by a prompt"):
        api_usd_per_request(find_llm_api("text-embedding-3-small"), ApiRequest(input_tokens=10))


def test_against_an_api_by_hand(sheet: QuoteSheet) -> None:
    terms = Terms(horizon_months=2, annual_discount_ratio=ONE_PER_CENT_A_MONTH)
    result = return_against_api(sheet.quotes[0], find_llm_api("gpt-5-nano"), ApiRequest(110.0), COST, sheet, terms)
    # 262.8 million requests at 7.50 a million, less 438 (365 to 438)
    assert result.baseline_monthly_usd == Figure(value=1971.0, basis="assumed")
    assert result.monthly_saving_usd == Figure(value=1533.0, low=1533.0, high=1606.0, basis="assumed")
    assert result.payback_months == pytest.approx(100 / 1533)
    assert result.npv_usd.value == pytest.approx(1533 / 1.01 + 1533 / 1.0201 - 100)
    assert result.roi_ratio == pytest.approx((2 * 1533 - 100) / 100)
    # One machine and a spare cost 146 a month: 19,466,666.7 requests at 7.50 a million
    assert result.break_even.requests_per_month == 19_466_667
    assert result.break_even.stays_cheaper is True
    assert (result.candidate, result.baseline) == ("full.onnx-int8 on aws x.large", "openai/gpt-5-nano@2026-11-22")
    assert result.notes[0] == "not verified: the accuracy of gpt-5-nano on this task"
    assert "$7.50 per million" in result.notes[1]


def test_against_a_variant_by_hand(sheet: QuoteSheet) -> None:
    candidate, baseline, _ = sheet.quotes
    result = return_against_variant(candidate, baseline, COST, sheet, Terms(12, 0.0))
    assert result.baseline_kind == "variant"
    assert baseline.monthly_usd == Figure(value=730.0, low=657.0, high=803.0)
    assert result.monthly_saving_usd == Figure(value=292.0, low=219.0, high=438.0)
    assert result.payback_months == pytest.approx(100 / 292)
    assert result.npv_usd == Figure(
        value=12 * 292.0 - 100, low=12 * 219.0 - 100, high=12 * 438.0 - 100, basis="assumed"
    )
    # Half the capacity, so its second serving machine comes at half of 61,320,000 requests
    assert result.break_even.requests_per_month == 30_660_001


def test_a_loss_is_not_paid_back(sheet: QuoteSheet) -> None:
    candidate, baseline, _ = sheet.quotes
    result = return_against_variant(baseline, candidate, COST, sheet, Terms())
    assert result.payback_months == NOT_REACHED
    assert result.break_even.requests_per_month == NOT_REACHED
    assert (result.npv_usd.value or 0) < -100


def test_the_unknown_stays_unknown(sheet: QuoteSheet) -> None:
    known, _, unknown = sheet.quotes
    result = return_against_variant(unknown, known, COST, sheet, Terms())
    assert result.monthly_saving_usd.value is None
    assert result.payback_months is None
    assert result.npv_usd.value is None
    assert result.roi_ratio is None
    assert result.break_even.requests_per_month is None
    api = return_against_api(unknown, find_llm_api("gpt-5-nano"), ApiRequest(110.0), COST, sheet, Terms())
    assert api.break_even.requests_per_month is None


def test_a_service_says_why_its_break_even_is_unknown(sheet: QuoteSheet) -> None:
    known = sheet.quotes[0]
    service = known.model_copy(update={"kind": "serverless", "instance_type": "lambda", "replicas": None, "parts": ()})
    for result in (
        return_against_api(service, find_llm_api("gpt-5-nano"), ApiRequest(110.0), COST, sheet, Terms()),
        return_against_variant(service, known, COST, sheet, Terms()),
        return_against_variant(known, service, COST, sheet, Terms()),
    ):
        assert result.break_even.requests_per_month is None
        assert result.notes[-1].startswith("break-even unknown: a quote holds the bill of aws lambda at one volume")
    assert not any("break-even" in note for note in return_against_variant(known, known, COST, sheet, Terms()).notes)


def test_no_cost_has_no_ratio(sheet: QuoteSheet) -> None:
    candidate, baseline, _ = sheet.quotes
    result = return_against_variant(candidate, baseline, Figure(value=0.0), sheet, Terms())
    assert result.payback_months == 0
    assert result.roi_ratio is None


@settings(max_examples=20)
@given(one=st.floats(0, 2), other=st.floats(0, 2), months=st.integers(1, 60))
def test_dearer_money_is_worth_less_saving(sheet: QuoteSheet, one: float, other: float, months: int) -> None:
    candidate, baseline, _ = sheet.quotes

    def npv(rate: float) -> float:
        value = return_against_variant(candidate, baseline, COST, sheet, Terms(months, rate)).npv_usd.value
        assert value is not None
        return value

    low, high = sorted((one, other))
    assert npv(high) <= npv(low) + 1e-9
    if high - low > 1e-6:
        assert npv(high) < npv(low)


def test_training_of_a_brought_model_is_not_counted_and_said(make_brought: Callable[..., Variant]) -> None:
    brought = make_brought()
    # 600 s of export at 0.6 an hour.
    assert one_off_usd(brought, Decimal("0.6")) == Figure(value=0.1, basis="assumed")
    assert one_off_notes(brought) == ("training not counted: own was brought, and what its training cost is not known",)
