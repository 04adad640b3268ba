"""Low-rank adapters: scale, targets, the penalty of AdaLoRA, and a start from data."""
# ruff: noqa: TID253 - these test what is made of the framework

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deploycost.models.base import FAMILIES, body_matrices, find_base, load_classifier
from deploycost.models.encoding import logits_of
from deploycost.models.low_rank import orthogonality_penalty, rank_layers, start_from_data


@pytest.mark.parametrize("alpha", [None, 4])
def test_both_kinds_scale_by_alpha_over_rank(built: Callable[..., Any], alpha: int | None) -> None:
    lora = {"rank": 2, "alpha": alpha}
    scale = 2.0 if alpha is None else alpha / 2
    plain = built("bert", "lora", lora=lora)
    assert {m.scaling["default"] for m in plain.modules() if hasattr(m, "scaling") and hasattr(m, "lora_A")} == {scale}
    # Ranks start at four here; what is added is scaled by alpha as PEFT keeps it over the rank begun with.
    for layer in rank_layers(built("bert", "dynamic", lora=lora)):
        factors: Any = (layer.lora_A["default"], layer.lora_B["default"], layer.lora_E["default"])
        with torch.no_grad():
            factors[2].fill_(1.0)
            expected = scale * factors[1] @ factors[0]
        torch.testing.assert_close(layer.get_delta_weight("default"), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_of_one_name_do_not_reach_into_the_head(built: Callable[..., Any], recipe_of: Any, family: str) -> None:
    classifier = built(family, "lora-targets")
    adapted = {
        name.removeprefix("model.base_model.model.")
        for name, module in classifier.named_modules()
        if hasattr(module, "lora_A")
    }
    base = find_base(recipe_of(family, "full").base_model)
    assert adapted == set(body_matrices(load_classifier(base, ("a", "b")), base))
    assert len(adapted) == 12


def test_the_penalty_is_the_mean_distance_from_orthonormal(built: Callable[..., Any]) -> None:
    layers = rank_layers(built("bert", "dynamic"))
    assert len(layers) == 4
    with torch.no_grad():
        for layer in layers:
            layer.lora_A["default"].copy_(torch.eye(4, 32))  # orthonormal: nothing
            layer.lora_B["default"].copy_(2 * torch.eye(32, 4))  # Gram matrix 4 I: distance |3 I| = 3 sqrt(4)
    assert orthogonality_penalty(layers).item() == pytest.approx(0.5 * (0 + 3 * math.sqrt(4)) / 2)


def test_the_penalty_is_in_the_loss_while_training_only(built: Callable[..., Any], batch: Callable[[str], Any]) -> None:
    classifier = built("bert", "dynamic", dropout=False)
    ids, mask, labels = batch("bert")
    layer: Any = rank_layers(classifier)[0]
    with torch.no_grad():
        layer.lora_A["default"].mul_(3)
    with torch.no_grad():
        judged = classifier.eval()(ids, mask, labels).loss
        trained = classifier.train()(ids, mask, labels).loss
        penalty = orthogonality_penalty(rank_layers(classifier))
    assert (trained - judged).item() == pytest.approx(penalty.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["dynamic", "dynamic-4"])
def test_allocated_ranks_start_from_orthonormal_vectors_that_add_nothing(built: Callable[..., Any], kind: str) -> None:
    layers: list[Any] = rank_layers(built("bert", kind))
    for layer in layers:
        for rows in (layer.lora_A["default"], layer.lora_B["default"].T):
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
        assert not layer.lora_E["default"].any()
    assert orthogonality_penalty(layers).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", ["dynamic", "dynamic-4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_start_from_data_takes_the_directions_of_greatest_variance(
    built: Callable[..., Any], batch: Callable[[str], Any], encoded: Callable[[str], Any], family: str, kind: str
) -> None:
    classifier = built(family, kind)
    before = logits_of(classifier, encoded(family))
    layer: Any = rank_layers(classifier)[2]
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    ids, mask, _ = batch(family)
    start_from_data(classifier, [{"input_ids": ids[:5], "attention_mask": mask[:5]},
                                 {"input_ids": ids[5:], "attention_mask": mask[5:]}])  # fmt: skip
    handle.remove()
    # numpy's own decomposition of the same inputs, padding left out, about their mean.
    inputs = torch.cat([seen[0][mask[:5].bool()], seen[1][mask[5:].bool()]]).numpy()
    _, _, expected = np.linalg.svd(inputs - inputs.mean(axis=0), full_matrices=False)
    right = layer.lora_A["default"].detach().numpy()
    assert np.abs((right * expected[:4]).sum(axis=1)) == pytest.approx(np.ones(4), abs=1e-3)
    assert right @ right.T == pytest.approx(np.eye(4), abs=1e-5)
    # Singular values begin at nought: the model answers as before, and only half the penalty is left.
    assert np.array_equal(logits_of(classifier, encoded(family)), before)
    assert classifier.training
