"""Which group and phase of a training step an operator of a torch profile belongs to, so that times add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from torch.profiler import DeviceType

from deploycost.records import OperatorTime

Group = Literal["matmul", "attention", "quantisation", "optimiser", "other"]
Phase = Literal["forward", "backward", "update"]
GROUPS: tuple[Group, ...] = get_args(Group)
PHASES: tuple[Phase, ...] = get_args(Phase)

# What the profiled steps call their phases in the trace.
RANGES: dict[Phase, str] = {phase: f"training_step::{phase}" for phase in PHASES}
_PHASE_OF_RANGE: dict[str, Phase] = {name: phase for phase, name in RANGES.items()}
_BACKWARD_NODE = "autograd::engine::evaluate_function: "

_ATTENTION = ("aten::scaled_dot_product", "aten::_scaled_dot_product", "aten::_flash_attention", "aten::_efficient_att")
_MATMULS = frozenset(
    f"aten::{name}"
    for name in ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "einsum", "_int_mm")
) | {"mkldnn::_linear_pointwise", "aten::mkldnn_linear", "bitsandbytes::int8_linear_matmul"}
# Autocast puts its casts inside the operator that it casts for.
_CASTS = frozenset({"aten::to", "aten::_to_copy"})
# Quantised layers are autograd functions, bitsandbytes' and `deploycost.models.quantised`'s, with operators inside.
_QUANTISED = ("bitsandbytes::", "MatMul4Bit", "MatMul8bit", "_ByInt8")
_UNPACK_AND_MULTIPLY = frozenset({"bitsandbytes::gemm_4bit", "bitsandbytes::gemv_4bit"})
_US_PER_MS = 1000

# `torch.autograd.profiler_util.FunctionEvent`; its attributes are set where no checker sees them.
Event = Any


def operator_times(events: Sequence[Event], steps: int, *, on_device: bool) -> tuple[OperatorTime, ...]:
    """Time of each group in each phase, in ms per step; groups without operators are there with 0 where they can be.

    An operator counts its own time, without that of those it calls, so that the groups add up. It belongs to attention
    where it runs inside a scaled dot product or in the backward of one; to quantisation where it runs inside a
    quantised layer and multiplies no matrices; to matmul where it or the nearest of those around it multiplies. All of
    the update is the optimiser's. What Python takes between operators is `other`. Calls are of outermost operators of a
    group.

    Args:
        events: of a profile of steps whose phases are recorded as `RANGES`.
        steps: how many steps they are of.
        on_device: count the time of kernels on the accelerator, which leaves out where it waited, not of the CPU.
    """
    own = [event for event in events if event.device_type == DeviceType.CPU]
    attending = _attention_numbers(own)
    times: dict[tuple[Group, Phase], float] = defaultdict(float)
    calls: dict[tuple[Group, Phase], int] = defaultdict(int)
    places = {id(event): _place(event, attending) for event in own}
    for event in own:
        place = places[id(event)]
        if place is None:
            continue
        times[place] += event.self_device_time_total if on_device else event.self_cpu_time_total
        if not _is_wrapper(event):
            caller = next((outer for outer in _outwards(event.cpu_parent) if not _is_wrapper(outer)), None)
            calls[place] += caller is None or places[id(caller)] != place
    return tuple(
        OperatorTime(
            group=group,
            phase=phase,
            time_ms=times[group, phase] / _US_PER_MS / steps,
            calls=calls[group, phase] / steps,
        )
        for phase in PHASES
        for group in GROUPS
        if (group == "optimiser") == (phase == "update")
    )


def _is_wrapper(event: Event) -> bool:
    """Whether the event is no operator but a range of them, of ours or of autograd's."""
    return event.name in _PHASE_OF_RANGE or event.name.startswith(_BACKWARD_NODE)


def _place(event: Event, attending: frozenset[int]) -> tuple[Group, Phase] | None:
    """The group and phase of an event, or None outside any step."""
    around = tuple(_outwards(event))
    phase = _phase(around)
    if phase is None:
        return None
    return ("optimiser", phase) if phase == "update" else (_group(around, attending), phase)


def _phase(around: Sequence[Event]) -> Phase | None:
    # On a GPU backward runs in a thread of its own, outside the range that started it.
    if any(event.name.startswith(_BACKWARD_NODE) for event in around):
        return "backward"
    return next((_PHASE_OF_RANGE[event.name] for event in around if event.name in _PHASE_OF_RANGE), None)


def _group(around: Sequence[Event], attending: frozenset[int]) -> Group:
    if any(_attends(event, attending) for event in around):
        return "attention"
    cast = False
    for event in around:
        name = event.name.removeprefix(_BACKWARD_NODE)
        if name in _UNPACK_AND_MULTIPLY:
            # One kernel that does both is a multiplication; where it calls the two apart, they count for themselves.
            return "quantisation" if event.cpu_children else "matmul"
        if name in _MATMULS and not cast:
            return "matmul"
        if name.startswith(_QUANTISED):
            return "quantisation"
        cast = cast or name in _CASTS
    return "other"


def _attends(event: Event, attending: frozenset[int]) -> bool:
    if event.name.startswith(_BACKWARD_NODE):
        return event.sequence_nr in attending
    return event.name.startswith(_ATTENTION)


def _attention_numbers(events: Iterable[Event]) -> frozenset[int]:
    """The numbers of the autograd nodes that were made inside a scaled dot product.

    Autograd counts its nodes, and an operator carries the number that the next node will get: of those with the same
    number it is the last begun, the innermost, that made the node.
    """
    makers: dict[int, Event] = {}
    for event in events:
        number = event.sequence_nr
        if number < 0 or event.name.startswith(_BACKWARD_NODE) or _phase(tuple(_outwards(event))) != "forward":
            continue
        if number not in makers or event.time_range.start >= makers[number].time_range.start:
            makers[number] = event
    return frozenset(
        number
        for number, maker in makers.items()
        if any(event.name.startswith(_ATTENTION) for event in _outwards(maker))
    )


def _outwards(event: Event | None) -> Iterator[Event]:
    while event is not None:
        yield event
        event = event.cpu_parent
