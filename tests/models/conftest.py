"""Batches of the toy task, and classifiers built by each method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.dataset import Dataset


@pytest.fixture(scope="session")
def recipe_of(tiny_bases: dict[str, Path]) -> Callable[..., Any]:
    """The recipe of a method on a family: `recipe_of("bert", "stacked")`; keyword arguments are `TrainingSpec`'s."""
    from deploycost.experiment import TrainingSpec
    from deploycost.tuning.methods import METHODS, recipe_for

    def make(family: str, method: Any, **training: Any) -> Any:
        spec = TrainingSpec.model_validate({"virtual_tokens": 4} | training)
        return recipe_for(METHODS[method], str(tiny_bases[family]), ("World", "Sports", "Business"), spec)

    return make


@pytest.fixture(scope="session")
def encoded(tiny_bases: dict[str, Path], toy_dataset: Dataset) -> Callable[[str], Any]:
    """The toy test split as a family's token ids."""
    from deploycost.models.base import find_base, load_tokenizer
    from deploycost.models.encoding import encode

    def make(family: str) -> Any:
        tokenizer = load_tokenizer(find_base(str(tiny_bases[family])))
        return encode(tokenizer, toy_dataset.test.texts, toy_dataset.test.labels, max_tokens=48)

    return make


@pytest.fixture(scope="session")
def batch(encoded: Callable[[str], Any]) -> Callable[[str], tuple[Any, Any, Any]]:
    """Ids [8, tokens], mask and labels of eight toy texts of mixed lengths."""
    import torch

    from deploycost.models.encoding import EncodedTexts, batches_by_length

    def make(family: str) -> tuple[Any, Any, Any]:
        texts = encoded(family)
        eight = EncodedTexts(texts.input_ids[:8], texts.labels[:8], texts.pad_token_id)
        ((rows, ids, mask),) = batches_by_length(eight, 8)
        return ids, mask, torch.tensor([eight.labels[row] for row in rows])

    return make
