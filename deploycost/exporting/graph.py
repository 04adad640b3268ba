"""A trained classifier as an ONNX graph, and that graph in int8."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from deploycost.models.classifier import TunedClassifier

INPUT_NAMES = ("input_ids", "attention_mask")
OUTPUT_NAME = "logits"
# Traced on a batch of two with padding: a size of one would be taken for a constant.
_EXAMPLE_BATCH, _EXAMPLE_TOKENS = 2, 16


class _Logits(nn.Module):
    def __init__(self, classifier: TunedClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.classifier(input_ids, attention_mask).logits


def write_onnx(classifier: TunedClassifier, max_tokens: int, path: Path) -> None:
    """Writes the classifier as one ONNX file with dynamic batch and token axes, virtual tokens baked in.

    Args:
        classifier: Plain fp32 network (see `models.adapter_folder.load_merged`).
        max_tokens: The most text tokens it may be given.
        path: Where to write.
    """
    tokens = min(_EXAMPLE_TOKENS, max_tokens)
    ids = torch.full((_EXAMPLE_BATCH, tokens), 5, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("tokens", min=2, max=max_tokens)}
    with _quiet():
        program = torch.onnx.export(
            _Logits(classifier).eval(),
            (ids, mask),
            dynamo=True,
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME],
            dynamic_shapes=dict.fromkeys(INPUT_NAMES, axes),
            verbose=False,
        )
        assert program is not None, "torch.onnx.export(dynamo=True) returns the program"  # noqa: S101 - for the types
        program.save(str(path), external_data=False)


def write_int8(source: Path, target: Path) -> None:
    """Writes the graph with int8 weights per output channel; activations are quantised as they come (dynamic)."""
    model = onnx.load(str(source))
    # The exporter's shapes of inner values do not survive quantisation; the runtime infers its own.
    del model.graph.value_info[:]
    with _quiet():
        quantize_dynamic(model, str(target), weight_type=QuantType.QInt8, per_channel=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both tools write notes for their own developers; errors are raised, so nothing is lost."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
