"""torch behind the engines' protocol: runs a graph that is data, step by step, as eager torch would.

No training framework is needed to serve what one trained: the graph holds every operator that the network came to,
virtual tokens, keys and values and bottlenecks among them.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, EngineError, first_line
from serving.quantised_linear import quantised_linear
from serving.signature import INPUT_NAMES
from serving.torch_graph import INT8_SCALES, NF4_STATE, WEIGHTS_FILE, Graph, read_graph

if TYPE_CHECKING:
    from torch import Tensor


class _Reference(NamedTuple):
    """An argument that is an earlier result: its place among the values."""

    place: int


class _Action(NamedTuple):
    """A step made ready: what to call, with what, where its result goes, and what nobody needs after it."""

    call: Callable[..., Any]
    arguments: list[Any]
    named: dict[str, Any]
    place: int
    spent: list[int]


class TorchEngine:
    """torch on the CPU with a stated number of threads. Raises `BundleError` where the graph or a weight is amiss."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        try:
            import torch
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise _not_installed(bundle, error) from None
        torch.set_num_threads(threads)
        self._torch = torch
        path = bundle.folder / WEIGHTS_FILE
        if WEIGHTS_FILE not in bundle.manifest.files:
            raise BundleError(f"{bundle.model_path} has no {WEIGHTS_FILE} sealed beside it")
        graph = read_graph(bundle.model_path)
        try:
            weights = load_file(path)
            self._values, self._actions, self._output = _make_ready(graph, weights)
        except ImportError as error:
            raise _not_installed(bundle, error) from None
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise BundleError(f"torch cannot load {bundle.model_path}: {first_line(error)}") from None

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Engine.logits`."""
        torch = self._torch
        values = list(self._values)
        values[0], values[1] = torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
        try:
            with torch.inference_mode():
                for call, arguments, named, place, spent in self._actions:
                    values[place] = call(
                        *(_filled(each, values) for each in arguments),
                        **{name: _filled(each, values) for name, each in named.items()},
                    )
                    for used in spent:
                        values[used] = None
                return values[self._output].float().numpy()
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise EngineError(f"torch failed: {first_line(error)}") from None


def _not_installed(bundle: Bundle, error: ImportError) -> BundleError:
    return BundleError(
        f"{bundle.folder} needs the engine torch with {error.name}, which is not installed; "
        f"install it with: pip install {error.name}"
    )


def _filled(argument: Any, values: Sequence[Any]) -> Any:  # noqa: ANN401 - an operator's argument
    """An argument with earlier results in the place of references."""
    if type(argument) is _Reference:
        return values[argument.place]
    if type(argument) is list:
        return [_filled(part, values) for part in argument]
    return argument


def _make_ready(graph: Graph, weights: "Mapping[str, Tensor]") -> tuple[list[Any], list[_Action], int]:
    """The values before the first step, the steps made ready, and the place of the output.

    Raises `KeyError` for a name that nothing goes by, `ValueError` and `AttributeError` for an argument or operator
    that is none.
    """
    places = {name: place for place, name in enumerate((*INPUT_NAMES, *graph.weights))}
    quantised = {name for name in graph.weights if name + NF4_STATE in weights or name + INT8_SCALES in weights}
    values: list[Any] = [None, None, *(None if name in quantised else weights[name] for name in graph.weights)]
    held = len(values)
    actions: list[_Action] = []
    for step in graph.steps:
        call, arguments = _operator(step.operator), step.arguments
        if step.operator == "linear.default" and (name := _named_by(arguments[1])) in quantised:
            bias = _named_by(arguments[2]) if len(arguments) > 2 else None
            call = quantised_linear(name, weights, None if bias is None else weights[bias])
            arguments = arguments[:1]
        ready = [_made(argument, places) for argument in arguments]
        named = {name: _made(argument, places) for name, argument in step.named.items()}
        places[step.name] = len(values)
        actions.append(_Action(call, ready, named, len(values), []))
        values.append(None)
    output = places[graph.output]
    last_use = {
        place: at for at, action in enumerate(actions) for place in _references([action.arguments, action.named])
    }
    for place, at in last_use.items():
        if place >= held and place != output:
            actions[at].spent.append(place)
    return values, actions, output


def _operator(name: str) -> Callable[..., Any]:
    """The operator that a step names; names were held against the closed list when the graph was read."""
    import torch

    kind, _, rest = name.partition(".")
    if kind == "size":
        return getattr(operator, rest)
    return getattr(getattr(torch.ops.aten, kind), rest)


def _made(argument: Any, places: Mapping[str, int]) -> Any:  # noqa: ANN401 - JSON in, an operator's argument out
    """An argument as an operator takes it, or a reference."""
    import torch

    if isinstance(argument, list):
        return [_made(part, places) for part in argument]
    if not isinstance(argument, dict):
        return argument
    ((kind, value),) = argument.items()
    if kind == "of":
        return _Reference(places[value])
    if kind == "device":
        return torch.device("cpu")
    types = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
    made = getattr(torch, value, None) if kind in types else None
    if made is None or not isinstance(made, types[kind]):
        raise ValueError(f"{value!r} is no {kind}")
    return made


def _named_by(argument: Any) -> str | None:  # noqa: ANN401 - JSON
    return argument["of"] if isinstance(argument, dict) else None


def _references(argument: Any) -> list[int]:  # noqa: ANN401 - an operator's argument
    """The places of all earlier results that an argument speaks of."""
    if isinstance(argument, _Reference):
        return [argument.place]
    parts = argument.values() if isinstance(argument, dict) else argument if isinstance(argument, list) else ()
    return [place for part in parts for place in _references(part)]
