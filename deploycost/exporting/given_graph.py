"""An ONNX graph that was made elsewhere: what of it the endpoint could not feed or read, and the small edits for that.

The endpoint feeds int64 `input_ids` and `attention_mask`, both of any size, and reads `logits`. A graph may have its
inputs in int32, may ask for token types (all zero for one text), may call its output otherwise, and may end in the
activation that the endpoint computes itself for the model's task. Everything else is refused, in one line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from deploycost.errors import UserError
from deploycost.exporting.graph import INPUT_NAMES, OUTPUT_NAME
from deploycost.models.encoding import EncodedTexts, batches_by_length
from serving.bundle import Task

_TOKEN_TYPES = "token_type_ids"  # noqa: S105 - an input's name
# What the endpoint makes of logits, by task: taken off a graph that does it too. The number of a regression is told as
# it is, so that what such a graph ends in is part of its answer.
_RECOMPUTED: dict[Task, tuple[str, ...]] = {
    "single-label": ("Softmax", "LogSoftmax"),
    "multi-label": ("Sigmoid",),
    "regression": (),
}
_MEANT_BY = {
    "Softmax": "one label of several (--task single-label)",
    "LogSoftmax": "one label of several (--task single-label)",
    "Sigmoid": "labels judged each for itself (--task multi-label), or for a number (--task regression)",
}
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *_HALVES)
# What a file written by protobuf can hold.
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class GivenGraph:
    """A graph that passed; `scores` names the tensor in it that becomes `logits`, `notes` say what was settled."""

    path: Path
    model: ModelProto
    scores: str
    notes: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, int]:
        """Element type of each input."""
        return {item.name: item.type.tensor_type.elem_type for item in _inputs(self.model)}

    @property
    def parameters(self) -> int:
        """Numbers that the graph holds as weights."""
        return sum(int(np.prod(tensor.dims)) for tensor in self.model.graph.initializer)

    def holds(self, operator: str) -> bool:
        """Whether one of its nodes is such an operator."""
        return any(node.op_type == operator for node in self.model.graph.node)


def open_graph(path: Path, task: Task) -> GivenGraph:
    """The graph in an ONNX file, with its weights.

    Raises:
        UserError: it cannot be read whole, is quantised already, its inputs or outputs are not a classifier's, or it
            ends in the activation of another task.
    """
    model = _read(path)
    _refuse_precision(path, model)
    _refuse_inputs(path, model)
    output = _output(path, model)
    activation = _activation(path, model, output, task)
    notes = []
    if activation is not None:
        notes.append(f"the graph's own {activation.op_type} was taken off: the endpoint computes it from the logits")
    if _TOKEN_TYPES in {item.name for item in _inputs(model)}:
        notes.append(f"{_TOKEN_TYPES} were set to zero in the graph")
    return GivenGraph(path, model, activation.input[0] if activation is not None else output, tuple(notes))


def write_plain(given: GivenGraph, labels: int, path: Path) -> None:
    """Writes the graph as the endpoint takes it: one file, int64 inputs of two names, `logits` [batch, labels].

    Raises:
        UserError: it would be larger than one file can be.
    """
    model = ModelProto()
    model.CopyFrom(given.model)
    graph = model.graph
    if given.scores != OUTPUT_NAME or OUTPUT_NAME not in {item.name for item in graph.output}:
        _call_logits(graph, given.scores)
    before: list[NodeProto] = []
    for item in list(_inputs(model)):
        kind = item.type.tensor_type.elem_type
        if item.name == _TOKEN_TYPES:
            graph.input.remove(item)
            before += _zeros(item.name, kind)
        elif kind != TensorProto.INT64:
            before.append(_cast(model, item, kind))
    nodes = _that_lead_to(OUTPUT_NAME, [*before, *graph.node])
    del graph.node[:]
    graph.node.extend(nodes)
    # Shapes of tensors inside, some of them gone: the runtimes infer their own.
    del graph.value_info[:]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", labels]))
    if model.ByteSize() > _MOST_BYTES:
        raise UserError(f"{given.path} is larger than 2 GiB, more than one ONNX file can hold")
    onnx.save(model, str(path))


def answers_of(given: GivenGraph, encoded: EncodedTexts, batch_size: int = 8) -> NDArray[np.float32]:
    """What the graph answers as it was brought, before any edit: logits [texts, labels] in the order of the texts.

    Raises:
        UserError: it fails on a text, or does not answer with one row of numbers a text.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    model = ModelProto()
    model.CopyFrom(given.model)
    if given.scores not in {item.name for item in model.graph.output}:
        model.graph.output.append(helper.make_empty_tensor_value_info(given.scores))
    parts: list[tuple[list[int], NDArray[np.float32]]] = []
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for rows, ids, mask in batches_by_length(encoded, batch_size):
            feed = {INPUT_NAMES[0]: ids.numpy(), INPUT_NAMES[1]: mask.numpy(), _TOKEN_TYPES: np.zeros_like(ids.numpy())}
            typed = {
                name: feed[name].astype(helper.tensor_dtype_to_np_dtype(kind)) for name, kind in given.inputs.items()
            }
            (logits,) = session.run([given.scores], typed)
            parts.append((rows, np.asarray(logits, dtype=np.float32)))
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no class of their own
        raise UserError(f"{given.path} does not run on texts: {str(error).partition(chr(10))[0][:200]}") from None
    if any(part.ndim != 2 or len(part) != len(rows) for rows, part in parts):
        raise UserError(f"{given.path} answers in shape {parts[0][1].shape}, expected one row of numbers a text")
    answers = np.empty((len(encoded), parts[0][1].shape[1]), dtype=np.float32)
    for rows, part in parts:
        answers[rows] = part
    return answers


