"""From a sheet to returns: what a model that was brought is held against, and what its return leaves out."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from deploycost.answers import answer
from deploycost.costing.quote import Alternatives, Question, Site, hired, quote
from deploycost.experiment import QuoteSpec
from deploycost.records import Figure, LoadRecord, MemoryUse, Subject, Variant
from deploycost.units import GIB
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer


def sheet_of(variants: list[Variant], *offers: Offer) -> QuoteSheet:
    def capacity_on(variant: Subject, _: Offer) -> Capacity:
        capacity = variant.load.capacity_rps if variant.load else Figure(value=None)
        return Capacity(capacity_rps=capacity, reason="", load=variant.load, server_copies=1)

    question = Question(Traffic(requests_per_month=262_800_000), Policy(), 100.0)
    return quote(variants, Alternatives(hired(offers)), capacity_on, lambda _: Site(), question)


def test_a_brought_model_is_held_against_its_own_plain_graph_without_its_training(
    make_brought: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Callable[..., Offer]
) -> None:
    small = make_brought("own.onnx-int8", load=make_load(200.0, 190.0, 210.0, variant="own.onnx-int8"))
    plain = make_brought("own.onnx-fp32", load=make_load(50.0, 48.0, 52.0, variant="own.onnx-fp32"))
    answers = answer(sheet_of([small, plain], make_offer()), [small, plain], QuoteSpec())
    assert [each.baseline_kind for each in answers.returns] == ["variant", "llm-api"]
    assert answers.returns[0].baseline.startswith("own.onnx-fp32 on ")
    note = "training not counted: own was brought, and what its training cost is not known"
    assert all(each.notes[0] == note for each in answers.returns)
    alone = answer(sheet_of([small], make_offer()), [small], QuoteSpec())
    assert "no return against own.onnx-fp32: it was not built and load-tested in this run" in alone.warnings


def test_a_tuned_model_counts_its_training(
    make_variant: Callable[..., Variant], make_offer: Callable[..., Offer]
) -> None:
    variant = make_variant()
    (against_api,) = answer(sheet_of([variant], make_offer()), [variant], QuoteSpec()).returns
    assert not any("training" in note for note in against_api.notes)


def test_savings_are_counted_against_a_baseline_that_could_be_deployed(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Callable[..., Offer]
) -> None:
    small = make_variant("lora-r8.onnx-int8", load=make_load(200.0, 190.0, 210.0, variant="lora-r8.onnx-int8"))
    plain = make_variant("full.onnx-fp32", load=make_load(50.0, 48.0, 52.0, variant="full.onnx-fp32"))
    # The cheapest has no memory for a server of 256 MiB and a system of 512 MiB.
    nano = make_offer(instance_type="x.nano", memory_gib=Decimal("0.5"), usd_per_hour=Decimal("0.01"))
    large, larger = make_offer(), make_offer(instance_type="x.xlarge", usd_per_hour=Decimal("0.2"))
    against = answer(sheet_of([small, plain], larger, nano, large), [small, plain], QuoteSpec()).returns[0]
    assert against.baseline == "full.onnx-fp32 on aws x.large"
    # 100/s on the mean, three times that at the peak, 0.7 x 50 of each: 9 and a spare, of 0.1 USD for 730 h.
    assert against.baseline_monthly_usd.value == pytest.approx(730.0)

    slow = make_variant("full.onnx-fp32", load=plain.load.model_copy(update={"capacity_rps": Figure(value=None)}))  # type: ignore[union-attr]
    large_only = make_variant(
        "full.onnx-fp32",
        load=plain.load.model_copy(update={"memory_bytes": MemoryUse(idle=GIB, at_capacity=GIB, peak=16 * GIB)}),  # type: ignore[union-attr]
    )
    for baseline, told in (
        (slow, "its capacity is known in none of its 2 quotes"),
        (large_only, "none of its 2 quotes with a price is known to keep the SLO and to fit memory"),
    ):
        answers = answer(sheet_of([small, baseline], large, larger), [small, baseline], QuoteSpec())
        assert f"no return against full.onnx-fp32: {told}" in answers.warnings
        assert [each.baseline_kind for each in answers.returns] == ["llm-api"]
