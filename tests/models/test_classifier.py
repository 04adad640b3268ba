"""What each kind of network trains, where its virtual tokens stand, and what does not fit a base model."""
# ruff: noqa: TID253 - these test what is made of the framework

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deploycost.errors import UserError
from deploycost.models.base import find_base
from deploycost.models.classifier import build
from deploycost.models.encoding import logits_of

FAMILIES = ("bert", "distilbert", "roberta")
# Names under the classifier's root of all that lies above the encoder.
HEADS = {
    "bert": {"bert.pooler.dense", "classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "roberta": {"classifier.dense", "classifier.out_proj"},
}
# How many tensors of each part a kind trains on two layers, the head's four apart. LoRA has two a matrix, AdaLoRA
# three; a bottleneck four; the network of a prefix its vectors, a hidden layer, and a matrix and bias a layer.
TRAINED = {
    "lora": {"low-rank": 2 * 2 * 2},
    "lora-targets": {"low-rank": 2 * 6 * 2},
    "qlora": {"low-rank": 2 * 2 * 2},
    "qlora-8": {"low-rank": 2 * 2 * 2},
    "prompt": {"prompt": 1},
    "prompt-layers": {"prompt": 2},
    "prefix": {"prompt": 1 + 2 + 2 * 2},
    "houlsby": {"bottleneck": 2 * 2 * 4},
    "pfeiffer": {"bottleneck": 2 * 4},
    "dynamic": {"low-rank": 2 * 2 * 3},
    "dynamic-4": {"low-rank": 2 * 2 * 3},
    "dynamic-8": {"low-rank": 2 * 2 * 3},
    "stacked": {"low-rank": 2 * 2 * 2, "prompt": 1},
    "stacked-layers": {"low-rank": 2 * 2 * 2, "prompt": 2 * 2},
    "stacked-layers-8": {"low-rank": 2 * 2 * 2, "prompt": 2},
}


def _kind(name: str, family: str) -> str:
    """Which part a parameter belongs to."""
    if ".part.attention." in name or ".part.feed_forward." in name:
        return "bottleneck"
    if name == "prompt.vectors" or ".part." in name or name.startswith("attached."):
        return "prompt"
    if any(f".lora_{letter}." in name for letter in "ABE"):
        return "low-rank"
    if ".original_module." in name or ".ranknum." in name:
        return "body"
    path = name.removeprefix("model.").removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    return "head" if path.rsplit(".", 1)[0] in HEADS[family] else "body"


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_all_and_only_what_the_method_trains(
    built: Callable[..., Any], train: Callable[..., None], family: str, kind: str
) -> None:
    classifier = built(family, kind)
    asked = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    assert Counter(_kind(name, family) for name in asked) == TRAINED[kind] | {"head": 4}
    prompts = {id(parameter) for parameter in classifier.prompt_parameters()}
    named = {name for name, parameter in classifier.named_parameters() if id(parameter) in prompts}
    assert named == {name for name in asked if _kind(name, family) == "prompt"}

    before = {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}
    train(classifier, family)
    assert {name for name, parameter in classifier.named_parameters() if parameter.grad is not None} == asked
    changed = {name for name, parameter in classifier.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == asked


@pytest.mark.parametrize("family", FAMILIES)
def test_full_trains_everything(built: Callable[..., Any], train: Callable[..., None], family: str) -> None:
    classifier = built(family, "full")
    before = {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}
    train(classifier, family)
    assert all(not torch.equal(parameter, before[name]) for name, parameter in classifier.named_parameters())


@pytest.mark.parametrize("kind", ["stacked", "stacked-layers-8", "dynamic-4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_stay_whole_after_the_model_was_judged(
    built: Callable[..., Any], batch: Callable[[str], Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    """Judging between epochs must not change how quantised layers train (bitsandbytes repacks some, on some CPUs)."""
    classifier = built(family, kind, dropout=False)
    before = _gradients(classifier, batch(family))
    logits_of(classifier, encoded(family))
    after = _gradients(classifier, batch(family))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


def _gradients(classifier: Any, batch: Any) -> dict[str, torch.Tensor]:
    classifier.train().zero_grad()
    classifier(*batch).loss.backward()
    return {name: p.grad.clone() for name, p in classifier.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["prompt-layers", "prefix", "houlsby", "dynamic", "stacked-layers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_the_same_gradients(
    built: Callable[..., Any], batch: Callable[[str], Any], family: str, kind: str
) -> None:
    classifier = built(family, kind, dropout=False)
    plain = _gradients(classifier, batch(family))
    classifier.checkpoint_activations()
    layers = [module for module in classifier.modules() if getattr(module, "gradient_checkpointing", False)]
    assert layers, "nothing is checkpointed"
    saved = _gradients(classifier, batch(family))
    assert saved.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["full", "prompt", "prefix", "houlsby", "stacked-layers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_right_padding_does_not_change_an_answer(
    built: Callable[..., Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    classifier, texts = built(family, kind), encoded(family)
    assert len({len(ids) for ids in texts.input_ids}) > 5
    together = logits_of(classifier, texts, batch_size=len(texts))
    alone = logits_of(classifier, texts, batch_size=1)
    # A fresh head says nearly the same of every text, so what counts is the difference between texts.
    assert np.abs(together - alone).max() < 1e-3 * together.std(axis=0).max()


@pytest.mark.parametrize("kind", ["prefix", "houlsby", "stacked-layers"])
def test_a_copy_stands_on_its_own(built: Callable[..., Any], encoded: Callable[[str], Any], kind: str) -> None:
    """Parts are tied to the encoder by hooks: a copy's hooks must lead to the copy's part."""
    classifier, texts = built("bert", kind), encoded("bert")
    before = logits_of(classifier, texts)
    twin = copy.deepcopy(classifier)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    assert np.array_equal(logits_of(classifier, texts), before)
    assert not np.allclose(logits_of(twin, texts), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_virtual_tokens_stand_after_cls_in_what_the_encoder_is_given(
    built: Callable[..., Any], batch: Callable[[str], Any], family: str
) -> None:
    classifier = built(family, "prompt").eval()
    body: Any = getattr(classifier.model, family)
    seen: dict[str, Any] = {}
    body.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    positioned = []
    body.embeddings.register_forward_hook(lambda _, __, output: positioned.append(output))
    ids, mask, _ = batch(family)
    with torch.no_grad():
        words = body.get_input_embeddings()(ids)
        body(input_ids=ids, attention_mask=mask)
        classifier(ids, mask)

    given = seen["inputs_embeds"]
    assert torch.equal(given[:, 0], words[:, 0])
    assert torch.equal(given[:, 1:5], classifier.prompt.vectors.expand(len(ids), 4, -1))
    assert torch.equal(given[:, 5:], words[:, 1:])
    assert seen["attention_mask"].sum(dim=1).tolist() == [length + 4 for length in mask.sum(dim=1).tolist()]
    # With its position added, too, [CLS] is what it is without virtual tokens; the head reads it there.
    plain, prompted = positioned
    torch.testing.assert_close(prompted[:, 0], plain[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_starts_from_the_words_it_is_told(built: Callable[..., Any], family: str) -> None:
    prompt = {"virtual_tokens": 5, "start": "text", "text": "goal"}
    classifier = built(family, "prompt", prompt=prompt)
    table = classifier.model.get_input_embeddings().weight
    rows = [int((table == vector).all(dim=1).nonzero()[0]) for vector in classifier.prompt.vectors]
    words = max(period for period in range(1, 6) if rows == [rows[place % period] for place in range(5)])
    assert len(set(rows)) <= words
    named = built(family, "prompt", prompt={"virtual_tokens": 5, "start": "text"})
    again = built(family, "prompt", prompt={"virtual_tokens": 5, "start": "text", "text": "World Sports Business"})
    assert torch.equal(named.prompt.vectors, again.prompt.vectors)


def test_a_random_prompt_has_the_spread_of_words(built: Callable[..., Any]) -> None:
    classifier = built("bert", "prompt", prompt={"virtual_tokens": 50, "start": "random"})
    table = classifier.model.get_input_embeddings().weight
    assert classifier.prompt.vectors.std().item() == pytest.approx(table.std().item(), rel=0.1)
    assert not any((table == vector).all(dim=1).any() for vector in classifier.prompt.vectors)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("lora", {"lora": {"rank": 33}}, "rank 33 is above the layer width 32 of 'query'"),
        ("dynamic", {"lora": {"rank": 4, "targets": ("dense",)}, "ranks": {"initial_rank": 40, "target_rank": 2,
            "total_steps": 4, "warm_up_steps": 0, "settling_steps": 2, "interval_steps": 1}}, "rank 40 is above"),
        ("lora", {"lora": {"targets": ("querry",)}}, "no matrix 'querry' .* mean 'query'.* out of query, key, value"),
        ("lora", {"lora": {"targets": ("pooler",)}}, "has no matrix 'pooler' to adapt"),
        ("stacked", {"prompt": {"virtual_tokens": 57}}, "57 virtual tokens leave no room .* at most 56"),
        ("prompt", {"prompt": {"layers": "1-3"}}, "prompt layers '1-3': 1-3 is not among the layers 1 to 2"),
        ("prompt", {"prompt": {"start": "text", "text": " "}}, "has no word; give --prompt-text"),
        ("houlsby", {"adapter": {"reduction_factor": 33}}, "reduction factor 33 is above the layer width 32"),
        ("full", {"bits": 4}, "in 4 bits cannot be trained themselves"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_the_base_is_refused(
    recipe_of: Callable[..., Any], kind: str, changes: dict[str, Any], said: str
) -> None:
    recipe = recipe_of("bert", kind, **changes)
    with pytest.raises(UserError, match=said) as refusal:
        build(find_base(recipe.base_model), recipe)
    assert "\n" not in str(refusal.value)
