"""Studies made by hand: full fine-tuning and others beside it, with figures that can be checked on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploycost.environment import MachineFacts
from deploycost.experiment import DatasetSpec, MethodName, TrainingSpec
from deploycost.projecting.method_evidence import KnownStudy
from deploycost.records import Scores
from deploycost.study_record import (
    CellMeasurement,
    CellPlan,
    CellResult,
    ServedArtifact,
    StudyRecord,
    TrainingConditions,
    conditions_of,
)
from deploycost.units import MIB

MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=2, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)


def make_measurement(accuracy: float, samples_per_s: float = 40.0, **changes: Any) -> CellMeasurement:
    """Texts of 50 tokens, 1,000 test rows, 300 MiB where 400 MiB were predicted, on one core."""
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
        "epochs": (),
        "conditions": conditions("lora"),
        "machine": MACHINE.model_copy(update={"cpu_cores": 1}),
        "finished_at": "2026-11-22T10:00:00+00:00",
    }
    return CellMeasurement(**fields | changes)


def conditions(method: MethodName, **changes: Any) -> TrainingConditions:
    """Those of all rows and the defaults, unless changed."""
    return conditions_of(method, TrainingSpec(**changes), DatasetSpec())


def served(request_ms: float | None, artifact: str = "onnx-int8") -> ServedArtifact:
    return ServedArtifact(artifact=artifact, accuracy=0.9, request_ms_p50=request_ms)


def make_study(cells: dict[str, list[CellMeasurement | None]], own: bool = False, **changes: Any) -> KnownStudy:
    """A study whose cells are slugs such as `lora-r8`; the n-th measurement is of seed n, None one that failed.

    Measurements have the default conditions of their method, unless they were made with others.
    """
    usual = conditions("lora")
    cells = {slug: [_conditioned(slug, each, usual) for each in measured] for slug, measured in cells.items()}
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
        "same_train_rows": False,
        "same_test_rows": True,
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
        "reference": "literature",
        "source": "the literature",
        "command": "deploycost study methods",
        "machine": MACHINE,
        "made_at": "2026-11-22T12:00:00+00:00",
    }
    return KnownStudy(StudyRecord(**fields | changes), own)


def _conditioned(slug: str, measured: CellMeasurement | None, usual: TrainingConditions) -> CellMeasurement | None:
    if measured is None or measured.conditions != usual:
        return measured
    method: Any = slug.split("-", maxsplit=1)[0]
    return measured.model_copy(update={"conditions": conditions(method)})


@pytest.fixture(scope="session", autouse=True)
def no_calibration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's data folder without the calibration that this machine may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def measurement() -> Callable[..., CellMeasurement]:
    return make_measurement


@pytest.fixture(scope="session")
def study_of() -> Callable[..., KnownStudy]:
    return make_study


@pytest.fixture(scope="session")
def served_in() -> Callable[..., ServedArtifact]:
    return served


@pytest.fixture(scope="session")
def conditions_with() -> Callable[..., TrainingConditions]:
    return conditions


@pytest.fixture(scope="session")
def machine_of() -> Callable[..., MachineFacts]:
    """The machine of the studies with one core in use, changed as told."""
    return lambda **changes: MACHINE.model_copy(update={"cpu_cores": 1} | changes)
