import datetime
from collections.abc import Callable
from decimal import Decimal

import pytest

from deploycost.costing.alternatives import Alternatives, ApiOption, Site
from deploycost.costing.quote import Question, quote
from deploycost.costing.request_rows import api_option_usd, api_prices_listed, service_ms
from deploycost.costing.returns import ApiRequest
from deploycost.records import CurvePoint, Figure, LoadRecord, MemoryUse, Quote, Variant
from deploycost.units import MIB
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer
from pricing.llm import LlmApi
from pricing.serverless import ServerlessRate

MILLION = Traffic(requests_per_month=1_000_000)
SHORT = ApiRequest(110, 5, 60)


@pytest.fixture(scope="module")
def load(make_load: Callable[..., LoadRecord]) -> LoadRecord:
    """One core: 100/s, 12 ms alone, p95 twice that, 256 MiB at peak, started in 2 s."""
    curve = tuple(
        CurvePoint(
            rate_rps=rate, achieved_rps=rate, p50_ms=p50, p95_ms=2 * p50, p99_ms=None, service_p50_ms=p50, errors=0,
            requests=1000, duration_s=10.0, meets_slo=True,
        )
        for rate, p50 in ((20.0, 12.0), (90.0, 40.0))
    )  # fmt: skip
    memory = MemoryUse(idle=1, at_capacity=1, peak=256 * MIB)
    return make_load(100.0, 90.0, 110.0, curve=curve, startup_s=2.0, memory_bytes=memory)


@pytest.fixture(scope="module")
def make_rate() -> Callable[..., ServerlessRate]:
    def make(**changes: object) -> ServerlessRate:
        fields: dict[str, object] = {
            "provider": "aws", "service": "lambda", "region": "us-east-1", "architecture": "x86_64",
            "billing": "request", "usd_per_gib_second": ((None, Decimal("0.00001")),),
            "usd_per_vcpu_second": Decimal(0), "usd_per_million_requests": Decimal("0.2"), "rounding_ms": 1,
            "minimum_ms": 1, "memory_min_mib": 128, "memory_max_mib": 10240, "memory_step_mib": 1,
            "mib_per_vcpu": 2048, "vcpus_max": 6, "free_gib_seconds": Decimal(0), "free_vcpu_seconds": Decimal(0),
            "free_requests": Decimal(0), "concurrency_per_instance": 1, "source": "price list",
            "as_of": datetime.date(2026, 7, 20), "note": "",
        }  # fmt: skip
        return ServerlessRate(**(fields | changes))  # type: ignore[arg-type]

    return make


def half_as_fast(variant: Variant, offer: Offer) -> Capacity:
    """A vCPU carries half of what the measured core does, within a third to all of it."""
    assert variant.load
    share = float(offer.vcpus)
    figure = Figure(value=50 * share, low=100 / 3 * share, high=100 * share, basis="assumed")
    return Capacity(capacity_rps=figure, reason="a thread", load=variant.load, server_copies=1)


def ask(
    variants: list[Variant],
    policy: Policy | None = None,
    request: ApiRequest = SHORT,
    **alternatives: object,
) -> QuoteSheet:
    question = Question(MILLION, policy or Policy(), 100.0, api_request=request)
    return quote(variants, Alternatives(**alternatives), half_as_fast, lambda _: Site(), question)  # type: ignore[arg-type]


def test_a_request_on_a_service_by_hand(
    make_variant: Callable[..., Variant], load: LoadRecord, make_rate: Callable[..., ServerlessRate]
) -> None:
    (row,) = ask([make_variant(load=load)], Policy(cold_start_ratio=0.01), services=[make_rate()]).quotes
    # One vCPU is 2 GiB. 12 ms become 24, and one in a hundred waits 2 s: 24 + 20 ms of 2 GiB, and the fee.
    assert row.monthly_usd.value == pytest.approx(1e6 * 2 * 0.044 * 0.00001 + 0.2)
    assert row.monthly_usd.low == pytest.approx(1e6 * 2 * 0.032 * 0.00001 + 0.2)
    assert row.monthly_usd.high == pytest.approx(1e6 * 2 * 0.056 * 0.00001 + 0.2)
    assert row.usd_per_million.planned.value == pytest.approx(1.08)
    assert row.p95_ms.value == pytest.approx(48)
    assert row.capacity_rps.value == pytest.approx(1000 / 24)
    assert (row.kind, row.instance_type, row.purchase_option) == ("serverless", "lambda", "per-request")
    assert (row.fits_memory, row.meets_slo, row.replicas) == (True, True, None)
    assert row.monthly_usd.basis == "assumed"
    assert "a request takes 24 ms on 1 vCPU (2,048 MiB), from 12 ms on 1 measured core(s)" in row.capacity_reason
    assert "billed 24 ms; 1.0 % of requests wait for a cold start of 2.0 s" in row.capacity_reason