def _read(path: Path) -> ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                _require_beside(path, ExternalDataInfo(tensor).location)
        model = onnx.load(str(path))
        onnx.checker.check_model(str(path))
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"cannot read {path} as ONNX: {' '.join(str(error).split())[:200]}") from None
    return model


def _require_beside(path: Path, location: str) -> None:
    if Path(location).name != location:
        raise UserError(f"{path} keeps weights outside its folder ({location}); that is never followed")
    if not (path.parent / location).is_file():
        raise UserError(f"{path} keeps its weights in {location}, which is missing; put it beside the graph")


def _refuse_precision(path: Path, model: ModelProto) -> None:
    quantised = sorted({node.op_type for node in model.graph.node if "Quantize" in node.op_type or _is_integer(node)})
    if quantised:
        raise UserError(f"{path} is quantised already ({quantised[0]}); bring the fp32 graph, int8 is made of it here")
    if any(tensor.data_type in _HALVES for tensor in model.graph.initializer):
        raise UserError(f"{path} holds weights in 16 bits; bring the fp32 graph")


def _is_integer(node: NodeProto) -> bool:
    return node.op_type.startswith("QLinear") or node.op_type in (
        "MatMulInteger",
        "ConvInteger",
        "MatMulNBits",
        "QGemm",
    )


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    constant = {tensor.name for tensor in model.graph.initializer}
    return [item for item in model.graph.input if item.name not in constant]


def _refuse_inputs(path: Path, model: ModelProto) -> None:
    inputs = {item.name: item.type.tensor_type for item in _inputs(model)}
    missing = [name for name in INPUT_NAMES if name not in inputs]
    strange = sorted(set(inputs) - {*INPUT_NAMES, _TOKEN_TYPES})
    if missing or strange:
        raise UserError(
            f"{path} has the inputs {', '.join(inputs) or 'none'}; expected {' and '.join(INPUT_NAMES)}, "
            f"with or without {_TOKEN_TYPES}"
        )
    for name, kind in inputs.items():
        if kind.elem_type not in _INTEGERS:
            told = TensorProto.DataType.Name(kind.elem_type)
            raise UserError(f"{path} takes {name} as {told}, expected INT64 or INT32 token ids")
        sizes = [size.dim_value for size in kind.shape.dim]
        if len(sizes) != 2 or any(sizes):
            raise UserError(
                f"{path} takes {name} of fixed size {sizes}; export it with dynamic batch and sequence axes"
            )


