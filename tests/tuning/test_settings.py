"""From a method and a spec to the settings of the trainer."""
# ruff: noqa: TID253 - these test what is made of the framework

from functools import cached_property
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from deploycost.experiment import TrainingSpec
from deploycost.methods import METHODS
from deploycost.tuning import settings
from deploycost.tuning.settings import arithmetic_of, precision_name, prompt_learning_rate_of, training_arguments


class _OnTwoGpus(TrainingArguments):
    """As transformers sets itself up where it sees two GPUs; only the counting is acted."""

    @cached_property
    def _setup_devices(self) -> torch.device:
        self._n_gpu = 2
        return torch.device("cuda:0")


def test_one_gpu_is_trained_on_however_many_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "TrainingArguments", _OnTwoGpus)
    spec = TrainingSpec(batch_size=8, mixed_precision=False)
    arguments = training_arguments(METHODS["lora"], spec, 80, str(tmp_path), {"report_to": "none"})
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16"), (None, "fp32")])
def test_arithmetic_is_named(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype | None, name: str) -> None:
    monkeypatch.setattr(settings, "half_precision", lambda _: dtype)
    assert precision_name(TrainingSpec()) == name
    place = "cuda" if torch.cuda.is_available() else "cpu"
    assert arithmetic_of(TrainingSpec()) == f"{place} in {name}"


def test_virtual_tokens_learn_in_proportion() -> None:
    # 5e-3 where the others learn at 1e-3.
    assert prompt_learning_rate_of(METHODS["prompt"], TrainingSpec(learning_rate=3e-3)) == pytest.approx(15e-3)
