"""Records made by hand, with figures that can be checked on paper."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import ceil
from typing import Any

import pytest

from deploycost.environment import MachineFacts
from deploycost.records import (
    LOAD_RULES,
    Certificate,
    Check,
    CurvePoint,
    EpochScores,
    ExportRecord,
    Figure,
    LoadRecord,
    MemoryUse,
    OperatorTime,
    Parity,
    ProfileRecord,
    Quote,
    RankDecision,
    RankHistory,
    Scores,
    Slo,
    TrainingMemory,
    TuningRecord,
    UsdPerMillion,
    Variant,
)
from deploycost.reporting.content import ReportContent
from deploycost.units import MIB
from deploycost.verdicts import NOT_REACHED, BreakEven, Policy, QuoteSheet, Recommendation, Return, Traffic

MACHINE = MachineFacts(
    cpu_model="Example CPU 9000",
    cpu_cores=2,
    memory_bytes=8 * 1024 * MIB,
    platform="Linux x86_64",
    python="3.11.9",
    packages={"torch": "2.13.0", "onnxruntime": "1.31.1"},
)
SLUGS = {"full": "full", "lora": "lora-r8", "qlora": "qlora-r8", "prompt": "prompt-p20", "stacked": "stacked-r8-p20"}
ACCURACY = {"full": 0.892, "lora": 0.887, "qlora": 0.884, "prompt": 0.851, "stacked": 0.879}
CAPACITY_RPS = {"full": 100.0, "lora": 101.0, "qlora": 99.0, "prompt": 80.0, "stacked": 79.0}
TRAINING_S = {"full": 1800.0, "lora": 1200.0, "qlora": 1500.0, "prompt": 1100.0, "stacked": 1620.0}


def make_scores(accuracy: float) -> Scores:
    return Scores(accuracy=accuracy, macro_f1=accuracy - 0.001, precision=accuracy + 0.001, recall=accuracy, rows=7600)


def make_tuning(method: str = "full", **changes: Any) -> TuningRecord:
    accuracy = ACCURACY[method]
    fields: dict[str, Any] = {
        "fingerprint": "0" * 16,
        "method": method,
        "slug": SLUGS[method],
        "base_model": "minilm",
        "label_names": ("World", "Sports", "Business", "Sci/Tech"),
        "dataset": "demo",
        "dataset_fingerprint": "1" * 16,
        "dataset_description": "2,400 generated texts",
        "dataset_generated": False,
        "train_rows": 1920,
        "hyper_parameters": {"rank": 8},
        "scores": make_scores(accuracy),
        "epochs": tuple(
            EpochScores(epoch=float(e), train_loss=1 / e, scores=make_scores(accuracy - 0.04 / e), duration_s=60.0)
            for e in range(1, 6)
        ),
        "training_s": TRAINING_S[method],
        "samples_per_s": 40.0,
        "tokens_per_s": 2120.0,
        "step_ms_p50": 200.0,
        "step_ms_p95": 260.0,
        "final_loss": 0.2,
        "baseline_memory_bytes": 500 * MIB,
        "peak_memory_bytes": 1_500_000_000 if method == "full" else 900_000_000,
        "baseline_pss_bytes": 480 * MIB,
        "peak_pss_bytes": 850 * MIB,
        "peak_gpu_memory_bytes": None,
        "peak_gpu_nvml_bytes": None,
        "predicted_memory": None,
        "energy_joules": None,
        "energy_source": "",
        "trainable_parameters": 22_700_000,
        "head_parameters": 1540,
        "total_parameters": 22_700_000,
        "mean_tokens": 53.0,
        "machine": MACHINE,
        "finished_at": "2026-11-22T10:00:00+00:00",
    }
    return TuningRecord(**fields | changes)


def make_memory() -> TrainingMemory:
    """The parts of 407 MiB: a tenth more than the 370 MiB that `make_tuning` measured over the start."""
    return TrainingMemory(
        weights=87 * MIB, gradients=10 * MIB, optimiser=20 * MIB, activations=240 * MIB, workspace=50 * MIB
    )


def make_ranks() -> RankHistory:
    """Three matrices of rank 6: at step 10 one falls by 2, at 20 another by 4 and the first rises again by 1."""
    layer = "encoder.layer.{}.attention.self.{}".format
    decisions = (
        RankDecision(step=10, layer=layer(0, "query"), importance=0.004, rank_before=6, rank_after=4, reason="least"),
        RankDecision(step=20, layer=layer(1, "query"), importance=0.001, rank_before=6, rank_after=2, reason="least"),
        RankDecision(step=20, layer=layer(0, "query"), importance=0.02, rank_before=4, rank_after=5, reason="grew"),
    )
    return RankHistory(
        memory_budget_bytes=2048 * MIB,
        initial_total_rank=18,
        final_total_rank=13,
        decisions=decisions,
        final_ranks={layer(0, "query"): 5, layer(0, "value"): 6, layer(1, "query"): 2},
    )


def make_profile(method: str = "lora", quantisation_ms: float = 0.0, **changes: Any) -> ProfileRecord:
    """Steps of 100 ms of operators, 60 in matrix products; and so much unpacking more in the forward pass."""
    times = [
        OperatorTime(group="matmul", phase="forward", time_ms=20.0, calls=36.0),
        OperatorTime(group="matmul", phase="backward", time_ms=40.0, calls=72.0),
        OperatorTime(group="attention", phase="forward", time_ms=10.0, calls=6.0),
        OperatorTime(group="optimiser", phase="update", time_ms=5.0, calls=1.0),
        OperatorTime(group="other", phase="backward", time_ms=25.0, calls=300.0),
    ]
    if quantisation_ms:
        times.append(OperatorTime(group="quantisation", phase="forward", time_ms=quantisation_ms, calls=36.0))
    fields: dict[str, Any] = {
        "fingerprint": "5" * 16,
        "method": method,
        "slug": SLUGS[method],
        "steps": 6,
        "step_ms": 110.0 + quantisation_ms,
        "times": tuple(times),
        "trace_file": "trace.json.gz",
        "machine": MACHINE,
        "finished_at": "2026-11-22T10:20:00+00:00",
    }
    return ProfileRecord(**fields | changes)


def make_export(method: str = "full", artifact: str = "onnx-fp32", **changes: Any) -> ExportRecord:
    fields: dict[str, Any] = {
        "fingerprint": "2" * 16,
        "variant": f"{SLUGS[method]}.{artifact}",
        "method": method,
        "artifact": artifact,
        "engine": "onnxruntime",
        "precision": artifact.rpartition("-")[2],
        "scores": make_scores(ACCURACY[method] + (0.0015 if artifact.endswith("int8") else 0)),
        "parity": Parity(
            relative_error=0.0213,
            relative_error_limit=0.2,
            agreement_ratio=0.9942,
            agreement_high=0.9957,
            agreement_limit=0.97,
        ),
        "size_bytes": 91 * MIB if artifact.endswith("fp32") else 23 * MIB,
        "export_s": 60.0,
        "bundle_digest": "3" * 64,
        "mean_tokens": 53.0,
        "machine": MACHINE,
        "finished_at": "2026-11-22T10:05:00+00:00",
    }
    return ExportRecord(**fields | changes)


def make_point(rate_rps: float, capacity_rps: float) -> CurvePoint:
    over = rate_rps > capacity_rps
    p50 = 8.0 / max(0.04, 1 - 0.9 * rate_rps / capacity_rps)
    return CurvePoint(
        rate_rps=rate_rps,
        achieved_rps=min(rate_rps, capacity_rps),
        p50_ms=p50 * (6 if over else 1),
        p95_ms=p50 * (20 if over else 1.25),
        p99_ms=None,
        service_p50_ms=8.0,
        errors=3 if over else 0,
        requests=round(rate_rps * 10),
        duration_s=10.0,
        meets_slo=not over,
        reason="p95 above 100 ms" if over else "",
    )


def make_load(variant: str, capacity_rps: float = 100.0, *, certified: bool = True, **changes: Any) -> LoadRecord:
    checks = (
        Check(name="dispatch_delay_p99_ms", ok=True, value=1.2, limit=5.0, explanation="requests left when due"),
        Check(name="steal_ratio", ok=certified, value=0.12, limit=0.05, explanation="time taken by other guests"),
    )
    fields: dict[str, Any] = {
        "fingerprint": "4" * 16,
        "variant": variant,
        "slo": Slo(p95_ms=100.0),
        "capacity_rps": Figure(value=capacity_rps, low=0.9 * capacity_rps, high=1.1 * capacity_rps),
        "curve": tuple(make_point(capacity_rps * share, capacity_rps) for share in (0.1, 0.3, 0.5, 0.75, 0.95, 1.2)),
        "memory_bytes": MemoryUse(idle=150 * MIB, at_capacity=200 * MIB, peak=220 * MIB),
        "startup_s": 1.5,
        "server_cores": 1,
        "server_cpu_ratio": 0.97,
        "client_cpu_ratio": 0.31,
        "mean_tokens": 53.0,
        "certificate": Certificate(certified=certified, checks=checks),
        "environment": MACHINE,
        "bundle_digest": "3" * 64,
        "rules": LOAD_RULES,
        "seed": 42,
        "duration_s": 90.0,
        "finished_at": "2026-11-22T10:10:00+00:00",
    }
    return LoadRecord(**fields | changes)


def make_variant(method: str = "full", artifact: str = "onnx-fp32", *, loaded: bool = True, **changes: Any) -> Variant:
    export = make_export(method, artifact)
    capacity = CAPACITY_RPS[method] * (2 if artifact.endswith("int8") else 1)
    return Variant(
        tuning=make_tuning(method, **changes),
        export=export,
        load=make_load(export.variant, capacity) if loaded else None,
    )


def make_quote(variant: str = "full.onnx-fp32", **changes: Any) -> Quote:
    """10 M requests a month at a peak of 3 x the mean are 11.4 rps: one machine of 100 rps at 70 % and one spare.

    2 x $0.10 x 730 h = $146, so $14.60 a million; at saturation 1e6 x 0.1 / (3600 x 100) = $0.278.
    """
    fields: dict[str, Any] = {
        "variant": variant,
        "cloud": "aws",
        "region": "us-east-1",
        "instance_type": "c7i.large",
        "purchase_option": "on-demand",
        "usd_per_hour": Decimal("0.1"),
        "capacity_rps": Figure(value=100.0, low=90.0, high=110.0, basis="assumed"),
        "capacity_reason": "assumed from 1 measured core of Example CPU 9000",
        "measured_capacity_rps": Figure(value=100.0, low=90.0, high=110.0),
        "certified": True,
        "replicas": 2,
        "usd_per_million": UsdPerMillion(
            floor=Figure(value=0.277778, low=0.252525, high=0.308642, basis="assumed"),
            planned=Figure(value=14.6, low=14.6, high=14.6, basis="assumed"),
            per_correct=Figure(value=16.3677, low=16.2, high=16.6, basis="assumed"),
        ),
        "monthly_usd": Figure(value=146.0, low=146.0, high=146.0, basis="assumed"),
        "p95_ms": Figure(value=38.5, basis="assumed"),
        "accuracy": Figure(value=0.892, low=0.885, high=0.899),
        "fits_memory": True,
        "memory_reason": "1 server of 220 MiB fits 4 GiB",
        "meets_slo": True,
        "price_source": "price list of the provider",
        "price_date": "2026-11-01",
    }
    return Quote(**fields | changes)


def make_sheet(*quotes: Quote, **changes: Any) -> QuoteSheet:
    fields: dict[str, Any] = {
        "quotes": quotes,
        "traffic": Traffic(requests_per_month=10_000_000, peak_to_mean_ratio=3.0),
        "policy": Policy(),
        "slo_p95_ms": 100.0,
        "warnings": (),
    }
    return QuoteSheet(**fields | changes)


def make_return(**changes: Any) -> Return:
    """$20 once and $40 saved a month: paid back in half a month."""
    fields: dict[str, Any] = {
        "candidate": "qlora-r8.onnx-int8 on aws c7i.large",
        "baseline": "full.onnx-fp32 on aws c7i.large",
        "baseline_kind": "variant",
        "one_off_usd": Figure(value=20.0, basis="assumed"),
        "candidate_monthly_usd": Figure(value=146.0, low=146.0, high=146.0, basis="assumed"),
        "baseline_monthly_usd": Figure(value=186.0, low=146.0, high=219.0, basis="assumed"),
        "monthly_saving_usd": Figure(value=40.0, low=0.0, high=73.0, basis="assumed"),
        "payback_months": 0.5,
        "horizon_months": 36,
        "annual_discount_ratio": 0.08,
        "npv_usd": Figure(value=1260.0, low=-20.0, high=2316.0, basis="assumed"),
        "roi_ratio": 71.0,
        "break_even": BreakEven(
            requests_per_month=4_000_000,
            stays_cheaper=False,
            cheaper_for_good_from=9_000_000,
            searched_to_requests_per_month=1_000_000_000,
        ),
        "notes": ("what the baseline cost to make is not credited",),
    }
    return Return(**fields | changes)


def make_api_return() -> Return:
    return make_return(
        baseline="openai/gpt-5-nano@2026-11-22",
        baseline_kind="llm-api",
        baseline_monthly_usd=Figure(value=76.5, basis="assumed"),
        monthly_saving_usd=Figure(value=-69.5, low=-69.5, high=-69.5, basis="assumed"),
        payback_months=NOT_REACHED,
        npv_usd=Figure(value=-2240.0, basis="assumed"),
        roi_ratio=None,
        break_even=BreakEven(
            requests_per_month=NOT_REACHED,
            stays_cheaper=None,
            cheaper_for_good_from=NOT_REACHED,
            searched_to_requests_per_month=1_000_000_000,
        ),
        notes=("not verified: the accuracy of gpt-5-nano on this task",),
    )


def _priced(rps: float, hourly: Decimal) -> dict[str, Any]:
    """What a machine of so many requests per second costs for 100 M requests a month, by the formulas of the page."""

    def planned(capacity_rps: float) -> float:
        machines = ceil(100_000_000 / (730 * 3600) * 3 / (0.7 * capacity_rps)) + 1
        return machines * float(hourly) * 730 / 100

    def figure(value: float, low: float, high: float) -> Figure:
        return Figure(value=value, low=low, high=high, basis="assumed")

    low, high = 0.8 * rps, 1.15 * rps
    price = planned(rps), planned(high), planned(low)
    return {
        "usd_per_hour": hourly,
        "capacity_rps": figure(rps, low, high),
        "replicas": round(price[0] * 100 / 730 / float(hourly)),
        "usd_per_million": UsdPerMillion(
            floor=figure(*(1e6 * float(hourly) / 3600 / rate for rate in (rps, high, low))),
            planned=figure(*price),
            per_correct=figure(*(value / 0.88 for value in price)),
        ),
        "monthly_usd": figure(*(100 * value for value in price)),
    }


def _unpriced() -> dict[str, Any]:
    unknown = Figure(value=None, basis="assumed")
    return {
        "capacity_rps": unknown,
        "capacity_reason": "unknown: T4 was not measured",
        "replicas": None,
        "usd_per_million": UsdPerMillion(floor=unknown, planned=unknown, per_correct=unknown),
        "monthly_usd": unknown,
        "p95_ms": unknown,
        "fits_memory": None,
        "meets_slo": None,
        "certified": False,
    }


def _many_quotes() -> list[Quote]:
    """Every variant on four machines, one of them a GPU that was not measured; cheapest first."""
    machines = (
        ("aws", "us-east-1", "c7i.large", 1.0, Decimal("0.08925")),
        ("gcp", "us-central1", "c3-standard-4", 2.1, Decimal("0.201608")),
        ("azure", "eastus", "Standard_F2s_v2", 0.9, Decimal("0.0846")),
        ("azure", "eastus", "Standard_NC4as_T4_v3", None, Decimal("0.526")),
    )
    quotes = []
    for method, slug in SLUGS.items():
        for artifact in ("onnx-fp32", "onnx-int8"):
            rps = CAPACITY_RPS[method] * (2 if artifact == "onnx-int8" else 1)
            accuracy = make_export(method, artifact).scores.accuracy
            for cloud, region, instance_type, factor, hourly in machines:
                changes: dict[str, Any] = {
                    "cloud": cloud,
                    "region": region,
                    "instance_type": instance_type,
                    "accuracy": Figure(value=accuracy, low=accuracy - 0.007, high=accuracy + 0.007),
                    **(_unpriced() if factor is None else _priced(factor * rps, hourly)),
                }
                quotes.append(make_quote(f"{slug}.{artifact}", **changes))
    return sorted(quotes, key=lambda q: (q.usd_per_million.planned.value or 1e9, q.usd_per_million.floor.value or 1e9))


def make_content(**changes: Any) -> ReportContent:
    quotes = _many_quotes()
    variants = tuple(
        make_variant(method, artifact, dataset_generated=True)
        for method in SLUGS
        for artifact in ("onnx-fp32", "onnx-int8")
    )
    fields: dict[str, Any] = {
        "run_name": "demo",
        "experiment": {"model": "minilm", "dataset": {"source": "demo"}, "methods": list(SLUGS)},
        "variants": variants,
        "sheet": make_sheet(
            *quotes,
            traffic=Traffic(requests_per_month=100_000_000, peak_to_mean_ratio=3.0),
            warnings=("capacity marked assumed is scaled from the measured cores",),
        ),
        "recommendation": Recommendation(
            quote=quotes[0],
            reason=f"{quotes[0].variant} is the cheapest of 30 quotes that keep p95 within 100 ms and fit memory.",
            runner_ups=tuple(quotes[1:4]),
            distinguishable=False,
        ),
        "returns": (make_return(), make_api_return()),
        "dataset_note": "2,400 texts from a seeded grammar, four classes, 4 % label noise.",
        "commands": ("deploycost run --model minilm --dataset demo", "deploycost report"),
        "made_at": "2026-11-22T12:00:00+00:00",
    }
    return ReportContent(**fields | changes)


@pytest.fixture(scope="session")
def content() -> ReportContent:
    """A whole report: five methods, two artifacts each, four machines of which one cannot be priced."""
    return make_content()


@pytest.fixture(scope="session")
def content_with() -> Callable[..., ReportContent]:
    """A whole report with some of its fields replaced."""
    return make_content


@pytest.fixture(scope="session")
def tuning_with() -> Callable[..., TuningRecord]:
    return make_tuning


@pytest.fixture(scope="session")
def profile_with() -> Callable[..., ProfileRecord]:
    return make_profile


@pytest.fixture(scope="session")
def memory() -> TrainingMemory:
    return make_memory()


@pytest.fixture(scope="session")
def ranks() -> RankHistory:
    return make_ranks()


@pytest.fixture(scope="session")
def variant_with() -> Callable[..., Variant]:
    return make_variant


@pytest.fixture(scope="session")
def quote_with() -> Callable[..., Quote]:
    return make_quote


@pytest.fixture(scope="session")
def sheet_with() -> Callable[..., QuoteSheet]:
    return make_sheet


@pytest.fixture(scope="session")
def load_with() -> Callable[..., LoadRecord]:
    return make_load


@pytest.fixture(scope="session")
def return_with() -> Callable[..., Return]:
    return make_return


@pytest.fixture(scope="session")
def api_return() -> Return:
    return make_api_return()
