"""The work of a bundle, counted from its ONNX graph rather than from what its configuration says it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from deploycost.errors import UserError

if TYPE_CHECKING:
    import onnx

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "MatMulNBits", "DynamicQuantizeMatMul")
# Nodes that hand a weight on unchanged, or as the numbers that it stands for.
_HANDED_ON = ("DequantizeLinear", "Transpose", "Cast", "Identity", "Reshape")


@dataclass(frozen=True)
class GraphWork:
    """What a graph multiplies: weights by the type they are kept in, and its products of two activations.

    `weights` are elements of matrices that activations are multiplied by, `weight_bytes` what they take;
    `activation_products` is two for each attention, scores and mix. `hidden` and `ffn_width` are the commonest sizes
    of its matrices.
    """

    weights: dict[str, int]
    weight_bytes: int
    activation_products: int
    hidden: int
    ffn_width: int

    @property
    def attentions(self) -> int:
        """Layers with attention."""
        return self.activation_products // 2

    def counted_flops(self, batch: float, tokens: int, keys: int | None = None) -> float:
        """Operations of `batch` texts, the head counted as if on every token: under one per cent too many.

        `keys` are those each query attends to, as many as tokens unless told.
        """
        attended = 2 * self.activation_products * tokens * (keys or tokens) * self.hidden
        return batch * (2 * tokens * sum(self.weights.values()) + attended)


def work_of_graph(path: Path) -> GraphWork:
    """Counts an ONNX graph.

    Raises:
        UserError: the file is no ONNX graph, or multiplies nothing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise UserError(f"cannot read the ONNX graph {path}: {error}") from None
    kept = _weights(graph)
    weights: dict[str, int] = {}
    counted, pairs = 0, 0
    sizes: list[tuple[int, int]] = []
    for node in _nodes(graph):
        if node.op_type not in _PRODUCTS:
            continue
        found = next((kept[name] for name in node.input if name in kept and len(kept[name].dims) == 2), None)
        if found is None:
            pairs += 1
            continue
        kind = onnx.TensorProto.DataType.Name(found.data_type).lower()
        weights[kind] = weights.get(kind, 0) + prod(found.dims)
        counted += prod(found.dims) * _bytes_each(found)
        sizes.append((min(found.dims), max(found.dims)))
    if not weights:
        raise UserError(f"{path} multiplies by no weights; expected an encoder as 'deploycost build' exports it")
    hidden = Counter(least for least, _ in sizes).most_common(1)[0][0]
    wide = Counter(most for least, most in sizes if least == hidden < most).most_common(1)
    return GraphWork(weights, counted, pairs, hidden, wide[0][0] if wide else hidden)


def _weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The weights by every name that they go by on their way to a product."""
    kept = {each.name: each for each in graph.initializer}
    for node in _nodes(graph):
        if node.op_type in _HANDED_ON and node.input and node.input[0] in kept:
            kept[node.output[0]] = kept[node.input[0]]
    return kept


def _nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    return graph.node


def _bytes_each(weight: onnx.TensorProto) -> int:
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
