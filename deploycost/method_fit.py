"""Whether methods fit a base encoder, told before anything is trained: by its shape alone, all that does not at once.

The network is asked again when it is built (`deploycost.models`), where a memory budget is also held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploycost.encoder_shape import EncoderShape
from deploycost.errors import UserError
from deploycost.experiment import MethodName, TrainingSpec
from deploycost.layer_choice import resolve_layers
from deploycost.methods import METHODS, Method

# The shortest text that must fit beside virtual tokens in the input.
LEAST_TEXT_TOKENS = 8
# RoBERTa counts positions from its padding id: rows of the table that no token can take.
_RESERVED_POSITIONS = {"roberta": 2}


def require_fit(methods: Sequence[MethodName], spec: TrainingSpec, shape: EncoderShape, model: str) -> None:
    """Refuses hyper-parameters that the encoder called `model` has no room or no place for.

    Raises:
        UserError: all of them in one line, each with what would fit.
    """
    found = [misfit for name in methods for misfit in _misfits(METHODS[name], spec, shape)]
    if found:
        raise UserError(f"model {model!r}: {'; '.join(dict.fromkeys(found))}")


def _misfits(method: Method, spec: TrainingSpec, shape: EncoderShape) -> Iterator[str]:
    if method.low_rank:
        yield from _rank_misfits(method, spec, shape)
    if method.prompting == "chosen":
        yield from _prompt_misfits(spec, shape)
    factor = spec.adapter.reduction_factor
    if method.bottlenecks and factor > shape.hidden:
        yield (
            f"reduction factor {factor} is above the layer width {shape.hidden} and leaves no bottleneck; "
            f"give at most --reduction-factor {shape.hidden}"
        )


def _rank_misfits(method: Method, spec: TrainingSpec, shape: EncoderShape) -> Iterator[str]:
    try:
        targets = shape.targeted(spec.lora.targets)
    except UserError as error:
        yield str(error)
        return
    narrowest = min(min(matrix.inputs, matrix.outputs) for matrix in targets)
    if method.allocated_ranks and spec.dynamic.memory_budget is not None:
        return  # the rank is what the budget affords
    if spec.lora.rank > narrowest:
        yield f"rank {spec.lora.rank} is above the layer width {narrowest}; give --rank {narrowest // 2}"
    elif method.allocated_ranks and spec.lora.rank == narrowest:
        yield (
            f"rank {spec.lora.rank} is not below the layer width {narrowest}, and dynamic ranks begin above their "
            f"mean; give --rank {narrowest // 2}"
        )


def _prompt_misfits(spec: TrainingSpec, shape: EncoderShape) -> Iterator[str]:
    prompt = spec.prompt
    if prompt.layers is not None:
        try:
            resolve_layers(prompt.layers, shape.layers)
        except UserError as error:
            yield str(error)
        return
    positions = shape.positions - _RESERVED_POSITIONS.get(shape.model_type, 0)
    most = positions - LEAST_TEXT_TOKENS
    if prompt.virtual_tokens > most:
        yield (
            f"{prompt.virtual_tokens} virtual tokens leave no room for a text in its {positions} positions; "
            f"give at most --virtual-tokens {most}"
        )
