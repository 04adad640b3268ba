"""Records and price rows with round numbers, so that what comes of them can be worked out by hand."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from deploycost.environment import MachineFacts
from deploycost.records import (
    Certificate,
    Check,
    CurvePoint,
    ExportRecord,
    Figure,
    LoadRecord,
    MemoryUse,
    Parity,
    Scores,
    Slo,
    TuningRecord,
    Variant,
)
from deploycost.units import MIB
from deploycost.verdicts import Capacity, Traffic
from pricing.book import Offer

WHEN = "2026-01-02T03:04:05+00:00"
MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=2, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)


@pytest.fixture(scope="session")
def make_offer() -> Callable[..., Offer]:
    def make(**changes: Any) -> Offer:
        fields: dict[str, Any] = {
            "cloud": "aws", "region": "us-east-1", "instance_type": "x.large", "family": "aws-x", "vcpus": Decimal(2),
            "memory_gib": Decimal(4), "accelerator_name": None, "accelerator_count": Decimal(0),
            "accelerator_memory_gib": None, "purchase_option": "on-demand", "usd_per_hour": Decimal("0.1"),
            "source": "price list", "as_of": datetime.date(2026, 7, 20), "note": "", "vcpu_is": "thread",
            "cpu_model": "Xeon", "architecture": "x86_64",
            "sustained_cpu_ratio": Decimal(1),
        }  # fmt: skip
        return Offer(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_load() -> Callable[..., LoadRecord]:
    def make(capacity: float | None = 100.0, low: float | None = 90.0, high: float | None = 110.0, **changes: Any):  # noqa: ANN202
        curve = tuple(
            CurvePoint(
                rate_rps=share * (capacity or 100.0), achieved_rps=share * (capacity or 100.0), p50_ms=p95 / 2,
                p95_ms=p95, p99_ms=None, errors=0, requests=1000, duration_s=10.0, meets_slo=p95 <= 100,
            )
            for share, p95 in ((0.5, 20.0), (0.8, 40.0), (1.0, 90.0), (1.2, 400.0))
        )  # fmt: skip
        fields: dict[str, Any] = {
            "fingerprint": "f", "variant": "full.onnx-int8", "slo": Slo(p95_ms=100.0),
            "capacity_rps": Figure(value=capacity, low=low, high=high), "curve": curve,
            "memory_bytes": MemoryUse(idle=100 * MIB, at_capacity=200 * MIB, peak=256 * MIB), "startup_s": 1.0,
            "server_cores": 1, "server_cpu_ratio": 0.9, "client_cpu_ratio": 0.2, "mean_tokens": 50.0,
            "certificate": Certificate(certified=True, checks=(Check(name="drift", ok=True, value=0, limit=1),)),
            "environment": MACHINE, "bundle_digest": "d" * 64, "seed": 1, "duration_s": 60.0, "finished_at": WHEN,
        }  # fmt: skip
        return LoadRecord(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_variant(make_load: Callable[..., LoadRecord]) -> Callable[..., Variant]:
    def make(name: str = "full.onnx-int8", accuracy: float = 0.9, **changes: Any) -> Variant:
        method, artifact = name.split(".", 1)
        scores = Scores(accuracy=accuracy, macro_f1=accuracy, precision=accuracy, recall=accuracy, rows=1000)
        tuning = TuningRecord(
            fingerprint="f", method=method, slug=method, base_model="minilm", label_names=("a", "b"), dataset="demo",
            dataset_fingerprint="f", dataset_description="", dataset_generated=True, train_rows=10,
            hyper_parameters={}, scores=scores, epochs=(), training_s=3_000.0, samples_per_s=1, step_ms_p50=1,
            baseline_memory_bytes=1, peak_memory_bytes=2, peak_gpu_memory_bytes=None, trainable_parameters=1,
            head_parameters=1, total_parameters=1, mean_tokens=50, machine=MACHINE, finished_at=WHEN,
        )  # fmt: skip
        parity = Parity(relative_error=0, relative_error_limit=1, agreement_ratio=1, agreement_limit=0.9)
        export = ExportRecord(
            fingerprint="f", variant=name, method=method, artifact=artifact, engine="onnxruntime", precision="int8",
            scores=scores, parity=parity, size_bytes=1, export_s=600.0, bundle_digest="d" * 64, mean_tokens=50,
            machine=MACHINE, finished_at=WHEN,
        )  # fmt: skip
        fields: dict[str, Any] = {"load": make_load(variant=name)}
        return Variant(tuning=tuning, export=export, **(fields | changes))

    return make


@pytest.fixture(scope="session")
def measured_capacity() -> Callable[[Variant, Offer], Capacity]:
    """What the variant carried where it was measured, as if every machine were that one."""

    def capacity_on(variant: Variant, offer: Offer) -> Capacity:
        if variant.load is None:
            return Capacity(capacity_rps=Figure(value=None, basis="assumed"), reason="unknown: not load-tested")
        return Capacity(capacity_rps=variant.load.capacity_rps, reason="measured", load=variant.load, server_copies=1)

    return capacity_on


@pytest.fixture(scope="session")
def traffic() -> Traffic:
    """A month of 730 hours has 2,628,000 s, so this is 100/s on the mean and 300/s at the peak."""
    return Traffic(requests_per_month=262_800_000, peak_to_mean_ratio=3.0)
