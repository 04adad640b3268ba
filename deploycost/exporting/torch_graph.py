"""A trained classifier as a graph for the endpoint's torch engine: steps as data, weights in safetensors."""

from __future__ import annotations

import operator
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deploycost.errors import NoAnswer
from deploycost.exporting.graph import Logits, example_batch, quiet
from serving.quantised_linear import import_bitsandbytes
from serving.signature import INPUT_NAMES
from serving.torch_graph import (
    INT8_SCALES,
    SIZE_OPERATORS,
    WEIGHTS_FILE,
    Graph,
    Step,
    is_known,
    write_graph,
)

TorchPrecision = Literal["fp32", "bf16", "nf4", "int8"]
# What the exporter notes down for itself; and dropout, which does nothing in serving.
_NO_STEPS = ("_assert_tensor_metadata.default", "_assert_scalar.default", "sym_constrain_range_for_size.default")
_PASSED_THROUGH = ("dropout.default",)
_NF4_BLOCK = 64


def write_torch(classifier: nn.Module, max_tokens: int, precision: TorchPrecision, path: Path) -> None:
    """Writes the graph to `path` and the weights beside it; virtual tokens and the like are steps as any other.

    Quantised are the matrices that every token is multiplied by, as bitsandbytes does it; those of the head, once a
    text, stay as they are, and so do embeddings.

    Args:
        classifier: Plain fp32 network (see `models.adapter_folder.load_merged`); left as it is.
        max_tokens: The most text tokens it may be given.
        precision: Of the weights; in `bf16` all arithmetic is too.
        path: Where to write the graph.

    Raises:
        NoAnswer: the network does something that no step of a bundle may do.
    """
    ids, mask = example_batch(max_tokens)
    tokens = torch.export.Dim("tokens", min=3, max=max(max_tokens, 4))
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: tokens}
    if precision == "bf16":
        classifier = deepcopy(classifier).bfloat16()
    with quiet(), torch.no_grad():
        program = torch.export.export(Logits(classifier).eval(), (ids, mask), dynamic_shapes=(axes, axes))
    graph, sources = _as_data(program)
    held = {**program.state_dict, **program.constants}
    # Of weights that go by two names, each is written: the file holds no two names for one piece of memory.
    weights: dict[str, Tensor] = {name: held[source].detach().clone().contiguous() for name, source in sources.items()}
    if precision in ("nf4", "int8"):
        for name in _token_matrices(program):
            weights.update(_quantised(name, weights[name], precision))
    write_graph(graph, path)
    save_file(weights, path.with_name(WEIGHTS_FILE))


def _as_data(program: torch.export.ExportedProgram) -> tuple[Graph, dict[str, str]]:
    """The program's graph, and for each weight in it the name that the program holds it by."""
    signature = program.graph_signature
    held: dict[str, Any] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held.update(signature.inputs_to_lifted_tensor_constants)
    renamed: dict[str, Any] = {str(given): name for given, name in zip(signature.user_inputs, INPUT_NAMES, strict=True)}
    steps: list[Step] = []
    sources: dict[str, str] = {}
    nodes: Any = program.graph.nodes
    for node in nodes:
        if node.op == "placeholder":
            if node.name in held and node.users:
                sources[node.name] = held[node.name]
        elif node.op == "call_function":
            name = _operator_name(node.target)
            if name in _PASSED_THROUGH:
                renamed[node.name] = renamed.get(node.args[0].name, node.args[0].name)
            elif name not in _NO_STEPS and (node.users or not steps):
                arguments = [_argument(each, renamed) for each in node.args]
                named = {key: _argument(each, renamed) for key, each in node.kwargs.items() if each is not None}
                named.pop("pin_memory", None)
                steps.append(Step(node.name, name, arguments, named))
    result: Any = program.graph.output_node().args[0]
    (output,) = result
    graph = Graph(weights=tuple(sources), steps=tuple(steps), output=renamed.get(output.name, output.name))
    strange = sorted({step.operator for step in steps if not is_known(step.operator)})
    if strange:
        raise NoAnswer(f"the network computes with {', '.join(strange)}, which bundles for torch do not allow")
    return graph, sources


def _operator_name(target: Any) -> str:  # noqa: ANN401 - an operator of torch, or a function of Python's on sizes
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removeprefix("aten.")
    name = getattr(target, "__name__", str(target))
    return f"size.{name}" if name in SIZE_OPERATORS and hasattr(operator, name) else name


def _argument(given: Any, renamed: dict[str, Any]) -> Any:  # noqa: ANN401 - an operator's argument in, JSON out
    if isinstance(given, torch.fx.Node):
        return {"of": renamed.get(given.name, given.name)}
    if isinstance(given, list | tuple):
        return [_argument(part, renamed) for part in given]
    if isinstance(given, torch.device):
        return {"device": "cpu"}
    for kind, known in (("dtype", torch.dtype), ("layout", torch.layout), ("memory_format", torch.memory_format)):
        if isinstance(given, known):
            return {kind: str(given).removeprefix("torch.")}
    if given is None or isinstance(given, bool | int | float | str):
        return given
    raise NoAnswer(f"the network computes with {given!r}, which bundles for torch do not allow")


def _token_matrices(program: torch.export.ExportedProgram) -> list[str]:
    """The weights of linear layers whose input is [batch, tokens, width]."""
    nodes: Any = program.graph.nodes
    return list(
        dict.fromkeys(
            node.args[1].name
            for node in nodes
            if node.op == "call_function"
            and _operator_name(node.target) == "linear.default"
            and node.args[0].meta["val"].ndim == 3
        )
    )


def _quantised(name: str, matrix: Tensor, precision: Literal["nf4", "int8"]) -> dict[str, Tensor]:
    """The tensors that stand for a matrix [rows, columns], by the names that the endpoint looks for."""
    functional = import_bitsandbytes().functional
    if precision == "int8":
        rounded, scales, _ = functional.int8_vectorwise_quant(matrix.half())
        return {name: rounded.contiguous(), name + INT8_SCALES: scales.contiguous()}
    packed, state = functional.quantize_4bit(matrix, blocksize=_NF4_BLOCK, quant_type="nf4", compress_statistics=True)
    parts = {f"{name}.{part}": tensor.contiguous() for part, tensor in state.as_dict(packed=True).items()}
    return {name: packed.contiguous(), **parts}
