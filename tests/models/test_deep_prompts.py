"""Keys and values at layers: that they are attended to as worked out by hand, where they are, and nowhere else."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deploycost.models.base import FAMILIES, find_base, layer_parts, load_classifier
from deploycost.models.deep_prompts import DeepPrompts
from deploycost.models.encoding import logits_of

LABELS = ("World", "Sports", "Business")
HEADS, PER_HEAD, WIDTH = 4, 8, 32


@pytest.fixture
def prompted(tiny_bases: dict[str, Any]) -> Callable[..., tuple[Any, DeepPrompts]]:
    def make(
        family: str, layers: tuple[int, ...], tokens: int = 3, hidden: int | None = None
    ) -> tuple[Any, DeepPrompts]:
        torch.manual_seed(0)
        model: Any = load_classifier(find_base(str(tiny_bases[family])), LABELS).eval()
        prompts = DeepPrompts(model, layers, 3, hidden)
        with torch.no_grad():
            for parameter in (*prompts.keys, *prompts.values):
                parameter.normal_(std=2.0)
        return model, prompts

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_attends_to_them_as_worked_out_by_hand(
    prompted: Callable[..., tuple[Any, DeepPrompts]], batch: Callable[[str], Any], family: str
) -> None:
    """softmax(q [K_prompt; k]^T / sqrt(d)) [V_prompt; v] by head, padding unseen, prompts always seen."""
    model, prompts = prompted(family, (1,))
    attention = layer_parts(model, FAMILIES[family].self_attention)[1]
    seen: dict[str, torch.Tensor] = {}

    def note(_: Any, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen["hidden"] = given[0] if given else named["hidden_states"]
        seen["output"] = output[0]

    attention.register_forward_hook(note, with_kwargs=True)
    ids, mask, _ = batch(family)
    assert mask.min() == 0, "some text must be padded"
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        hidden = seen["hidden"]
        names = ("q_lin", "k_lin", "v_lin") if family == "distilbert" else ("query", "key", "value")
        query, key, value = (getattr(attention, name)(hidden) for name in names)
        expected = torch.empty_like(query)
        for text in range(len(ids)):
            for head in range(HEADS):
                part = slice(head * PER_HEAD, (head + 1) * PER_HEAD)
                real = int(mask[text].sum())
                keys = torch.cat([prompts.keys[0][:, part], key[text, :real, part]])
                values = torch.cat([prompts.values[0][:, part], value[text, :real, part]])
                weights = (query[text, :, part] @ keys.T / PER_HEAD**0.5).softmax(dim=-1)
                expected[text, :, part] = weights @ values
        if family == "distilbert":  # whose attention holds the projection that follows
            expected = attention.out_lin(expected)
    torch.testing.assert_close(seen["output"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_chosen_layers_see_them_and_no_token_is_added(
    prompted: Callable[..., tuple[Any, DeepPrompts]], batch: Callable[[str], Any], family: str
) -> None:
    model, prompts = prompted(family, (1,))
    ids, mask, _ = batch(family)

    def hidden_states() -> Any:
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states

    with_them = hidden_states()
    prompts.enabled = False
    without = hidden_states()
    assert [state.shape for state in with_them] == [(len(ids), ids.shape[1], WIDTH)] * 3
    real = mask.bool()
    # Embeddings and the first layer's answer are as they were; [CLS] at position 0 sees them from the second on.
    assert torch.equal(with_them[0][real], without[0][real])
    assert torch.equal(with_them[1][real], without[1][real])
    assert (with_them[2][:, 0] - without[2][:, 0]).abs().min() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_without_them_the_attention_function_is_sdpa(
    prompted: Callable[..., tuple[Any, DeepPrompts]], batch: Callable[[str], Any], tiny_bases: Any, family: str
) -> None:
    model, prompts = prompted(family, (0, 1))
    prompts.enabled = False
    plain: Any = load_classifier(find_base(str(tiny_bases[family])), LABELS).eval()
    plain.load_state_dict(model.state_dict())
    ids, mask, _ = batch(family)
    assert torch.equal(
        model(input_ids=ids, attention_mask=mask).logits, plain(input_ids=ids, attention_mask=mask).logits
    )


def test_baking_the_network_keeps_every_key_and_value(prompted: Callable[..., tuple[Any, DeepPrompts]]) -> None:
    _, prompts = prompted("bert", (0, 1), hidden=8)
    baked = prompts.baked()
    made = prompts.network(1)[0]  # pyright: ignore[reportOptionalCall]
    assert made.abs().max() > 0
    assert torch.equal(baked["keys.1"], prompts.keys[1] + made)
    prompts.drop_network()
    prompts.load_state_dict(baked)
    assert torch.equal(prompts.at(1)[0], baked["keys.1"])
    assert all(parameter.requires_grad for parameter in prompts.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_they_start_from_what_the_encoder_makes_of_words(built: Callable[..., Any], family: str) -> None:
    """A text of the very words that prompts start from has the keys and values that the prompts then have."""
    classifier = built(family, "prompt-layers", prompt={"virtual_tokens": 3, "layers": "all", "start": "text"})
    (prompts,) = (module for module in classifier.modules() if isinstance(module, DeepPrompts))
    words = built(family, "prompt", prompt={"virtual_tokens": 3, "start": "text"}).prompt.vectors
    model = classifier.model.base_model.model.eval()
    first = layer_parts(model, FAMILIES[family].self_attention)[0]
    seen: list[torch.Tensor] = []
    prompts.enabled = False
    first.register_forward_pre_hook(
        lambda _, given, named: seen.append(given[0] if given else named["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model.base_model(inputs_embeds=words.unsqueeze(0))
    key, value = (first.get_submodule(name) for name in FAMILIES[family].keys_and_values)
    torch.testing.assert_close(prompts.keys[0], key(seen[0][0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(prompts.values[0], value(seen[0][0]), atol=1e-6, rtol=1e-5)


def test_more_prompts_than_positions_are_no_matter(built: Callable[..., Any], encoded: Callable[[str], Any]) -> None:
    """They take no position: 100 stand beside a text of up to all 64."""
    classifier = built("bert", "prompt-layers", prompt={"virtual_tokens": 100, "layers": "all"})
    (prompts,) = (module for module in classifier.modules() if isinstance(module, DeepPrompts))
    assert prompts.keys[0].shape == (100, WIDTH)
    assert np.isfinite(logits_of(classifier, encoded("bert"))).all()
