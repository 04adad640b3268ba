"""Training that runs out of memory is one line that tells what takes less."""
# ruff: noqa: TID253 - these test what is made of the framework

from pathlib import Path

import pytest
import torch

from deploycost import worker
from deploycost.errors import UserError
from deploycost.experiment import make_experiment
from deploycost.pipeline import WorkerJob, memory_advice


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
