"""Bottlenecks: next to nothing at first, where they stand, what they add."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from typing import Any

import pytest
import torch

from deploycost.models.base import FAMILIES, find_base, layer_parts, load_classifier
from deploycost.models.bottlenecks import Bottleneck, Bottlenecks

LABELS = ("World", "Sports", "Business")


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_from_the_encoder_as_it_is(
    tiny_bases: dict[str, Any], batch: Callable[[str], Any], family: str, placement: Any
) -> None:
    torch.manual_seed(0)
    model: Any = load_classifier(find_base(str(tiny_bases[family])), LABELS).eval()
    ids, mask, _ = batch(family)
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits
        bottlenecks = Bottlenecks(model, placement, 4)
        after = model(input_ids=ids, attention_mask=mask).logits
        change = (after - before).std()
        assert 0 < change < 0.02 * (before - before.mean(dim=1, keepdim=True)).std()
        bottlenecks.enabled = False
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
    assert (
        sum(isinstance(module, Bottleneck) for module in bottlenecks.modules())
        == {"houlsby": 4, "pfeiffer": 2}[placement]
    )
    assert bottlenecks.get_submodule("feed_forward.0.down").weight.shape == (8, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_they_stand_before_the_residual_sum_and_its_norm(
    tiny_bases: dict[str, Any], batch: Callable[[str], Any], family: str
) -> None:
    """The last norm is given (the residual and) the projection's answer with the bottleneck's own added."""
    torch.manual_seed(0)
    model: Any = load_classifier(find_base(str(tiny_bases[family])), LABELS).eval()
    projection = layer_parts(model, FAMILIES[family].feed_forward_output)[1]
    norm = layer_parts(model, "output_layer_norm" if family == "distilbert" else "output.LayerNorm")[1]
    given: dict[str, torch.Tensor] = {}
    # Noted before the bottleneck's own hook is there, so that it is the projection's bare answer.
    projection.register_forward_hook(lambda _, __, output: given.update(bare=output.detach().clone()))
    norm.register_forward_pre_hook(lambda _, args: given.update(norm=args[0].detach().clone()))
    ids, mask, _ = batch(family)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        residual = given["norm"] - given["bare"]
        bottlenecks = Bottlenecks(model, "pfeiffer", 4)
        last: Any = bottlenecks.get_submodule("feed_forward.1")
        torch.nn.init.normal_(last.up.weight, std=5.0)
        torch.nn.init.zeros_(bottlenecks.get_submodule("feed_forward.0.up").weight)  # pyright: ignore[reportArgumentType]
        model(input_ids=ids, attention_mask=mask)
        hidden = torch.nn.functional.gelu(given["bare"] @ last.down.weight.T + last.down.bias)
        added = hidden @ last.up.weight.T + last.up.bias
    torch.testing.assert_close(given["norm"], residual + given["bare"] + added, atol=1e-5, rtol=1e-5)
    assert added.abs().mean() > 0.5
