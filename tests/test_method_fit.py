"""What does not fit an encoder is told at once, before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from deploycost import sources
from deploycost.encoder_shape import EncoderShape
from deploycost.errors import UserError
from deploycost.experiment import Experiment, MethodName, TrainingSpec
from deploycost.method_fit import require_fit

# Two layers of width 32, 64 positions: the least that anything can fail to fit into.
BERT = EncoderShape("bert", layers=2, hidden=32, heads=4, ffn_width=64, vocabulary=320, positions=64, token_types=2)


@pytest.mark.parametrize(
    ("method", "training", "said"),
    [
        ("lora", {"lora": {"rank": 33}}, "rank 33 is above the layer width 32; give --rank 16"),
        ("lora", {"lora": {"rank": 32}}, ""),
        ("lora", {"lora": {"targets": ["qury"]}}, "unknown target 'qury' (did you mean 'query'?)"),
        ("dynamic", {"lora": {"rank": 32}}, "rank 32 is not below the layer width 32"),
        ("dynamic", {"lora": {"rank": 99}, "dynamic": {"memory_budget": "1GiB"}}, ""),
        ("prompt", {"prompt": {"layers": "2-3"}}, "2-3 is not among the layers 1 to 2 of this encoder"),
        ("prompt", {"prompt": {"virtual_tokens": 57}}, "its 64 positions; give at most --virtual-tokens 56"),
        ("prompt", {"prompt": {"virtual_tokens": 56}}, ""),
        ("prefix", {"prompt": {"virtual_tokens": 57}}, ""),
        ("adapter", {"adapter": {"reduction_factor": 33}}, "give at most --reduction-factor 32"),
        ("full", {"lora": {"rank": 99}, "prompt": {"layers": "9"}, "adapter": {"reduction_factor": 99}}, ""),
    ],
)
def test_what_a_method_reads_must_fit(method: MethodName, training: dict[str, Any], said: str) -> None:
    spec = TrainingSpec.model_validate(training)
    if not said:
        require_fit([method], spec, BERT, "tiny")
        return
    with pytest.raises(UserError) as refusal:
        require_fit([method], spec, BERT, "tiny")
    assert str(refusal.value).startswith("model 'tiny': ")
    assert said in str(refusal.value)


def test_all_is_told_at_once_and_before_the_first_method_is_trained(tiny_bases: dict[str, Path]) -> None:
    training = {"lora": {"rank": 33}, "prompt": {"virtual_tokens": 57}}
    for family, base in tiny_bases.items():
        experiment = Experiment.model_validate(
            {"model": str(base), "dataset": {"source": "demo"}, "methods": "full,lora,stacked", "training": training}
        )
        with pytest.raises(UserError) as refusal:
            sources.gather(experiment)
        assert str(refusal.value).count("rank 33") == 1
        assert "its 64 positions" in str(refusal.value), family
