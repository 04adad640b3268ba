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
from deploycost.records import Figure, MemoryUse, PowerUse, Quote, Variant
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
    """Twenty requests per second a core, on an L4 and where it was measured something else; nothing is known of T4."""
    if offer.accelerator_name == "L4":
        rate = 10.0 * float(offer.vcpus)
        return Capacity(
            capacity_rps=Figure(value=rate, low=0.5 * rate, high=2 * rate, basis="projected"), reason="on L4",
            p95_ms=Figure(value=400 / float(offer.vcpus), basis="projected"),
        )  # fmt: skip
    if variant.load and variant.load.environment.instance_type == offer.instance_type:
        return Capacity(capacity_rps=variant.load.capacity_rps, reason="here", load=variant.load, server_copies=1)
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
        power = PowerUse(watts=Figure(value=2.5 * rate), joules_per_request=Figure(value=2.5), source="RAPL")
        load = make_load(rate, 0.9 * rate, 1.1 * rate, memory_bytes=memory, power=power)
        if number % 2:
            load = load.model_copy(update={"environment": load.environment.model_copy(update={"instance_type": "t33"})})
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
                accelerator_name={0: "T4", 5: "L4"}.get(number % 10),
                accelerator_count=Decimal(1 if number % 5 == 0 else 0),
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
    # Six machines have a T4; the untested variant is unknown on all that have no L4.
    assert told == {"None": (48, 48, ("aws t1", "aws t2", "aws t3")), "T4": (60, 6, ("aws t0", "aws t10", "aws t20"))}


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
    # Four sizes with either accelerator and without, the named one, and the machine of the row that is shown.
    assert len(asked) <= 14


def test_latencies_on_accelerators_are_bounded_and_marked(variants: list[Variant], machines: list[Machine]) -> None:
    # On an L4 400 ms over the vCPUs: of 1, 2, 4 and 8 vCPUs the last two are within 100 ms. Load tests say 40 ms.
    whole, part = (ask(variants, machines, shown, "fixed", bounds=Bounds(max_p95_ms=60)) for shown in (None, SHOWN))
    assert part.quotes == whole.quotes[:SHOWN]
    on_l4 = {each.instance_type: each for each in whole.quotes if each.capacity_reason == "on L4"}
    sizes = {machine.offer.instance_type: int(machine.offer.vcpus) for machine in machines}
    assert {sizes[name] for name in on_l4} == {8}
    assert all(each.p95_ms.value == 50 and each.p95_ms.basis == "projected" for each in on_l4.values())
    every = {each.instance_type: each for each in ask(variants, machines, None, "fixed").quotes}
    assert {sizes[name] for name, each in every.items() if each.meets_slo is False} <= {1, 2}


def test_power_counted_on_a_machine_is_that_of_its_own_rows(variants: list[Variant], machines: list[Machine]) -> None:
    rows = ask(variants, machines, None, "fixed").quotes
    counted = {(each.variant, each.instance_type) for each in rows if "measured by the load test" in each.energy_reason}
    assert counted == {(f"m{number}.onnx-int8", "t33") for number in (1, 3, 5, 7)}
