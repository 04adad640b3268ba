"""Virtual tokens: where they go, what they are drawn from."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deploycost.models.base import find_base
from deploycost.models.prompts import VirtualTokens, start_vectors


def test_they_go_between_the_first_token_and_the_rest() -> None:
    prompt = VirtualTokens(torch.tensor([[10.0], [20.0]]))
    embedded = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    longer, mask = prompt(embedded, torch.tensor([[1, 1, 1], [1, 1, 0]]))
    assert longer.squeeze(-1).tolist() == [[1, 10, 20, 2, 3], [4, 10, 20, 5, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


@given(st.integers(1, 4), st.integers(2, 6), st.integers(1, 5))
def test_every_text_gets_as_many_more_tokens(batch: int, tokens: int, count: int) -> None:
    prompt = VirtualTokens(torch.zeros(count, 3))
    mask = torch.ones(batch, tokens, dtype=torch.long)
    longer, longer_mask = prompt(torch.rand(batch, tokens, 3), mask)
    assert longer.shape == (batch, tokens + count, 3)
    assert longer_mask.shape == (batch, tokens + count)
    assert longer_mask.dtype == mask.dtype


def test_they_take_the_precision_of_the_words() -> None:
    longer, _ = VirtualTokens(torch.zeros(2, 4))(torch.rand(1, 3, 4, dtype=torch.bfloat16), torch.ones(1, 3))
    assert longer.dtype is torch.bfloat16


def test_they_are_drawn_from_the_vocabulary(recipe_of: Callable[..., Any]) -> None:
    recipe = recipe_of("bert", "prompt", prompt={"virtual_tokens": 6})
    words = nn.Embedding(50, 4)
    vectors = start_vectors(find_base(recipe.base_model), recipe, words)
    known = {tuple(row) for row in words.weight.tolist()}
    assert all(tuple(row) in known for row in vectors.tolist())
    assert len({tuple(row) for row in vectors.tolist()}) > 1
    assert VirtualTokens(vectors).vectors.requires_grad
