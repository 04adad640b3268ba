"""A reference encoder of any shape with fixed random weights, as ONNX, made without a training framework.

Its time is that of a real one of the same shape: how long a matrix product takes does not depend on what is in it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploycost.projecting.shapes import Shape
from serving.signature import INPUT_NAMES, OUTPUT_NAME

if TYPE_CHECKING:
    import onnx

_OPSET = 20  # the first with Gelu
_SPREAD = 0.02  # of random weights, as encoders start with


class _Graph:
    """Nodes and weights as they are added, each node named by its number."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._draw = np.random.default_rng(seed)

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Adds a node and returns the name of its output."""
        from onnx import helper

        name = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: object, dtype: type = np.float32) -> str:
        """Adds a weight of its own and returns its name."""
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def random(self, *sizes: int) -> str:
        """Adds a weight of random content."""
        return self.constant(self._draw.normal(0, _SPREAD, sizes))

    def linear(self, data: str, inputs: int, outputs: int) -> str:
        """A matrix product with its bias."""
        return self.add("Add", self.add("MatMul", data, self.random(inputs, outputs)), self.random(outputs))

    def normalised(self, data: str) -> str:
        """A layer normalisation."""
        width = self.shape.hidden
        return self.add("LayerNormalization", data, self.constant(np.ones(width)), self.constant(np.zeros(width)))

    def layer(self, data: str, mask: str) -> str:
        """One encoder layer: attention, then the wide part, each with a residual sum and a normalisation."""
        shape = self.shape
        width = shape.hidden // shape.heads
        split = self.constant([0, 0, shape.heads, width], np.int64)
        query, key, value = (
            self.add("Reshape", self.linear(data, shape.hidden, shape.hidden), split) for _ in range(3)
        )
        query = self.add("Transpose", query, perm=[0, 2, 1, 3])
        key = self.add("Transpose", key, perm=[0, 2, 3, 1])
        value = self.add("Transpose", value, perm=[0, 2, 1, 3])
        scores = self.add("Div", self.add("MatMul", query, key), self.constant(width**0.5))
        shares = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", shares, value), perm=[0, 2, 1, 3])
        joined = self.add("Reshape", mixed, self.constant([0, 0, shape.hidden], np.int64))
        data = self.normalised(self.add("Add", self.linear(joined, shape.hidden, shape.hidden), data))
        wide = self.add("Gelu", self.linear(data, shape.hidden, shape.ffn_width))
        return self.normalised(self.add("Add", self.linear(wide, shape.ffn_width, shape.hidden), data))


def write_reference(shape: Shape, path: Path, *, int8: bool = False, seed: int = 0) -> None:
    """Writes an encoder of that shape with a classifier on its first token, as the endpoint's engine loads it.

    Virtual tokens and adapters are left out. `int8` quantises as `deploycost build` does: weights by output channel,
    activations as they come.
    """
    model = _model(shape, seed)
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # It advises to prepare the graph on the root logger, for want of which nothing is lost here.
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(model, str(path), weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(previous)
        return
    import onnx

    onnx.save_model(model, str(path))


def _model(shape: Shape, seed: int) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    graph = _Graph(shape, seed)
    ids, attention = INPUT_NAMES
    seen = graph.add("Cast", attention, to=TensorProto.FLOAT)
    hidden = graph.add("Sub", seen, graph.constant(1.0))
    mask = graph.add("Unsqueeze", graph.add("Mul", hidden, graph.constant(1e4)), graph.constant([1, 2], np.int64))
    data = graph.normalised(graph.add("Gather", graph.random(shape.vocabulary, shape.hidden), ids))
    for _ in range(shape.layers):
        data = graph.layer(data, mask)
    first = graph.add("Gather", data, graph.constant(0, np.int64), axis=1)
    pooled = graph.add("Tanh", graph.linear(first, shape.hidden, shape.hidden))
    raw = graph.linear(pooled, shape.hidden, shape.labels)
    graph.add("Identity", raw, output=OUTPUT_NAME)
    axes = ["batch", "tokens"]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "reference",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in INPUT_NAMES],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", shape.labels])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=10,
    )
