"""A network for torch as data: a list of steps in JSON, and weights in safetensors. Nothing in it is code.

torch's own formats for exported networks unpickle, or evaluate text, when they are read; a bundle may come from
anywhere, so it holds neither. Each step names one of a closed list of operators that compute and do nothing else.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from serving.errors import BundleError

GRAPH_FORMAT: Final = 1
GRAPH_FILE: Final = "graph.json"
WEIGHTS_FILE: Final = "weights.safetensors"
# How quantised matrices are kept beside their name: the way transformers and bitsandbytes keep them.
NF4_STATE: Final = ".quant_state.bitsandbytes__nf4"
INT8_SCALES: Final = ".SCB"

# Of `torch.ops.aten`, as `name.overload`. None of them touches a file, a process or memory that it was not given.
OPERATORS: Final = frozenset((
    "linear.default", "matmul.default", "bmm.default", "addmm.default", "mm.default", "embedding.default",
    "layer_norm.default", "scaled_dot_product_attention.default", "softmax.int", "_softmax.default",
    "log_softmax.int", "gelu.default", "relu.default", "silu.default", "tanh.default", "sigmoid.default",
    "erf.default", "exp.default", "log.default", "add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar",
    "rsub.Scalar", "mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar", "div.Tensor_mode", "pow.Tensor_Scalar",
    "sqrt.default", "rsqrt.default", "neg.default", "abs.default", "clamp.default", "minimum.default",
    "maximum.default", "sign.default", "ceil.default", "floor.default", "sum.dim_IntList", "mean.dim", "max.dim",
    "cumsum.default", "argmax.default", "all.default", "any.default", "amax.default", "eq.Scalar", "eq.Tensor",
    "ne.Scalar", "ne.Tensor", "ge.Scalar", "ge.Tensor", "gt.Scalar", "gt.Tensor", "le.Scalar", "le.Tensor",
    "lt.Scalar", "lt.Tensor", "__and__.Tensor", "__or__.Tensor", "bitwise_and.Tensor", "bitwise_or.Tensor",
    "bitwise_not.default", "logical_and.default", "logical_or.default", "logical_not.default", "where.self",
    "where.ScalarOther", "where.ScalarSelf", "where.Scalar", "masked_fill.Scalar", "masked_fill.Tensor",
    "arange.default", "arange.start", "arange.start_step", "full.default", "full_like.default", "zeros.default",
    "ones.default", "zeros_like.default", "ones_like.default", "new_ones.default", "new_zeros.default",
    "new_full.default", "scalar_tensor.default", "to.dtype", "to.device", "to.dtype_layout", "to.other",
    "_to_copy.default", "type_as.default", "clone.default", "contiguous.default", "alias.default",
    "detach.default", "lift_fresh_copy.default", "view.default", "reshape.default", "flatten.using_ints",
    "unflatten.int", "unsqueeze.default", "squeeze.dim", "squeeze.default", "transpose.int", "permute.default",
    "t.default", "expand.default", "expand_as.default", "repeat.default", "cat.default", "stack.default",
    "split.Tensor", "split_with_sizes.default", "chunk.default", "slice.Tensor", "select.int", "index.Tensor",
    "index_select.default", "gather.default", "sym_size.int",
))  # fmt: skip
# Of Python, on sizes: whole numbers that steps before have made.
SIZE_OPERATORS: Final = frozenset(("add", "sub", "mul", "floordiv", "mod", "neg", "getitem"))


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operator with its arguments, and the name that its result goes by.

    An argument is a number, a text, null, a list of arguments, `{"of": NAME}` for an earlier result, or
    `{"dtype": NAME}`, `{"layout": NAME}`, `{"device": "cpu"}`, `{"memory_format": NAME}`.
    """

    name: str
    operator: str
    arguments: list[Any] = []
    named: dict[str, Any] = {}


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Steps in the order in which they are done; `weights` are the tensors of the weights file that they speak of."""

    format_version: int = GRAPH_FORMAT
    weights: tuple[str, ...]
    steps: tuple[Step, ...]
    output: str


def read_graph(path: Path) -> Graph:
    """The graph in a file.

    Raises:
        BundleError: it is no such graph, is of another format, or names an operator outside the closed list.
    """
    try:
        graph = msgspec.json.decode(path.read_bytes(), type=Graph)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not a graph for torch: {error}") from None
    if graph.format_version != GRAPH_FORMAT:
        raise BundleError(f"{path} has format {graph.format_version}, expected {GRAPH_FORMAT}; rebuild it")
    unknown = sorted({step.operator for step in graph.steps if not is_known(step.operator)})
    if unknown:
        raise BundleError(f"{path} names operators that are not allowed in a bundle: {', '.join(unknown[:3])}")
    return graph


def write_graph(graph: Graph, path: Path) -> None:
    """Writes what `read_graph` reads."""
    path.write_bytes(msgspec.json.encode(graph) + b"\n")


def is_known(operator: str) -> bool:
    """Whether a step may name an operator: `name.overload` of aten, or `size.NAME` of sizes."""
    kind, _, name = operator.partition(".")
    return name in SIZE_OPERATORS if kind == "size" else operator in OPERATORS
