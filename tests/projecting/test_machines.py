from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.projecting.cores import capacity_on, carried_on
from deploycost.projecting.machines import Planned
from deploycost.projecting.request_times import NOTHING_SEEN, Times, correction, known_device, rising, seen_in, times_on
from deploycost.projecting.variant_work import request_of
from deploycost.records import Figure, LoadRecord, Slo, Variant
from deploycost.stats import isotonic
from pricing.book import Offer

MakeOffer = Callable[..., Offer]
MakeVariant = Callable[..., Variant]


def t4(make_offer: MakeOffer, **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "instance_type": "g4dn.xlarge", "family": "aws-g4dn", "vcpus": Decimal(4), "accelerator_name": "T4",
        "accelerator_count": Decimal(1), "cpu_model": "Xeon Cascade Lake 8259CL",
    }  # fmt: skip
    return make_offer(**(fields | changes))


def of_method(variant: Variant, method: str, **hyper_parameters: Any) -> Variant:
    tuning = variant.tuning.model_copy(update={"method": method, "hyper_parameters": hyper_parameters})
    return variant.model_copy(update={"tuning": tuning})


def measured_on(load: LoadRecord, cpu_model: str, **changes: Any) -> LoadRecord:
    environment = load.environment.model_copy(update={"cpu_model": cpu_model})
    return load.model_copy(update={"environment": environment, **changes})


def known(figure: Figure) -> tuple[float, float, float]:
    assert figure.low is not None
    assert figure.value is not None
    assert figure.high is not None
    return figure.low, figure.value, figure.high


