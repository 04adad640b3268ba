"""A sheet made in part is the beginning of the same sheet made whole."""

from collections.abc import Callable
from decimal import Decimal
from math import inf
from random import Random

import pytest

from deploycost.costing.alternatives import Alternatives, Machine, Site, hired
from deploycost.costing.quote import Bounds, Question, cost_order, quote
from deploycost.costing.sieve import SORTS, SortKey
from deploycost.errors import NoAnswer
from deploycost.records import Figure, MemoryUse, Quote, Variant
from deploycost.traffic_shape import week_shape
from deploycost.units import GIB
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer

MakeVariant = Callable[..., Variant]
MakeOffer = Callable[..., Offer]
SHOWN = 7
FLAT = Traffic(requests_per_month=50_000_000)
SHAPED = Traffic(requests_per_month=50_000_000, hourly_weights=week_shape("business-hours"), shape="business-hours")
POLICIES = {
    "fixed": (FLAT, Policy()),
    "autoscaled": (SHAPED, Policy(autoscale=True, cold_start_s=200, spot_interruption_ratio=0.1)),
    "steps and lead": (SHAPED, Policy(autoscale=True, cold_start_s=9000, scale_step=3, utilisation_ratio=0.35)),
    "all costs": (
        SHAPED,
        Policy(
            horizon_months=12, storage_gib=20, storage_usd_per_gib_month=Decimal("0.08"), response_bytes=700,
            egress_usd_per_gib=Decimal("0.09"),
        ),
    ),
}  # fmt: skip


def carries(variant: Variant, offer: Offer) -> Capacity:
    """Twenty requests per second a core; nothing is known of accelerators."""
    if offer.accelerator_name or variant.load is None:
        return Capacity(
            capacity_rps=Figure(value=None, basis="assumed"), reason=f"unknown: {offer.accelerator_name}; x"
        )
    measured, cores = variant.load.capacity_rps, float(offer.vcpus)
    figure = Figure(
        value=cores * (measured.value or 0), low=cores * (measured.low or 0), high=cores * (measured.high or 0),
        basis="assumed",
    )  # fmt: skip
    return Capacity(
        capacity_rps=figure, reason=f"on {offer.instance_type}", load=variant.load, server_copies=int(cores)
    )


def draws(offer: Offer) -> Site:
    return Site(offer.vcpus, offer.vcpus * 4, Decimal("1.1"), Decimal(300) if offer.region == "a" else Decimal(100))


