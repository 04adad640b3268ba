"""Graphs against the networks they were written from: any batch, any length, one file."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploycost.exporting.graph import write_int8, write_onnx
from deploycost.models.adapter_folder import load_merged
from deploycost.models.base import find_base, load_classifier
from deploycost.models.classifier import TunedClassifier
from deploycost.models.prompts import VirtualTokens

EXPORTED = [("bert", "full"), ("bert", "stacked"), ("distilbert", "stacked"), ("roberta", "stacked")]


def _run(path: Path, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]


def _batch(batch: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random words, each row half a length shorter than the one before, never under two tokens."""
    draw = torch.Generator().manual_seed(batch * 100 + tokens)
    ids = torch.randint(5, 320, (batch, tokens), generator=draw)
    mask = torch.ones_like(ids)
    for row in range(batch):
        mask[row, max(2, tokens - row * tokens // 2) :] = 0
    ids[mask == 0] = 0
    return ids, mask


@pytest.mark.parametrize(("family", "method"), EXPORTED)
def test_a_graph_agrees_with_its_network_at_any_size(
    opened: Callable[..., Any], tuned: Callable[..., Any], family: str, method: str
) -> None:
    path = opened(family, method).graph_path
    merged = load_merged(tuned(family, method).folder)
    spread = 0.0
    for batch in (1, 2, 5):
        for tokens in (2, 3, 16, 17, opened(family, method).max_tokens):
            ids, mask = _batch(batch, tokens)
            if family == "roberta":
                ids[mask == 0] = 1
            with torch.no_grad():
                expected = merged(ids, mask).logits.numpy()
            assert np.abs(_run(path, ids, mask) - expected).max() < 1e-4, (batch, tokens)
            spread = max(spread, expected.std(axis=0).max())
    assert spread > 1e-2, "the texts must have different answers for this to mean anything"


@pytest.mark.parametrize(("family", "method"), EXPORTED)
def test_a_graph_is_one_file_of_two_inputs_and_standard_operators(
    opened: Callable[..., Any], family: str, method: str
) -> None:
    path: Path = opened(family, method).graph_path
    assert list(path.parent.iterdir()) == [path]
    model = onnx.load(path)
    onnx.checker.check_model(model)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "logits": ["batch", 3],
    }
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


def test_virtual_tokens_are_baked_in(opened: Callable[..., Any], tuned: Callable[..., Any], tmp_path: Path) -> None:
    prompt = load_merged(tuned("bert", "stacked").folder).prompt
    assert prompt is not None
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(opened("bert", "stacked").graph_path).graph.initializer
    ]
    wanted = prompt.vectors.numpy()
    assert any(
        weight.size == wanted.size and np.array_equal(weight.reshape(wanted.shape), wanted) for weight in weights
    )


def test_a_limit_below_the_traced_length_is_kept(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    """Eight tokens is the least that may be asked for, or left beside virtual tokens."""
    torch.manual_seed(0)
    base = find_base(str(tiny_bases["bert"]))
    classifier = TunedClassifier(load_classifier(base, ("a", "b")), VirtualTokens(torch.randn(56, 32))).eval()
    write_onnx(classifier, 8, tmp_path / "model.onnx")
    for batch, tokens in ((1, 2), (3, 8)):
        ids, mask = _batch(batch, tokens)
        with torch.no_grad():
            expected = classifier(ids, mask).logits.numpy()
        assert np.abs(_run(tmp_path / "model.onnx", ids, mask) - expected).max() < 1e-4


@pytest.mark.parametrize(("family", "method"), EXPORTED)
def test_int8_multiplies_in_integers_and_mostly_names_the_same_labels(
    opened: Callable[..., Any], tmp_path: Path, family: str, method: str
) -> None:
    source: Path = opened(family, method).graph_path
    before = source.read_bytes()
    target = tmp_path / "int8.onnx"
    write_int8(source, target)
    assert source.read_bytes() == before
    plain = Counter(node.op_type for node in onnx.load(source).graph.node)
    quantised = Counter(node.op_type for node in onnx.load(target).graph.node)
    # Six matrices a layer and two in the head; the products of activations with one another stay in fp32.
    assert quantised["MatMulInteger"] == 2 * 6 + 2
    assert plain["MatMul"] + plain["Gemm"] - quantised["MatMul"] - quantised["Gemm"] == 2 * 6 + 2
    assert target.stat().st_size < source.stat().st_size
    ids, mask = _batch(1, 24)
    ids = torch.randint(5, 320, (200, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    agreement = (_run(source, ids, mask).argmax(axis=1) == _run(target, ids, mask).argmax(axis=1)).mean()
    assert agreement > 0.85