def test_a_t4_is_projected_and_says_what_would_serve_there(make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    capacity = capacity_on(make_variant(), t4(make_offer))
    low, value, high = known(capacity.capacity_rps)
    assert capacity.capacity_rps.basis == "projected"
    assert 0 < low < value < high
    assert "ONNX Runtime fp16 on T4" in capacity.reason
    assert "the same model exported for it in fp16, not this CPU artifact" in capacity.reason
    assert capacity.load is None


def test_an_accelerator_runs_what_is_compiled_for_it(make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    """Its tables differ by a factor of two where they should agree: of a model as narrow as this they tell nothing."""
    capacity = capacity_on(make_variant(), t4(make_offer, accelerator_name="Inferentia2"))
    assert (capacity.capacity_rps.value, capacity.capacity_rps.basis) == (None, "projected")
    assert "too little is known (Inferentia2 (per chip) with neuronx measured" in capacity.reason


def test_cards_carry_in_proportion_and_shares_less(make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    one, four, half = (
        capacity_on(make_variant(), t4(make_offer, accelerator_count=Decimal(count), vcpus=Decimal(96))).capacity_rps
        for count in ("1", "4", "0.5")
    )
    assert known(four)[1] == pytest.approx(4 * known(one)[1])
    assert known(half)[1] < known(one)[1]


@pytest.mark.parametrize(
    ("cpu_model", "vcpu_is"), [("EPYC Genoa 9R14", "core"), ("Xeon Sapphire Rapids 8488C", "thread")]
)
def test_cpus_are_projected_from_a_load_test_elsewhere(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer, cpu_model: str, vcpu_is: str
) -> None:
    variant = make_variant(load=measured_on(make_load(), "EPYC Turin"))
    small, large = (
        capacity_on(variant, make_offer(cpu_model=cpu_model, vcpu_is=vcpu_is, vcpus=Decimal(count))) for count in (2, 8)
    )
    assert small.capacity_rps.basis == "projected"
    low, value, high = known(small.capacity_rps)
    assert 0 < low < value < high
    assert known(large.capacity_rps)[1] == pytest.approx(4 * value)
    assert (small.server_copies, large.server_copies) == (2, 8)
    assert "servers keep 0.9" in small.reason
    assert small.load == variant.load


def test_a_machine_like_the_measured_one_carries_about_what_was_measured(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    variant = make_variant(load=measured_on(make_load(), "EPYC Turin"))
    there = capacity_on(variant, make_offer(cpu_model="EPYC Turin", vcpu_is="core", vcpus=Decimal(1)))
    assert known(there.capacity_rps)[1] == pytest.approx(100, rel=0.25)
    slower = make_variant(load=measured_on(make_load(), "EPYC Turin", capacity_rps=Figure(value=50.0)))
    half = capacity_on(slower, make_offer(cpu_model="EPYC Turin", vcpu_is="core", vcpus=Decimal(1)))
    assert known(half.capacity_rps)[1] == pytest.approx(known(there.capacity_rps)[1] / 2)


def test_an_objective_below_the_service_time_carries_nothing_and_says_so(
    make_variant: MakeVariant, make_offer: MakeOffer
) -> None:
    capacity = capacity_on(make_variant(), t4(make_offer), Planned(slo_ms=0.5))
    assert capacity.capacity_rps.value == 0
    assert "takes longer than p95 within 0.5 ms allows" in capacity.reason


def test_a_record_from_the_machine_overrides_the_projection(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    load = make_load(500.0, 480.0, 520.0)
    there = load.environment.model_copy(update={"instance_type": "g4dn.xlarge"})
    record = load.model_copy(update={"environment": there})
    capacity = capacity_on(make_variant(elsewhere=(record,)), t4(make_offer))
    assert capacity.capacity_rps == record.capacity_rps
    assert capacity.capacity_rps.basis == "measured"


def test_the_latency_on_a_t4_is_that_of_the_queue_its_capacity_comes_from(
    make_variant: MakeVariant, make_offer: MakeOffer
) -> None:
    one, same = (capacity_on(make_variant(), t4(make_offer), Planned(share)).p95_ms for share in (0.7, 1.0))
    assert one is not None
    assert one.basis == "projected"
    assert known(one)[0] < known(one)[1] < known(one)[2]
    assert same is not None
    assert known(one)[1] <= known(same)[1] <= 100  # within the objective of the load test, at every end
    assert known(same)[2] <= 100
    cards = t4(make_offer, accelerator_count=Decimal(4), vcpus=Decimal(96))
    four = capacity_on(make_variant(), cards, Planned(0.7)).p95_ms
    assert four is not None
    assert known(four)[1] == pytest.approx(known(one)[1])


def test_an_objective_that_a_t4_misses_leaves_its_own_latency(make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    capacity = capacity_on(make_variant(), t4(make_offer), Planned(0.7, slo_ms=0.5))
    assert capacity.capacity_rps.value == 0
    assert capacity.p95_ms is not None
    assert known(capacity.p95_ms)[1] > 0.5


def test_cards_and_what_was_never_tested_keep_to_the_objective_that_is_asked(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    card = t4(make_offer, vcpus=Decimal(96))  # enough to feed it
    cpu = make_offer(cpu_model="EPYC Turin", vcpu_is="core", vcpus=Decimal(1))
    tested = make_variant(load=measured_on(make_load(), "EPYC Turin", slo=Slo(p95_ms=100)))
    untested = make_variant(load=None)
    for variant, offer, tight_ms in ((tested, card, 5), (untested, card, 5), (untested, cpu, 20)):
        soon, late = (capacity_on(variant, offer, Planned(slo_ms=ms)) for ms in (tight_ms, 500))
        assert known(soon.capacity_rps)[1] < known(late.capacity_rps)[1]
        assert soon.p95_ms is not None
        assert known(soon.p95_ms)[1] <= tight_ms
        [[ranked_rps]] = carried_on([variant], [offer], Planned(slo_ms=tight_ms)).rps
        assert ranked_rps == pytest.approx(soon.capacity_rps.value)
    # A CPU's capacity is that of its load test, whose objective the quote names beside the one asked.
    soon, late = (capacity_on(tested, cpu, Planned(slo_ms=ms)).capacity_rps for ms in (20, 500))
    assert soon == late


@pytest.mark.parametrize("slo_ms", [20, 100])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_the_interval_of_a_latency_holds_it(
    make_variant: MakeVariant, make_offer: MakeOffer, share: float, slo_ms: float
) -> None:
    for cards in ("0.125", "0.25", "1", "8"):
        offer = t4(make_offer, accelerator_count=Decimal(cards), vcpus=Decimal(96))
        p95_ms = capacity_on(make_variant(load=None), offer, Planned(share, slo_ms)).p95_ms
        assert p95_ms is not None
        low, value, high = known(p95_ms)
        assert low <= value <= high


def test_the_latency_of_a_cpu_follows_its_speed_and_what_the_load_test_measured(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    def p95_ms(cpu_model: str, load: LoadRecord | None) -> float:
        offer = make_offer(cpu_model=cpu_model, vcpu_is="core", vcpus=Decimal(1))
        told = capacity_on(make_variant(load=load), offer, Planned(0.7)).p95_ms
        assert told is not None
        low, value, high = known(told)
        assert low <= value <= high <= 100
        assert told.basis == "projected"
        return value

    load = measured_on(make_load(), "EPYC Turin")
    assert p95_ms("EPYC Turin", None) < 100
    # On the same chip, one core for one core, as it was measured there.
    assert p95_ms("EPYC Turin", load) == pytest.approx(load.p95_at(0.7 * 100.0), rel=0.1)
    assert p95_ms("EPYC Milan 7R13", load) > 1.2 * p95_ms("EPYC Turin", load)


def slow_on(load: LoadRecord, cpu_model: str, slower: float, **changes: Any) -> LoadRecord:
    """A load test on a CPU where answers took so many times as long."""
    curve = tuple(point.model_copy(update={"p50_ms": slower * (point.p50_ms or 0)}) for point in load.curve)
    return measured_on(load, cpu_model, curve=curve, **changes)


def test_a_load_test_on_a_chip_in_no_table_corrects_the_projection_less_than_one_on_a_known_chip(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord]
) -> None:
    request, genoa = request_of(make_variant()), known_device("EPYC Genoa")
    assert request is not None
    assert genoa is not None

    def told(cpu_model: str, slower: float) -> Times:
        times = times_on(request, seen_in(slow_on(make_load(), cpu_model, slower)), genoa)
        assert times is not None
        return times

    of_unknown, of_known = (told(name, 2.0).seconds[1] / told(name, 1.0).seconds[1] for name in ("Zeon", "EPYC Turin"))
    assert 1.05 < of_unknown < of_known < 2.1
    uncorrected = times_on(request, NOTHING_SEEN, genoa)
    assert uncorrected is not None
    assert told("EPYC Turin", 1.0).reach < told("Zeon", 1.0).reach < uncorrected.reach


def test_of_several_load_tests_the_one_on_the_nearest_chip_tells(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    offer = make_offer(cpu_model="EPYC Genoa 9R14", vcpu_is="core", vcpus=Decimal(1))
    there = slow_on(make_load(), "EPYC Genoa", 1.0)
    others = tuple(
        slow_on(make_load(), name, 2.0, finished_at="2026-02-02T00:00:00+00:00") for name in ("EPYC Turin", "Z")
    )
    assert capacity_on(make_variant(load=there, elsewhere=others), offer).load == there
    assert capacity_on(make_variant(load=others[1], elsewhere=others[:1]), offer).load == others[0]


def test_what_a_chip_in_no_table_may_be_is_told(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    offer = make_offer(cpu_model="EPYC Genoa 9R14", vcpu_is="core", vcpus=Decimal(1))
    unknown = capacity_on(make_variant(load=measured_on(make_load(), "Zeon")), offer)
    assert unknown.capacity_rps.basis == "projected"
    # All x86 CPUs of the table.
    assert "corrected by a load test on a CPU in no table, which may be any of 41 known ones" in unknown.reason
    assert "in no table" not in capacity_on(make_variant(load=measured_on(make_load(), "EPYC Turin")), offer).reason
    assert "in no table" not in capacity_on(make_variant(load=None), offer).reason


def test_a_measurement_at_one_of_two_places_by_hand() -> None:
    # Expected are 1 and 3, each with a variance of 0.5 of its own. What either may be is expected to be 2; it varies by
    # 0.5, and by 1 because the two differ. With each of them it shares half of its 0.5.
    variances = np.array([0.5, 0.5])
    found = correction(variances, np.diag(variances), np.array([1.0, 3.0]), variances)
    share = 0.25 / 1.5
    assert found.expected == 2
    assert found.share.tolist() == pytest.approx([share, share])
    assert found.variances.tolist() == pytest.approx([0.5 - share * 0.25] * 2)
    # Where it is known which, there it is as measured.
    found = correction(variances, np.array([[0.0], [0.5]]), np.array([3.0]), np.array([0.5]))
    assert found.expected == 3
    assert found.share.tolist() == pytest.approx([0.0, 1.0])
    assert found.variances.tolist() == pytest.approx([0.5, 0.0])


def test_what_is_not_known_is_scaled_or_unknown_as_before(make_variant: MakeVariant, make_offer: MakeOffer) -> None:
    unknown_chip = capacity_on(make_variant(), make_offer(cpu_model="Zeon"))
    assert unknown_chip.capacity_rps.basis == "assumed"
    variant = make_variant()
    nameless = variant.model_copy(update={"tuning": variant.tuning.model_copy(update={"base_model": "mystery"})})
    assert capacity_on(nameless, make_offer(cpu_model="EPYC Genoa 9R14")).capacity_rps.basis == "assumed"
    assert capacity_on(nameless, t4(make_offer)).capacity_rps.value is None


def test_what_methods_leave_to_be_computed(make_variant: MakeVariant) -> None:
    def shape(method: str, **hyper_parameters: Any):  # noqa: ANN202
        request = request_of(of_method(make_variant(), method, **hyper_parameters))
        assert request is not None
        return request.shape

    plain = shape("full")
    assert (plain.layers, plain.hidden, plain.labels) == (6, 384, 2)
    assert shape("prompt", virtual_tokens=20).virtual_tokens == 20
    keyed = shape("prompt", virtual_tokens=20, layers="5-6")
    assert (keyed.virtual_tokens, keyed.virtual_keys, keyed.keyed_layers) == (0, 20, 2)
    assert shape("prefix", virtual_tokens=20, reparametrised=True).keyed_layers == 6
    houlsby = shape("adapter", reduction_factor=16, placement="houlsby")
    assert (houlsby.adapters, houlsby.adapter_width) == (2, 24)


@pytest.mark.parametrize("device", ["T4", "L4", "L40S", "A100-80GB"])
@pytest.mark.parametrize("tokens", [10, 53, 300])
def test_more_texts_never_take_less_time(make_variant: MakeVariant, device: str, tokens: int) -> None:
    request, chip = request_of(make_variant()), known_device(device)
    assert request is not None
    assert chip is not None
    times = times_on(request._replace(tokens=tokens), NOTHING_SEEN, chip)
    assert times is not None
    seconds = [times.seconds[batch] for batch in sorted(times.seconds)]
    assert seconds == sorted(seconds)


@given(st.lists(st.floats(-20, 5), min_size=4, max_size=4))
def test_rising_rows_are_the_isotonic_fit(row: list[float]) -> None:
    pooled = [value for _, value in isotonic([(place, value, 1.0) for place, value in enumerate(row)])]
    assert rising(np.array([row, sorted(row)])).tolist() == [pytest.approx(pooled), pytest.approx(sorted(row))]


def test_what_a_load_test_says(make_load: Callable[..., LoadRecord]) -> None:
    seen = seen_in(measured_on(make_load(), "EPYC Turin"))
    assert seen.device is not None
    assert seen.alone_ms == 10.0  # the median at the lowest rate
    assert seen.spread == pytest.approx(0.421, abs=1e-3)  # 20 ms at 95 % over 10 ms at 50 %: ln 2 / 1.645
    assert seen_in(make_load()).device is None  # a CPU that nobody knows


@given(vcpus=st.integers(1, 96), more=st.integers(0, 96))
def test_more_vcpus_never_carry_less(
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer, vcpus: int, more: int
) -> None:
    variant = make_variant(load=measured_on(make_load(), "EPYC Turin"))
    small, large = (
        capacity_on(variant, make_offer(cpu_model="EPYC Milan 7R13", vcpus=Decimal(count))).capacity_rps
        for count in (vcpus, vcpus + more)
    )
    assert known(small)[2] <= known(large)[2] * (1 + 1e-12)
