"""Quantised layers: the same weights in training, in judging, and once dequantised."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

from deploycost.models.base import FAMILIES, body_matrices, find_base, load_classifier
from deploycost.models.classifier import set_compute_dtype

LABELS = ("World", "Sports", "Business")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_answers_alike_in_training_in_judging_and_dequantised(
    tiny_bases: dict[str, Path], family: str, bits: Any
) -> None:
    base = find_base(str(tiny_bases[family]))
    model: Any = load_classifier(base, LABELS, bits=bits)
    path, layer = next(iter(body_matrices(model, base).items()))
    given = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    trained = layer.train()(given)
    (gradient,) = torch.autograd.grad(trained.square().sum(), given)
    judged = layer.eval()(given.detach())
    assert torch.equal(trained.detach(), judged)

    plain = model.dequantize().float().get_submodule(path)
    assert type(plain) is torch.nn.Linear
    expected = plain(given)
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-5)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), given)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)


def test_rounding_to_eight_bits_is_within_half_a_step(tiny_bases: dict[str, Path]) -> None:
    base = find_base(str(tiny_bases["bert"]))
    plain = body_matrices(load_classifier(base, LABELS), base)
    model: Any = load_classifier(base, LABELS, bits=8)
    rounded = body_matrices(model.dequantize().float(), base)
    for path, layer in plain.items():
        step = layer.weight.abs().amax(dim=1, keepdim=True) / 127
        # Half a step, and what is lost as bitsandbytes takes weights through fp16.
        assert ((rounded[path].weight - layer.weight).abs() <= 0.52 * step + 1e-3 * layer.weight.abs()).all(), path


def test_half_precision_is_taken_from_autocast(tiny_bases: dict[str, Path]) -> None:
    base = find_base(str(tiny_bases["bert"]))
    layer = next(iter(body_matrices(load_classifier(base, LABELS, bits=8), base).values()))
    given = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    exact = layer(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = layer(given)
    assert (exact.dtype, fast.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(fast.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("kind", ["qlora", "qlora-8", "dynamic-8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_leaves_the_quantised_weights_alone(
    built: Callable[..., Any], train: Callable[..., None], family: str, kind: str
) -> None:
    classifier = built(family, kind)
    layers = [module for module in classifier.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    assert len(layers) == 12
    before = [layer.weight.detach().clone() for layer in layers]
    train(classifier, family)
    set_compute_dtype(classifier, torch.float32)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, before, strict=True))


def test_half_precision_does_not_overflow_on_the_way(tiny_bases: dict[str, Path]) -> None:
    base = find_base(str(tiny_bases["bert"]))
    model: Any = load_classifier(base, LABELS, bits=8)
    path, layer = next(iter(body_matrices(model, base).items()))
    # As large as activations become; times 127 they are past fp16's largest number when 32 are added up.
    given = torch.full((1, 32), 400.0) * layer(torch.eye(32)).t()[:1].sign()
    with torch.autocast("cpu", dtype=torch.float16):
        answered = layer(given).float()
    expected = model.dequantize().float().get_submodule(path)(given).detach()
    assert answered.isfinite().all()
    torch.testing.assert_close(answered, expected, atol=0.01 * float(expected.abs().max()), rtol=0)
