"""From a method and a spec to a recipe, and to what the record tells of both."""

from typing import Any

import pytest

from deploycost.experiment import MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.models.recipe import RankSchedule, Recipe
from deploycost.tuning.recipes import recipe_for, told_hyper_parameters

SPEC = TrainingSpec.model_validate(
    {
        "lora": {"rank": 4, "targets": ["query"]},
        "prompt": {"virtual_tokens": 7, "layers": "late"},
        "adapter": {"placement": "houlsby"},
        "mixed_precision": False,
    }
)
RANKS = RankSchedule(
    initial_rank=6, target_rank=4, total_steps=100, warm_up_steps=10, settling_steps=30, interval_steps=3
)
COMMON = {
    "epochs": 5, "batch_size": 8, "max_tokens": 128, "seed": 42, "warmup_ratio": 0.1, "weight_decay": 0.01,
    "precision": "fp32", "gradient_checkpointing": False, "compile": False,
}  # fmt: skip
PROMPT = {"virtual_tokens": 7, "start": "vocabulary", "prompt_learning_rate": 5e-3}
LOW_RANK = {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["query"]}


def _recipe(method: MethodName) -> Recipe:
    return recipe_for(METHODS[method], "minilm", ("a", "b"), SPEC, RANKS)


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("full", {"whole_body": True}),
        ("lora", {"lora": SPEC.lora}),
        ("qlora", {"lora": SPEC.lora, "bits": 4}),
        ("prompt", {"prompt": SPEC.prompt}),
        ("prefix", {"prompt": SPEC.prompt.model_copy(update={"layers": "all"}), "prefix": SPEC.prefix}),
        ("adapter", {"adapter": SPEC.adapter}),
        ("dynamic", {"lora": SPEC.lora, "ranks": RANKS}),
        ("stacked", {"lora": SPEC.lora, "bits": 4, "prompt": SPEC.prompt}),
    ],
)
def test_a_recipe_has_the_parts_of_its_method_and_no_others(method: MethodName, parts: dict[str, Any]) -> None:
    assert _recipe(method) == Recipe(base_model="minilm", label_names=("a", "b"), **parts)


def test_a_prefix_is_reparametrised_only_where_it_is_asked_to_be() -> None:
    plain = TrainingSpec.model_validate({"prefix": {"reparametrised": False}})
    recipe = recipe_for(METHODS["prefix"], "minilm", ("a", "b"), plain)
    assert recipe.prefix is None
    assert recipe.prompt is not None
    assert recipe.prompt.layers == "all"


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("full", {"batch_size": 16, "learning_rate": 5e-5}),
        ("lora", LOW_RANK),
        ("qlora", LOW_RANK | {"bits": 4, "quantisation": "nf4, double"}),
        ("prompt", PROMPT | {"layers": "late"}),
        ("prefix", PROMPT | {"reparametrised": True, "bottleneck_width": 128}),
        ("adapter", {"placement": "houlsby", "reduction_factor": 16}),
        ("dynamic", LOW_RANK | {"eva": False, "singular_value_learning_rate": 0.064}),
        ("stacked", LOW_RANK | PROMPT | {"bits": 4, "quantisation": "nf4, double", "layers": "late"}),
    ],
)
def test_the_record_is_told_all_that_was_used(method: MethodName, own: dict[str, Any]) -> None:
    told = told_hyper_parameters(METHODS[method], SPEC)
    assert told == COMMON | {"learning_rate": 1e-3} | own


def test_under_a_budget_no_rank_is_told_that_was_not_used() -> None:
    spec = TrainingSpec.model_validate({"lora": {"rank": 4, "alpha": 12}, "dynamic": {"memory_budget": "1GiB"}})
    told = told_hyper_parameters(METHODS["dynamic"], spec)
    assert told | {"memory_budget": 2**30, "max_rank": 32, "alpha_per_rank": 3, "dropout": 0.1, "eva": False} == told
    assert not {"rank", "alpha"} & told.keys()


def test_words_to_start_from_are_told_and_a_width_that_nothing_has_is_not() -> None:
    spec = TrainingSpec.model_validate(
        {"prompt": {"start": "text", "text": "world news"}, "prefix": {"reparametrised": False}}
    )
    told = told_hyper_parameters(METHODS["prefix"], spec)
    assert (told["start"], told["text"]) == ("text", "world news")
    assert "bottleneck_width" not in told
