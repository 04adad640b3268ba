from collections.abc import Callable
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.projecting.cores import SPEED_OF_UNKNOWN, capacity_on
from deploycost.projecting.hardware import devices
from deploycost.projecting.request_times import NOTHING_SEEN, times_on
from deploycost.projecting.variant_work import request_of
from deploycost.records import LoadRecord, MemoryUse, Variant
from deploycost.units import GIB
from pricing.book import Offer

Make = Callable[..., Offer]


def on_instance(load: LoadRecord, instance_type: str, **changes: object) -> LoadRecord:
    environment = load.environment.model_copy(update={"instance_type": instance_type})
    return load.model_copy(update={"environment": environment, **changes})


def test_threads_by_hand(make_variant: Callable[..., Variant], make_offer: Make) -> None:
    capacity = capacity_on(make_variant(), make_offer(vcpus=Decimal(4)))
    # 100/s per core x 4 vCPUs x 0.6 of a core x 0.9 for copies; low 90 x 4 x 0.5 x 0.4 x 0.75, high 110 x 4 x 2.5
    assert capacity.capacity_rps.value == pytest.approx(216.0)
    assert capacity.capacity_rps.low == pytest.approx(54.0)
    assert capacity.capacity_rps.high == pytest.approx(1100.0)
    assert capacity.capacity_rps.basis == "assumed"
    assert capacity.server_copies == 4
    assert "0.6 (0.5 to 1)" in capacity.reason
    assert "Test CPU" in capacity.reason
    assert "speed per core times 1 (0.4 to 2.5), measured on one in no table" in capacity.reason


def test_a_whole_core_that_was_measured_is_the_same_core(
    make_variant: Callable[..., Variant], make_offer: Make
) -> None:
    capacity = capacity_on(make_variant(), make_offer(vcpus=Decimal(1), vcpu_is="core"))
    assert capacity.capacity_rps.value == pytest.approx(100.0)
    assert capacity.capacity_rps.low == pytest.approx(36.0)
    assert capacity.capacity_rps.high == pytest.approx(275.0)
    assert capacity.capacity_rps.basis == "assumed"


