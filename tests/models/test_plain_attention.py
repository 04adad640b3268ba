"""Attention for graphs: the answers of the attention that was trained, for every family and what methods add."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deploycost.models.adapter_folder import load_merged
from deploycost.models.plain_attention import NAME, attend, mask_of_keys, with_plain_attention

FAMILIES = ("bert", "distilbert", "roberta")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "stacked-layers", "houlsby"])
def test_answers_stay_the_same(trained: Callable[[str, str], Any], family: str, method: str) -> None:
    network = load_merged(trained(family, method).folder)
    plain = with_plain_attention(network)
    ids = torch.randint(5, 300, (3, 17), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 9:] = mask[2, 2:] = 0
    ids[mask == 0] = 1 if family == "roberta" else 0
    with torch.no_grad():
        expected, found = network(ids, mask).logits, plain(ids, mask).logits
    assert torch.allclose(expected, found, atol=1e-5)
    assert plain.model.config._attn_implementation == NAME
    assert network.model.config._attn_implementation != NAME


def test_attention_by_hand() -> None:
    # Two tokens, width 1, scale 1: scores (0, ln 3) after the mask, so shares 1/4 and 3/4.
    query = torch.tensor([1.0]).reshape(1, 1, 1, 1)
    key = torch.tensor([0.0, 3.0]).log().nan_to_num(neginf=0.0).reshape(1, 1, 2, 1)
    value = torch.tensor([4.0, 8.0]).reshape(1, 1, 2, 1)
    nobody_masked = mask_of_keys(attention_mask=torch.ones(1, 2, dtype=torch.long))
    answer, weights = attend(torch.nn.Identity(), query, key, value, nobody_masked, scaling=1.0)
    assert weights is None
    assert answer.item() == pytest.approx(0.25 * 4 + 0.75 * 8)
    first_only = mask_of_keys(attention_mask=torch.tensor([[1, 0]]))
    assert attend(torch.nn.Identity(), query, key, value, first_only, scaling=1.0)[0].item() == pytest.approx(4)
    # A prompt's key and value stand before, and no mask hides them: shares 3/4 and 1/4.
    prompt_keys, prompt_values = torch.tensor([3.0]).log().reshape(1, 1, 1), torch.tensor([16.0]).reshape(1, 1, 1)
    beside, _ = attend(
        torch.nn.Identity(), query, key, value, first_only, scaling=1.0, prompt_keys=prompt_keys,
        prompt_values=prompt_values,
    )  # fmt: skip
    assert beside.item() == pytest.approx(0.75 * 16 + 0.25 * 4)
    assert mask_of_keys(attention_mask=None) is None


def test_a_copy_is_made(trained: Callable[[str, str], Any], tmp_path: Path) -> None:
    network = load_merged(trained("bert", "prefix").folder)
    plain = with_plain_attention(network)
    assert plain is not network
    assert {id(p) for p in plain.parameters()}.isdisjoint({id(p) for p in network.parameters()})