def test_rounding_and_shared_instances(
    make_variant: Callable[..., Variant], load: LoadRecord, make_rate: Callable[..., ServerlessRate]
) -> None:
    # CPU is chosen apart: 768 MiB hold the server and the system. Alone, 24 ms are billed as 100; with requests enough
    # to fill an instance as little as 12 ms.
    rate = make_rate(
        mib_per_vcpu=None, usd_per_vcpu_second=Decimal("0.00002"), rounding_ms=100, minimum_ms=100,
        concurrency_per_instance=80, usd_per_million_requests=Decimal(0),
    )  # fmt: skip
    (row,) = ask([make_variant(load=load)], Policy(cold_start_ratio=0), services=[rate]).quotes
    per_second = 0.75 * 0.00001 + 0.00002
    assert row.monthly_usd.value == pytest.approx(1e6 * 0.1 * per_second)
    assert row.monthly_usd.low == pytest.approx(1e6 * 0.012 * per_second)


def test_what_is_free_is_not_paid(
    make_variant: Callable[..., Variant], load: LoadRecord, make_rate: Callable[..., ServerlessRate]
) -> None:
    rate = make_rate(free_gib_seconds=Decimal(10**9), free_requests=Decimal(10**7))
    (row,) = ask([make_variant(load=load)], services=[rate]).quotes
    assert (row.monthly_usd.value, row.usd_per_million.floor.value) == (0.0, 0.0)


def test_a_server_too_large_and_one_that_was_not_tested(
    make_variant: Callable[..., Variant], load: LoadRecord, make_rate: Callable[..., ServerlessRate]
) -> None:
    rate = make_rate(memory_max_mib=512)
    too_large, untested = ask(
        [make_variant("a.onnx-fp32", load=load), make_variant("b.onnx-fp32", load=None)], services=[rate]
    ).quotes
    assert too_large.fits_memory is False
    assert too_large.memory_reason == "server at peak and the system need 768 MiB of at most 512 MiB"
    assert untested.monthly_usd.value is None
    assert "not load-tested; run 'deploycost loadtest b.onnx-fp32'" in untested.capacity_reason


def test_service_time_where_saturation_alone_is_known(load: LoadRecord) -> None:
    assert service_ms(load) == 12.0
    assert service_ms(load.model_copy(update={"curve": (), "saturation_rps": 125.0})) == 8.0
    assert service_ms(load.model_copy(update={"curve": (), "saturation_rps": None})) is None


@pytest.fixture
def api() -> LlmApi:
    return LlmApi(
        model="small", provider="maker", mode="chat", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(8),
        cached_input_usd_per_mtok=Decimal("0.1"), batch_input_usd_per_mtok=Decimal("0.5"),
        batch_output_usd_per_mtok=Decimal(4), max_input_tokens=1000, source="price list",
        as_of=datetime.date(2026, 7, 20), note="",
    )  # fmt: skip


def test_an_api_by_hand(api: LlmApi) -> None:
    # 110 tokens in at 1 and 5 out at 8 dollars a million: 150 dollars for a million requests; half of it in a batch.
    rows: tuple[Quote, ...] = ask([], apis=[ApiOption(api), ApiOption(api, "batch")]).quotes
    assert [(row.purchase_option, row.monthly_usd.value) for row in rows] == [("batch", 75.0), ("list", 150.0)]
    assert {row.variant for row in rows} == {"api:small"}
    assert {(row.accuracy.value, row.meets_slo, row.pareto) for row in rows} == {(None, None, None)}
    assert "accuracy on this task are not verified" in rows[0].capacity_reason


def test_the_beginning_of_a_long_prompt_is_cached(api: LlmApi) -> None:
    # Of 2,050 tokens the 2,000 before the text are cached at a tenth: 50 + 200 + 40 dollars a million requests.
    request = ApiRequest(2050, 5, 2000, 2000)
    assert api_option_usd(ApiOption(api, "cached"), request) * 1_000_000 == 290
    assert [option.price for option in api_prices_listed(ApiOption(api), request)] == ["list", "batch", "cached"]
    # 400 of the prompt come after the text: 450 + 160 + 40.
    behind = ApiRequest(2050, 5, 2000, 1600)
    assert api_option_usd(ApiOption(api, "cached"), behind) * 1_000_000 == 650
    (row,) = ask([], request=behind, apis=[ApiOption(api, "cached")]).quotes
    assert "and our own count of the text), 1600 of them cached and 5 out" in row.capacity_reason
    # Too few before the text, however many behind it.
    for short in (ApiRequest(110, 5, 60, 60), ApiRequest(2050, 5, 2000, 1023)):
        assert [option.price for option in api_prices_listed(ApiOption(api), short)] == ["list", "batch"]


def test_a_price_that_is_not_listed_is_refused(api: LlmApi) -> None:
    from dataclasses import replace

    bare = replace(api, batch_input_usd_per_mtok=None, cached_input_usd_per_mtok=None)
    assert [option.price for option in api_prices_listed(ApiOption(bare), ApiRequest(9000, 5, 5000, 5000))] == ["list"]
    for price in ("batch", "cached"):
        with pytest.raises(ValueError, match=f"lists no {price} price"):
            api_option_usd(ApiOption(bare, price), ApiRequest(10))
