"""From a method and a spec to the settings of the trainer."""
# ruff: noqa: TID253 - these test what is made of the framework

from functools import cached_property
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from deploycost.experiment import TrainingSpec
from deploycost.methods import METHODS
from deploycost.models.base import find_base
from deploycost.models.classifier import build
from deploycost.models.recipe import RankSchedule
from deploycost.tuning import settings
from deploycost.tuning.recipes import recipe_for
from deploycost.tuning.settings import arithmetic_of, optimiser_for, precision_name, training_arguments


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


def test_singular_values_and_matrices_learn_at_their_own_rates(tiny_bases: dict[str, Path]) -> None:
    base, spec = find_base(str(tiny_bases["bert"])), TrainingSpec(learning_rate=2e-3, weight_decay=0.1)
    ranks = RankSchedule(
        initial_rank=3, target_rank=2, total_steps=10, warm_up_steps=1, settling_steps=3, interval_steps=1
    )
    method = METHODS["dynamic"]
    classifier = build(base, recipe_for(method, base.name, ("a", "b"), spec, ranks))
    groups = optimiser_for(classifier, method, spec).param_groups
    found = {
        (tuple(parameter.shape), group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    # Values of 4 layers, which do not decay towards nothing; matrices, which do; the head's biases, which do not.
    assert {each for each in found if each[0] == (3, 1)} == {((3, 1), 0.128, 0.0)}
    assert {each[1:] for each in found if len(each[0]) == 2 and each[0] != (3, 1)} == {(2e-3, 0.1)}
    assert {each[1:] for each in found if len(each[0]) == 1} == {(2e-3, 0.0)}
    trained = sum(parameter.requires_grad for parameter in classifier.parameters())
    assert sum(len(group["params"]) for group in groups) == trained