def test_vcpus_that_no_server_fills_are_not_counted(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    variant = make_variant(load=make_load(server_cores=2))
    five, four = (capacity_on(variant, make_offer(vcpus=Decimal(count), vcpu_is="core")) for count in (5, 4))
    assert five.capacity_rps == four.capacity_rps
    assert five.server_copies == 2
    half = capacity_on(variant, make_offer(vcpus=Decimal(1), vcpu_is="core"))
    assert half.capacity_rps.value == pytest.approx(50.0)
    assert half.server_copies == 1


def test_an_unknown_vcpu_is_taken_for_a_thread(make_variant: Callable[..., Variant], make_offer: Make) -> None:
    unknown = capacity_on(make_variant(), make_offer(vcpu_is=None, cpu_model=None, architecture=None))
    assert unknown.capacity_rps == capacity_on(make_variant(), make_offer()).capacity_rps
    assert "an unknown CPU" in unknown.reason
    assert "taken for a thread" in unknown.reason


def test_a_burstable_machine_counts_by_what_it_may_use_for_ever(
    make_variant: Callable[..., Variant], make_offer: Make
) -> None:
    whole = capacity_on(make_variant(), make_offer()).capacity_rps.value
    burstable = capacity_on(make_variant(), make_offer(sustained_cpu_ratio=Decimal("0.2")))
    assert whole is not None
    assert burstable.capacity_rps.value == pytest.approx(0.2 * whole)
    assert "burstable" in burstable.reason


def test_an_accelerator_that_nobody_knows_is_unknown_until_measured(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    offer = make_offer(instance_type="g4dn.xlarge", accelerator_name="T99", accelerator_count=Decimal(1))
    unknown = capacity_on(make_variant(), offer)
    assert unknown.capacity_rps.value is None
    assert unknown.load is None
    assert "T99 was not measured" in unknown.reason
    measured = on_instance(make_load(500.0, 480.0, 520.0), "g4dn.xlarge")
    known = capacity_on(make_variant(elsewhere=(measured,)), offer)
    assert known.capacity_rps == measured.capacity_rps
    assert known.capacity_rps.basis == "measured"
    assert known.load == measured
    assert capacity_on(make_variant(elsewhere=(measured,)), make_offer()).capacity_rps.value == pytest.approx(108.0)


def test_another_architecture_is_unknown(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    arm = make_offer(instance_type="arm.large", cpu_model="Arm99", architecture="arm64", vcpu_is="core")
    unknown = capacity_on(make_variant(), arm)
    assert unknown.capacity_rps.value is None
    assert "measured on x86_64, and Arm99 is arm64" in unknown.reason
    load = make_load()
    on_arm = load.environment.model_copy(update={"platform": "Linux aarch64"})
    known = capacity_on(make_variant(load=load.model_copy(update={"environment": on_arm})), arm)
    assert known.capacity_rps.value == pytest.approx(2 * 100 * 0.9)


def test_the_last_record_from_a_machine_counts(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    early = on_instance(make_load(10.0), "aws-x.large", finished_at="2026-01-01T00:00:00+00:00")
    late = on_instance(make_load(20.0), "X.Large", finished_at="2026-02-01T00:00:00+00:00")
    assert capacity_on(make_variant(elsewhere=(late, early)), make_offer()).load == late


def test_a_variant_that_was_not_load_tested(make_variant: Callable[..., Variant], make_offer: Make) -> None:
    capacity = capacity_on(make_variant(load=None), make_offer())
    assert capacity.capacity_rps.value is None
    assert capacity.reason == "unknown: not load-tested; run 'deploycost loadtest full.onnx-int8'"


def test_a_missing_interval_still_gets_the_assumption(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    variant = make_variant(load=make_load(100.0, None, None))
    capacity = capacity_on(variant, make_offer(vcpus=Decimal(1), vcpu_is="core"))
    assert (capacity.capacity_rps.low, capacity.capacity_rps.high) == pytest.approx((40.0, 250.0))


@pytest.mark.parametrize(
    ("measured", "low", "high", "told"),
    [
        ("Intel(R) Xeon(R) Platinum 9999C CPU @ 3.10GHz", 72.0, 132.0, "times 1 (0.8 to 1.2), the same chip"),
        ("AMD EPYC 9R14", 63.0, 154.0, "times 1 (0.7 to 1.4)"),
        ("Xeon", 36.0, 275.0, "times 1 (0.4 to 2.5), measured on one in no table"),
    ],
)
def test_the_less_is_known_of_two_chips_the_wider_it_gets(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make, measured: str,
    low: float, high: float, told: str,
) -> None:  # fmt: skip
    load = make_load()
    load = load.model_copy(update={"environment": load.environment.model_copy(update={"cpu_model": measured})})
    offer = make_offer(cpu_model="Xeon 9999C", vcpus=Decimal(1), vcpu_is="core")
    capacity = capacity_on(make_variant(load=load), offer)
    assert capacity.capacity_rps.basis == "assumed"
    assert (capacity.capacity_rps.low, capacity.capacity_rps.high) == pytest.approx((low, high))
    assert told in capacity.reason


def test_the_load_test_on_the_same_chip_is_scaled(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    load = make_load(50.0, 50.0, 50.0)
    there = load.model_copy(update={"environment": load.environment.model_copy(update={"cpu_model": "Xeon 9999C"})})
    offer = make_offer(cpu_model="Xeon 9999C", vcpus=Decimal(1), vcpu_is="core")
    capacity = capacity_on(make_variant(elsewhere=(there,)), offer)
    assert capacity.capacity_rps.value == pytest.approx(50.0)
    assert capacity.load == there


def test_the_speeds_of_unknown_chips_are_those_of_pairs_of_known_servers(make_variant: Callable[..., Variant]) -> None:
    request = request_of(make_variant())
    assert request is not None
    assert request.precision == "int8"
    servers = [chip for chip in devices().values() if chip.kind == "cpu" and chip.name.startswith(("Xeon", "EPYC"))]
    times = [told.seconds[1] for chip in servers if (told := times_on(request, NOTHING_SEEN, chip))]
    assert len(times) == 24
    ratios = sorted(one / other for one, other in permutations(times, 2))
    assert SPEED_OF_UNKNOWN.low == pytest.approx(ratios[int(0.05 * len(ratios))], abs=0.05)
    assert SPEED_OF_UNKNOWN.high == pytest.approx(ratios[int(0.95 * len(ratios))], abs=0.2)


@given(vcpus=st.integers(1, 128), more=st.integers(1, 128), cores=st.integers(1, 8))
def test_more_vcpus_never_carry_less_than_the_interval_says(
    make_variant: Callable[..., Variant],
    make_load: Callable[..., LoadRecord],
    make_offer: Make,
    vcpus: int,
    more: int,
    cores: int,
) -> None:
    variant = make_variant(load=make_load(server_cores=cores))
    small, large = (capacity_on(variant, make_offer(vcpus=Decimal(n))).capacity_rps for n in (vcpus, vcpus + more))
    for figure in (small, large):
        assert figure.low is not None
        assert figure.value is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert small.high is not None
    assert large.high is not None
    assert small.high <= large.high * (1 + 1e-12)


@pytest.mark.parametrize(("vcpu_is", "times"), [("core", 4 * 0.9), ("thread", 4 * 0.9 * 0.6)])
def test_a_machine_on_a_part_of_which_a_server_was_measured_is_filled(
    make_variant: Callable[..., Variant],
    make_load: Callable[..., LoadRecord],
    make_offer: Make,
    vcpu_is: str,
    times: float,
) -> None:
    measured = on_instance(make_load(100.0, 90.0, 110.0), "c9.xlarge")
    offer = make_offer(instance_type="c9.xlarge", vcpus=Decimal(4), vcpu_is=vcpu_is)
    filled = capacity_on(make_variant(elsewhere=(measured,)), offer)
    assert filled.capacity_rps.basis == "projected"
    assert filled.capacity_rps.value == pytest.approx(100.0 * times)
    assert (filled.capacity_rps.low or 0) >= 90.0
    assert filled.capacity_rps.high == pytest.approx(4 * 110.0)
    assert filled.server_copies == 4
    assert "measured on 1 of the 4 vCPUs of c9.xlarge" in filled.reason
    slowed = 0.9 * (0.6 if vcpu_is == "thread" else 1.0)
    assert filled.p95_ms is not None
    assert filled.p95_ms.value == pytest.approx((measured.p95_at(100.0) or 0) / slowed)
    # As many as there is memory for.
    small = make_offer(instance_type="c9.xlarge", vcpus=Decimal(4), vcpu_is=vcpu_is, memory_gib=Decimal(1))
    peak_bytes = GIB // 4
    large = measured.model_copy(update={"memory_bytes": MemoryUse(idle=1, at_capacity=1, peak=peak_bytes)})
    assert capacity_on(make_variant(elsewhere=(large,)), small).server_copies == 2
    whole = measured.model_copy(update={"server_cores": 3})
    assert capacity_on(make_variant(elsewhere=(whole,)), offer).capacity_rps == measured.capacity_rps


def test_a_slower_machine_is_later_too(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    load = make_load()
    capacity = capacity_on(make_variant(load=load), make_offer(vcpu_is="thread"))
    measured_ms = load.p95_at(load.capacity_rps.value or 0)
    assert capacity.p95_ms is not None
    assert capacity.p95_ms.basis == "assumed"
    assert measured_ms is not None
    # A thread counts 0.6 of a core, and two servers keep 0.9.
    assert capacity.p95_ms.value == pytest.approx(measured_ms / 0.6 / 0.9)
    assert (capacity.p95_ms.low or 0) < measured_ms < (capacity.p95_ms.high or 0)


def test_what_a_gpu_carried_says_nothing_of_cpus(
    make_variant: Callable[..., Variant], make_load: Callable[..., LoadRecord], make_offer: Make
) -> None:
    load = make_load(2000.0, 1900.0, 2100.0)
    there = load.environment.model_copy(update={"gpu_model": "A10G"})
    of_gpu = load.model_copy(
        update={"environment": there, "gpu_memory_bytes": MemoryUse(idle=1, at_capacity=2, peak=3)}
    )
    of_cpu = load.model_copy(update={"environment": there})
    half = of_cpu.model_copy(update={"variant": "full.onnx-fp16"})
    assert [each.on_gpu for each in (load, of_gpu, of_cpu, half)] == [False, True, False, True]
    for cpu_model in ("EPYC Milan 7R13", "Zeon 9999X"):
        offer = make_offer(cpu_model=cpu_model)
        untested, tested = (capacity_on(make_variant(load=each), offer) for each in (None, of_gpu))
        assert tested.capacity_rps == untested.capacity_rps
        assert tested.load is None
    assert "load-tested on a GPU alone" in tested.reason
    assert capacity_on(make_variant(load=of_cpu), make_offer(cpu_model="Zeon 9999X")).load == of_cpu
