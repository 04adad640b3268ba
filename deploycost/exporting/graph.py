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

from serving.signature import INPUT_NAMES, OUTPUT_NAME

_EXAMPLE_BATCH, _EXAMPLE_TOKENS = 2, 16


class Logits(nn.Module):
    """A classifier as the function that artifacts compute: ids and mask in, logits out."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [batch, labels] for int64 ids and mask [batch, tokens]."""
        return self.classifier(input_ids, attention_mask).logits


def example_batch(max_tokens: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [2, tokens] to trace a classifier on, some of it padding: a size of one is taken for a constant."""
    tokens = min(_EXAMPLE_TOKENS, max_tokens)
    ids = torch.full((_EXAMPLE_BATCH, tokens), 5, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    return ids, mask


def write_onnx(classifier: nn.Module, max_tokens: int, path: Path) -> None:
    """Writes the classifier as one ONNX file with dynamic batch and token axes, virtual tokens baked in.

    Args:
        classifier: Plain fp32 network (see `models.adapter_folder.load_merged`).
        max_tokens: The most text tokens it may be given.
        path: Where to write.
    """
    ids, mask = example_batch(max_tokens)
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("tokens", min=2, max=max_tokens)}
    with quiet():
        program = torch.onnx.export(
            Logits(classifier).eval(),
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
    with quiet():
        quantize_dynamic(model, str(target), weight_type=QuantType.QInt8, per_channel=True)


def write_fp16(source: Path, target: Path) -> None:
    """Writes the graph with weights and arithmetic in half precision, inputs and logits as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    del model.graph.value_info[:]
    with quiet():
        converted = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=False)
    onnx.save(converted, str(target))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporting tools write notes for their own developers; errors are raised, so nothing is lost."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
