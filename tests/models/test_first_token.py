"""The last layer for the first token alone: the same answers, of every family and what methods add, for less."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForTokenClassification

from deploycost.models.adapter_folder import load_merged
from deploycost.models.first_token import as_served

FAMILIES = ("bert", "distilbert", "roberta")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "stacked-layers", "houlsby", "prompt"])
def test_answers_stay_the_same(trained: Callable[[str, str], Any], family: str, method: str) -> None:
    network = load_merged(trained(family, method).folder)
    served = as_served(network)
    ids = torch.randint(5, 300, (3, 17), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 9:] = mask[2, 2:] = 0
    ids[mask == 0] = 1 if family == "roberta" else 0
    with torch.no_grad():
        expected, found = network(ids, mask).logits, served(ids, mask).logits
    assert torch.allclose(expected, found, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_keys_and_values_of_the_last_layer_are_of_all_tokens(
    trained: Callable[[str, str], Any], family: str
) -> None:
    served: Any = as_served(load_merged(trained(family, "full").folder))
    rows: list[tuple[str, int]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda _, given, __: rows.append((name, given[0].shape[1]))

    for name, module in served.named_modules():
        if isinstance(module, nn.Linear) and "layer." in name:
            layer, _, path = name.partition("layer.")[2].partition(".")
            module.register_forward_hook(note(f"{layer} {path}"))
    served(torch.full((2, 9), 5), torch.ones(2, 9, dtype=torch.long))
    last = max(name.partition(" ")[0] for name, _ in rows)
    whole = [name for name, tokens in rows if name.startswith(last) and tokens == 9]
    assert len(whole) == 2
    assert all(name.rpartition(".")[2] in ("key", "value", "k_lin", "v_lin") for name in whole)
    assert all(tokens == 9 for name, tokens in rows if not name.startswith(last))
    assert sum(tokens == 1 for _, tokens in rows) == 4


def test_a_network_that_reads_every_token_is_left_whole() -> None:
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    network = BertForTokenClassification(config).eval()
    ids, mask = torch.arange(6).reshape(1, 6) + 5, torch.ones(1, 6, dtype=torch.long)
    with torch.no_grad():
        expected, found = network(ids, mask).logits, as_served(network)(ids, mask).logits
    assert found.shape == (1, 6, 3)
    assert torch.allclose(expected, found, atol=1e-5)
