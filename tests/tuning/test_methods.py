"""The methods side by side: what each asks of the base model."""

import pytest

from deploycost.experiment import METHOD_NAMES, LoraSpec, TrainingSpec
from deploycost.tuning.methods import METHODS, recipe_for

SPEC = TrainingSpec(lora=LoraSpec(rank=4), virtual_tokens=7)


def test_there_is_one_of_every_name() -> None:
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize(
    ("method", "whole_body", "quantised", "low_rank", "virtual_tokens"),
    [
        ("full", True, False, False, 0),
        ("lora", False, False, True, 0),
        ("qlora", False, True, True, 0),
        ("prompt", False, False, False, 7),
        ("stacked", False, True, True, 7),
    ],
)
def test_recipes(method: str, whole_body: bool, quantised: bool, low_rank: bool, virtual_tokens: int) -> None:
    recipe = recipe_for(METHODS[method], "minilm", ("a", "b"), SPEC)  # pyright: ignore[reportArgumentType]
    assert (recipe.base_model, recipe.label_names) == ("minilm", ("a", "b"))
    assert (recipe.whole_body, recipe.quantised) == (whole_body, quantised)
    assert recipe.lora == (SPEC.lora if low_rank else None)
    assert recipe.virtual_tokens == virtual_tokens


def test_batches_are_those_of_the_literature() -> None:
    assert {name: method.batch_size for name, method in METHODS.items()} == {
        "full": 16, "lora": 8, "qlora": 8, "prompt": 8, "stacked": 8,
    }  # fmt: skip


def test_only_prompted_methods_have_a_rate_for_virtual_tokens() -> None:
    assert all((method.prompt_learning_rate > 0) == method.prompted for method in METHODS.values())
