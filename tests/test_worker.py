"""What the child process minds: memory that runs out is one line that tells what takes less; files are shared truly."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from deploycost import worker
from deploycost.errors import UserError
from deploycost.experiment import make_experiment
from deploycost.exporting import export
from deploycost.pipeline import WorkerJob, memory_advice
from deploycost.records import Variant
from deploycost.workspace import Run


def _job(method: str) -> WorkerJob:
    experiment = make_experiment({"methods": method})
    return WorkerJob(run_folder=Path(), experiment=experiment, method=experiment.methods[0], tuning_fingerprint="mark")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_out_of_memory_is_one_line(error: Exception) -> None:
    with pytest.raises(UserError) as refusal, worker._within_memory(_job("full")):
        raise error
    said = str(refusal.value)
    assert said.startswith("full: training ran out of memory")
    assert said.endswith(
        "; give --batch-size 8, or --gradient-checkpointing, or --method qlora --bits 4, or a smaller --max-tokens"
    )
    assert "\n" not in said


def test_other_errors_go_on_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="of another kind"), worker._within_memory(_job("full")):
        raise RuntimeError("of another kind")


def test_no_way_out_is_told_that_was_taken() -> None:
    spec = make_experiment({"training": {"batch_size": 1, "gradient_checkpointing": True, "bits": 8}}).training
    assert memory_advice("dynamic", spec) == "--bits 4, or a smaller --max-tokens"
    assert memory_advice("qlora", spec.model_copy(update={"bits": None})) == "a smaller --max-tokens"


def test_a_bundle_shares_no_file_with_the_one_that_it_replaces(
    make_variant: Callable[..., Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, variant, seen = Run(tmp_path), make_variant("full.onnx-int8"), []
    for name in ("onnx-fp32", "onnx-int8"):
        (run.artifact_folder("full", name) / "bundle").mkdir(parents=True)

    def exported(*_: Any, neighbours: list[Path], **__: Any) -> Any:
        seen.extend(neighbours)
        return variant.export

    monkeypatch.setattr(export, "export", exported)
    trained: Any = SimpleNamespace(tuning=variant.tuning)
    worker._export(run, make_experiment({"methods": "full"}), trained, "onnx-int8")
    assert seen == [run.artifact_folder("full", "onnx-fp32") / "bundle"]
