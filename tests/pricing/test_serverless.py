from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import PriceError
from pricing.serverless import ServerlessRate, load_serverless
from pricing.table import DATA_FOLDER


def rate_of(service: str, region: str, architecture: str = "x86_64") -> ServerlessRate:
    (found,) = [
        r for r in load_serverless() if (r.service, r.region, r.architecture) == (service, region, architecture)
    ]
    return found


def test_a_known_row_by_hand() -> None:
    rate = rate_of("lambda", "us-east-1")
    assert rate.usd_per_gib_second[0] == (Decimal(6_000_000_000), Decimal("0.0000166667"))
    assert rate.usd_per_gib_second[-1] == (None, Decimal("0.000013334"))
    assert (rate.mib_per_vcpu, rate.rounding_ms, rate.concurrency_per_instance) == (1769, 1, 1)
    assert rate.key == "aws/us-east-1/lambda/x86_64@2026-11-28"


def test_memory_is_paid_tier_by_tier_after_the_free_seconds() -> None:
    rate = rate_of("lambda", "us-east-1")
    # 400,000 are free; then 6 billion at the first tier, 9 billion at the second, 1 billion at the last.
    assert rate.memory_usd(Decimal(400_000)) == 0
    assert rate.memory_usd(Decimal(1_400_000)) == Decimal("16.6667")
    everything = Decimal(6_000_000_000) * Decimal("0.0000166667") + 9_000_000_000 * Decimal("0.000015")
    assert rate.memory_usd(Decimal(16_000_400_000)) == everything + 1_000_000_000 * Decimal("0.000013334")


def test_vcpus_and_requests() -> None:
    rate = rate_of("cloud-run", "us-central1")
    assert rate.mib_per_vcpu is None
    assert rate.vcpu_usd(Decimal(180_000)) == 0
    assert rate.vcpu_usd(Decimal(1_180_000)) == 24
    assert rate.requests_usd(Decimal(3_000_000)) == Decimal("0.40")
    assert rate_of("cloud-run-instance", "us-central1").requests_usd(Decimal(10**9)) == 0


@given(st.integers(0, 10**11), st.integers(0, 10**11))
def test_more_is_never_cheaper(less: int, more: int) -> None:
    less, more = sorted((less, more))
    for rate in load_serverless():
        assert rate.memory_usd(Decimal(less)) <= rate.memory_usd(Decimal(more))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("6000000000:0.0000166667", "0.1", "ends must rise, and the last tier has none"),
        ("0.000013334", "9e9:-1", "'9e9:-1' is not END:USD or USD"),
        ("x86_64,request", "x86_64,month", "billing 'month' is none of request, instance"),
        ("128,10240", "128,64", "memory_max_mib 64 is below memory_min_mib 128"),
        ("2026-11-28", "", "as_of '' is not a date"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, before: str, after: str, expected: str) -> None:
    lines = (DATA_FOLDER / "serverless.csv").read_text(encoding="utf-8").splitlines()[:2]
    path = tmp_path / "serverless.csv"
    path.write_text("\n".join([lines[0], lines[1].replace(before, after, 1)]) + "\n", encoding="utf-8")
    with pytest.raises(PriceError, match=r"line 2: ") as caught:
        load_serverless(path)
    assert expected in str(caught.value)


def test_the_shipped_rows() -> None:
    rates = load_serverless()
    assert len({rate.key for rate in rates}) == len(rates) == 8
    assert {(rate.provider, rate.service) for rate in rates} == {
        ("aws", "lambda"), ("gcp", "cloud-run"), ("gcp", "cloud-run-instance"),
    }  # fmt: skip
    for rate in rates:
        usd = [each for _, each in rate.usd_per_gib_second]
        assert usd == sorted(usd, reverse=True), rate.key
        assert all(Decimal(0) < each < Decimal("0.0001") for each in usd), rate.key
        assert len(rate.source) > 20
