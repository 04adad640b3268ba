"""What ranks a variant on many machines at once is what a single capacity says of each, to the last digit."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.carried import NO_LOAD, Carried
from deploycost.projecting.cores import capacity_on, carried_on
from deploycost.projecting.machines import Planned
from deploycost.records import Figure, LoadRecord, Service, Slo, Subject, Variant
from deploycost.verdicts import Capacity
from pricing.book import Offer, load_book

MakeLoad = Callable[..., LoadRecord]
MakeVariant = Callable[..., Variant]


def measured_on(load: LoadRecord, cpu_model: str, instance_type: str | None = None, **changes: Any) -> LoadRecord:
    environment = load.environment.model_copy(update={"cpu_model": cpu_model, "instance_type": instance_type})
    return load.model_copy(update={"environment": environment, **changes})


def assert_is_that_of(capacity: Capacity, carried: Carried, row: int, column: int) -> None:
    """What is carried at a place is what the capacity says in full."""
    alone = Carried.unknown(1, 1)
    alone.put_capacity(0, 0, capacity)
    for of_many, of_one in zip(carried[1:], alone[1:], strict=True):
        if of_many is not carried.load_of:
            np.testing.assert_equal(of_many[row, column], of_one[0, 0])
    load_of = carried.load_of[row, column]
    assert capacity.load is (None if load_of == NO_LOAD else carried.loads[load_of])


@pytest.fixture(scope="module")
def subjects(make_variant: MakeVariant, make_load: MakeLoad) -> list[Subject]:
    """Variants that capacities come to in every way: measured, projected, scaled, unknown, too slow for the SLO."""
    plain = make_variant()
    nameless = plain.model_copy(update={"tuning": plain.tuning.model_copy(update={"base_model": "mystery"})})
    odd = plain.model_copy(update={"export": plain.export.model_copy(update={"precision": "int3"})})
    two_cores = measured_on(make_load(), "EPYC Milan 7R13", server_cores=2)
    return [
        plain,
        nameless,
        odd,
        make_variant("lora-r8.onnx-fp32", load=measured_on(make_load(300.0), "EPYC Turin")),
        make_variant(load=two_cores, elsewhere=(measured_on(make_load(70.0), "Xeon", "c7i.large", server_cores=2),)),
        make_variant(load=two_cores, elsewhere=(measured_on(make_load(70.0), "Xeon", "c7i.large"),)),
        make_variant(load=measured_on(make_load(), "EPYC Turin", slo=Slo(p95_ms=0.5))),
        make_variant(load=make_load(None, None, None)),
        make_variant(load=None),
        # A chip in no table: alone, and beside a later one that is in one.
        make_variant("lora-r8.onnx-int8", load=measured_on(make_load(80.0), "Zeon 9999X")),
        make_variant(
            load=measured_on(make_load(80.0), "Zeon 9999X", finished_at="2026-03-03T00:00:00+00:00"),
            elsewhere=(measured_on(make_load(), "EPYC Milan 7R13"),),
        ),
        Service(name="theirs", elsewhere=(make_load(url="http://127.0.0.1/classify"),)),
    ]


def test_the_whole_price_book(subjects: list[Subject]) -> None:
    kinds = {
        (offer.vcpus, offer.vcpu_is, offer.cpu_model, offer.architecture, offer.sustained_cpu_ratio,
         offer.accelerator_name, offer.accelerator_count, offer.instance_type == "c7i.large"): offer
        for offer in load_book().offers
    }  # fmt: skip
    offers = list(kinds.values())
    assert len(offers) > 200
    bases = set()
    carried = carried_on(subjects, offers, Planned(0.6, slo_ms=60))
    for row, variant in enumerate(subjects):
        for column, offer in enumerate(offers):
            capacity = capacity_on(variant, offer, Planned(0.6, slo_ms=60))
            assert_is_that_of(capacity, carried, row, column)
            bases |= {capacity.capacity_rps.basis}
    assert bases == {"measured", "projected", "assumed"}
    assert 0 < np.isnan(carried.rps).sum() < carried.rps.size
    assert carried.is_own.any()


@given(
    vcpus=st.integers(1, 192),
    cards=st.sampled_from([("T4", "1"), ("T4", "0.25"), ("L4", "8"), ("Inferentia2", "6"), (None, "0"), ("X9", "1")]),
    cpu_model=st.sampled_from(["EPYC Milan 7R13", "Graviton3", "Zeon 9999X", None]),
    measured=st.sampled_from(["Xeon Platinum 8380", "Zeon 9999X", "Zeon"]),
    utilisation=st.floats(0.05, 1.0),
    vcpu_is=st.sampled_from(["thread", "core", None]),
    sustained=st.sampled_from(["0.05", "0.4", "1"]),
    slo_ms=st.floats(1, 1000),
    asked_ms=st.floats(1, 1000),
    capacity=st.floats(1, 5000),
    cores=st.integers(1, 4),
)
def test_any_machine(
    *, make_variant: MakeVariant, make_load: MakeLoad, make_offer: Callable[..., Offer], vcpus: int,
    cards: tuple[str | None, str], cpu_model: str | None, vcpu_is: str | None, sustained: str, slo_ms: float,
    asked_ms: float, capacity: float, cores: int, measured: str, utilisation: float,
) -> None:  # fmt: skip
    offer = make_offer(
        vcpus=Decimal(vcpus), accelerator_name=cards[0], accelerator_count=Decimal(cards[1]), cpu_model=cpu_model,
        vcpu_is=vcpu_is, sustained_cpu_ratio=Decimal(sustained),
    )  # fmt: skip
    load = make_load(slo=Slo(p95_ms=slo_ms), capacity_rps=Figure(value=capacity), server_cores=cores)
    variant = make_variant(load=measured_on(load, measured))
    planned = Planned(utilisation, asked_ms)
    told = capacity_on(variant, offer, planned)
    assert_is_that_of(told, carried_on([variant], [offer], planned), 0, 0)
    if told.p95_ms and told.capacity_rps.value and told.capacity_rps.basis == "projected":
        limit_ms = asked_ms if told.load is None else slo_ms  # a CPU's capacity is that of its load test
        assert (told.p95_ms.value or 0) <= limit_ms * (1 + 1e-3)
