from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.projecting.cores import capacity_on
from deploycost.projecting.request_times import NOTHING_SEEN, known_device, seen_in, times_on
from deploycost.projecting.variant_work import request_of
from deploycost.records import Figure, LoadRecord, Slo, Variant
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
    capacity = capacity_on(make_variant(), t4(make_offer, accelerator_name="Inferentia2"))
    assert capacity.capacity_rps.basis == "projected"
    assert "torch-neuronx" in capacity.reason


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
    make_variant: MakeVariant, make_load: Callable[..., LoadRecord], make_offer: MakeOffer
) -> None:
    load = measured_on(make_load(), "EPYC Turin", slo=Slo(p95_ms=0.5))
    capacity = capacity_on(make_variant(load=load), t4(make_offer))
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