@pytest.fixture(scope="module")
def variants(make_variant: MakeVariant, make_load: Callable[..., object]) -> list[Variant]:
    draw = Random(3)
    made = []
    for number in range(9):
        rate = float(draw.randint(5, 60))
        memory = MemoryUse(idle=1, at_capacity=1, peak=draw.choice([GIB // 4, 2 * GIB]))
        load = make_load(rate, 0.9 * rate, 1.1 * rate, memory_bytes=memory)
        made.append(make_variant(f"m{number}.onnx-int8", accuracy=draw.choice([0.8, 0.85, 0.9]), load=load))
    return [*made, make_variant("untested.onnx-int8", load=None)]


@pytest.fixture(scope="module")
def machines(make_offer: MakeOffer) -> list[Machine]:
    draw = Random(5)
    offers = []
    for number in range(60):
        vcpus = draw.choice([1, 2, 4, 8])
        offers.append(
            make_offer(
                region=draw.choice("ab"),
                instance_type=f"t{number}",
                vcpus=Decimal(vcpus),
                memory_gib=Decimal(2 * vcpus),
                usd_per_hour=Decimal(vcpus) * draw.choice([Decimal("0.04"), Decimal("0.05")]),
                purchase_option=draw.choice(["on-demand", "spot", "reserved-1y"]),
                accelerator_name="T4" if number % 10 == 0 else None,
                accelerator_count=Decimal(1 if number % 10 == 0 else 0),
                billing_granularity_s=draw.choice([1, 3600, 86_400]),
                billing_minimum_s=draw.choice([60, 7200]),
            )
        )
    return hired(offers)


def ask(
    variants: list[Variant], machines: list[Machine], shown: int | None, policy: str, **wanted: object
) -> QuoteSheet:
    traffic, rules = POLICIES[policy]
    question = Question(traffic, rules, 100.0, shown=shown, **wanted)  # type: ignore[arg-type]
    return quote(variants, Alternatives(machines), carries, draws, question)


@pytest.fixture(scope="module")
def whole_sheets(variants: list[Variant], machines: list[Machine]) -> dict[str, QuoteSheet]:
    return {policy: ask(variants, machines, None, policy) for policy in POLICIES}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sort", ["planned", "floor", "per-correct", "monthly", "p95", "accuracy", "energy", "carbon"])
def test_the_first_rows_are_the_same(
    variants: list[Variant],
    machines: list[Machine],
    whole_sheets: dict[str, QuoteSheet],
    policy: str,
    sort: SortKey,
) -> None:
    whole = whole_sheets[policy]
    part = ask(variants, machines, SHOWN, policy, sort=sort)
    assert (len(whole.quotes), len(part.quotes)) == (600, SHOWN)
    priced = [each for each in whole.quotes if each.usd_per_million.planned.value is not None]
    assert part.left_out == len(priced) - SHOWN

    def value(each: Quote) -> float:
        figure = SORTS[sort](each)
        return inf if figure is None else figure

    expected = sorted(priced, key=lambda each: (value(each), *cost_order(each)))[:SHOWN]
    assert [value(each) for each in part.quotes] == pytest.approx([value(each) for each in expected])
    if sort == "planned":
        assert part.quotes == whole.quotes[:SHOWN]
    by_name = {(each.variant, each.instance_type): each for each in whole.quotes}
    assert all(each == by_name[each.variant, each.instance_type] for each in part.quotes), "marks of the front too"


def test_unknown_rows_are_counted_by_reason(variants: list[Variant], machines: list[Machine]) -> None:
    sheet = ask(variants, machines, SHOWN, "fixed")
    told = {each.reason: (each.quotes, each.machine_count, each.machines) for each in sheet.unknown}
    # Six machines have an accelerator; the untested variant is unknown on all sixty.
    assert told == {"None": (54, 54, ("aws t1", "aws t2", "aws t3")), "T4": (60, 6, ("aws t0", "aws t10", "aws t20"))}


def test_bounds_find_the_same_rows(variants: list[Variant], machines: list[Machine]) -> None:
    bounds = Bounds(min_accuracy=0.85, max_monthly_usd=400)
    whole, part = (ask(variants, machines, shown, "fixed", bounds=bounds) for shown in (None, SHOWN))
    assert part.quotes == whole.quotes[:SHOWN]
    assert part.refused == whole.refused > 0
    assert all((each.monthly_usd.value or 0) <= 400 and (each.accuracy.value or 0) >= 0.85 for each in whole.quotes)


def test_nothing_fits_says_what_came_nearest(variants: list[Variant], machines: list[Machine]) -> None:
    told = []
    for shown in (None, SHOWN):
        with pytest.raises(NoAnswer) as no:
            ask(variants, machines, shown, "fixed", bounds=Bounds(max_monthly_usd=1))
        told.append(str(no.value))
    assert told[0] == told[1]
    lowest = min(each.monthly_usd.value or inf for each in ask(variants, machines, None, "fixed").quotes)
    assert "none of 600 quotes has at most $1.00 a month; nearest is m" in told[0]
    assert told[0].endswith(f"${lowest:.2f} a month")


def test_machines_named_by_a_load_record_are_asked_for_themselves(
    make_variant: MakeVariant, make_load: Callable[..., object], machines: list[Machine]
) -> None:
    asked: set[str] = set()

    def watched(variant: Variant, offer: Offer) -> Capacity:
        asked.add(offer.instance_type)
        return carries(variant, offer)

    load = make_variant().load
    assert load
    here = load.model_copy(update={"environment": load.environment.model_copy(update={"instance_type": "t33"})})
    many = [make_variant(f"v{number}.onnx-int8", load=here) for number in range(8)]
    question = Question(FLAT, Policy(), 100.0, shown=1)
    quote(many, Alternatives(machines), watched, draws, question)
    assert "t33" in asked
    # Four sizes with and without an accelerator, the named one, and the machine of the row that is shown.
    assert len(asked) <= 10
