"""Studies made by hand: full fine-tuning and others beside it, with figures that can be checked on paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploycost.environment import MachineFacts
from deploycost.projecting.method_evidence import KnownStudy
from deploycost.records import Scores
from deploycost.study_record import CellMeasurement, CellPlan, CellResult, ServedArtifact, StudyRecord
from deploycost.units import MIB

MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=2, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)


def make_measurement(accuracy: float, samples_per_s: float = 40.0, **changes: Any) -> CellMeasurement:
    """Texts of 50 tokens, 1,000 test rows, 300 MiB where 400 MiB were predicted."""
    scores = Scores(accuracy=accuracy, macro_f1=accuracy, precision=accuracy, recall=accuracy, rows=1000)
    fields: dict[str, Any] = {
        "scores": scores,
        "training_s": 100.0,
        "samples_per_s": samples_per_s,
        "tokens_per_s": 50 * samples_per_s,
        "memory_bytes": 300 * MIB,
        "memory_source": "process",
        "predicted_memory_bytes": 400 * MIB,
        "trainable_parameters": 1000,
        "head_parameters": 100,
        "total_parameters": 10_000,
        "step_ms_p50": 200.0,
        "step_ms_p95": 250.0,
        "final_loss": 0.3,
        "epochs": (),
        "cores": 1,
        "finished_at": "2026-11-22T10:00:00+00:00",
    }
    return CellMeasurement(**fields | changes)


def served(request_ms: float | None, artifact: str = "onnx-int8") -> ServedArtifact:
    return ServedArtifact(artifact=artifact, accuracy=0.9, size_bytes=1, request_ms_p50=request_ms)


def make_study(cells: dict[str, list[CellMeasurement | None]], own: bool = False, **changes: Any) -> KnownStudy:
    """A study whose cells are slugs such as `lora-r8`; the n-th measurement is of seed n, None one that failed."""
    seeds = tuple(range(1, max(map(len, cells.values())) + 1))
    fields: dict[str, Any] = {
        "name": "methods",
        "question": "which?",
        "size": "small",
        "base_model": "minilm",
        "dataset": "ag_news",
        "dataset_description": "news",
        "dataset_generated": False,
        "train_rows": 4000,
        "test_rows": 1000,
        "epochs": 2,
        "seeds": seeds,
        "cores_per_cell": 1,
        "cells": tuple(CellPlan(name=slug, method=slug.split("-")[0], settings={}, literature={}) for slug in cells),
        "results": tuple(
            CellResult(
                name=slug,
                method=slug.split("-")[0],
                slug=slug,
                experiment_digest="d",
                seed=seed,
                measured=measured,
                error=None if measured else "it failed",
            )
            for slug, all_measured in cells.items()
            for seed, measured in zip(seeds, all_measured, strict=False)
        ),
        "findings": (),
        "scaled_down": (),
        "source": "the literature",
        "command": "deploycost study methods",
        "machine": MACHINE,
        "made_at": "2026-11-22T12:00:00+00:00",
    }
    return KnownStudy(StudyRecord(**fields | changes), own)


@pytest.fixture(scope="session")
def measurement() -> Callable[..., CellMeasurement]:
    return make_measurement


@pytest.fixture(scope="session")
def study_of() -> Callable[..., KnownStudy]:
    return make_study


@pytest.fixture(scope="session")
def served_in() -> Callable[..., ServedArtifact]:
    return served