def _output(path: Path, model: ModelProto) -> str:
    outputs = {item.name: item.type.tensor_type for item in model.graph.output}
    if OUTPUT_NAME in outputs:
        return OUTPUT_NAME
    fit = [
        name
        for name, kind in outputs.items()
        if kind.elem_type == TensorProto.FLOAT and (not kind.HasField("shape") or len(kind.shape.dim) == 2)
    ]
    if len(fit) != 1:
        raise UserError(
            f"{path} has the outputs {', '.join(outputs) or 'none'}; expected {OUTPUT_NAME}, or one "
            "of floats [batch, labels]"
        )
    return fit[0]


def _activation(path: Path, model: ModelProto, output: str, task: Task) -> NodeProto | None:
    """The node that makes scores of logits, with nothing behind it that changes them; None where there is none.

    Raises:
        UserError: it is that of another task.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    last = makers.get(output)
    while last is not None and _hands_on(last):
        last = makers.get(last.input[0])
    if last is None or last.op_type not in _MEANT_BY or task == "regression":
        return None
    if last.op_type not in _RECOMPUTED[task]:
        raise UserError(
            f"{path} is brought as {task} and ends in {last.op_type}, which stands for {_MEANT_BY[last.op_type]}"
        )
    return last


def _hands_on(node: NodeProto) -> bool:
    """Whether it gives what it takes, in whatever precision."""
    if node.op_type == "Cast":
        return any(each.name == "to" and each.i in _FLOATS for each in node.attribute)
    return node.op_type == "Identity"


def _call_logits(graph: GraphProto, scores: str) -> None:
    """Gives scores the name of the output, as floats; whatever bears it in the graph gets another."""
    inner = f"{OUTPUT_NAME}_as_given"
    while any(inner in node.output for node in graph.node):
        inner += "_"
    _rename(graph, OUTPUT_NAME, inner)
    made_of = inner if scores == OUTPUT_NAME else scores
    graph.node.append(helper.make_node("Cast", [made_of], [OUTPUT_NAME], to=TensorProto.FLOAT))


def _that_lead_to(name: str, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Those of the nodes, which stand in their order, that a tensor is computed by."""
    needed, kept = {name}, []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed |= _read_by(node)
            kept.append(node)
    return kept[::-1]


def _read_by(node: NodeProto) -> set[str]:
    inner = (each for graph in _branches(node) for each in graph.node)
    return {*node.input, *(name for each in inner for name in _read_by(each))}


def _rename(graph: GraphProto, old: str, new: str) -> None:
    """Renames a tensor wherever nodes or weights speak of it."""
    for tensor in graph.initializer:
        if tensor.name == old:
            tensor.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
        for branch in _branches(node):
            _rename(branch, old, new)
            for output in branch.output:
                if output.name == old:
                    output.name = new


def _branches(node: NodeProto) -> list[GraphProto]:
    """The graphs inside a node: what it does by condition, or in turns."""
    return [graph for each in node.attribute for graph in ([each.g] if each.HasField("g") else each.graphs)]


def _zeros(name: str, kind: int) -> list[NodeProto]:
    zero = helper.make_tensor("zero", kind, [1], [0])
    shape = helper.make_node("Shape", [INPUT_NAMES[0]], [f"{name}_shape"])
    return [shape, helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=zero)]


def _cast(model: ModelProto, item: ValueInfoProto, kind: int) -> NodeProto:
    """Gives an input its endpoint's type, and the nodes that read it the type that they know."""
    narrow = f"{item.name}_as_given"
    _rename(model.graph, item.name, narrow)
    item.type.tensor_type.elem_type = TensorProto.INT64
    return helper.make_node("Cast", [item.name], [narrow], to=kind)
