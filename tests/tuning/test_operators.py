"""Which group an operator's time is counted with, on trees of events made by hand."""
# ruff: noqa: TID253 - these test what is made of the framework

from types import SimpleNamespace
from typing import Any

from torch.profiler import DeviceType

from deploycost.tuning.operators import RANGES, operator_times

NODE = "autograd::engine::evaluate_function: "


def event(name: str, own_us: float = 0, *children: Any, number: int = -1) -> Any:
    """An event that takes `own_us` beside its children."""
    made = SimpleNamespace(
        name=name,
        self_cpu_time_total=own_us,
        self_device_time_total=0,
        sequence_nr=number,
        device_type=DeviceType.CPU,
        cpu_parent=None,
        cpu_children=list(children),
        time_range=SimpleNamespace(start=0),
    )
    for child in children:
        child.cpu_parent = made
    return made


def times_ms(*roots: Any, steps: int = 1, on_device: bool = False) -> dict[tuple[str, str], tuple[float, float]]:
    """(time, calls) by (phase, group), of what is not zero."""
    events = []

    def visit(one: Any) -> None:
        one.time_range.start = len(events)
        events.append(one)
        for child in one.cpu_children:
            visit(child)

    for root in roots:
        visit(root)
    times = operator_times(events, steps, on_device=on_device)
    return {(part.phase, part.group): (part.time_ms, part.calls) for part in times if part.time_ms or part.calls}


def forward(*children: Any) -> Any:
    return event(RANGES["forward"], 0, *children)


def backward(*children: Any) -> Any:
    return event(RANGES["backward"], 0, *children)


def test_own_times_add_up_and_are_per_step() -> None:
    step = [
        event(
            RANGES["forward"], 1000, event("aten::linear", 200, event("aten::addmm", 5000)), event("aten::gelu", 800)
        ),
        backward(event(NODE + "AddmmBackward0", 100, event("AddmmBackward0", 50, event("aten::mm", 3850)))),
        event(RANGES["update"], 300, event("Optimizer.step#AdamW.step", 200, event("aten::_fused_adamw_", 500))),
    ]
    assert times_ms(*step, steps=2) == {
        ("forward", "matmul"): (2.6, 0.5),
        ("forward", "other"): (0.9, 0.5),
        ("backward", "matmul"): (1.925, 0.5),
        ("backward", "other"): (0.075, 0.5),
        ("update", "optimiser"): (0.5, 0.5),
    }


def test_what_is_outside_the_steps_is_not_counted() -> None:
    assert times_ms(event("aten::mm", 1000)) == {}


def test_matrix_products_within_attention_are_attention_in_both_directions() -> None:
    scaled = event(
        "aten::scaled_dot_product_attention",
        10,
        event("aten::_scaled_dot_product_attention_math", 0, event("aten::matmul", 90, number=7), number=7),
        number=7,
    )
    outside = event("aten::matmul", 400, number=8)
    nodes = [
        event(NODE + "BmmBackward0", 0, event("aten::bmm", 200), number=7),
        event(NODE + "MmBackward0", 0, event("aten::mm", 600), number=8),
    ]
    assert times_ms(forward(scaled, outside), backward(*nodes)) == {
        ("forward", "attention"): (0.1, 1),
        ("forward", "matmul"): (0.4, 1),
        ("backward", "attention"): (0.2, 1),
        ("backward", "matmul"): (0.6, 1),
    }


def test_backward_in_a_thread_of_its_own_is_backward() -> None:
    assert times_ms(event(NODE + "MmBackward0", 0, event("aten::mm", 600))) == {("backward", "matmul"): (0.6, 1)}


def test_a_cast_for_a_matrix_product_is_no_matrix_product() -> None:
    cast = event("aten::to", 100, event("aten::_to_copy", 100, event("aten::copy_", 300)))
    assert times_ms(forward(event("aten::linear", 0, cast, event("aten::addmm", 1000)))) == {
        ("forward", "matmul"): (1.0, 1),
        ("forward", "other"): (0.5, 1),
    }


def test_a_quantised_layer_unpacks_and_multiplies() -> None:
    apart = event(
        "MatMul4Bit",
        10,
        event(
            "bitsandbytes::gemm_4bit",
            20,
            event("bitsandbytes::dequantize_4bit", 170),
            event("aten::linear", 0, event("aten::addmm", 800)),
        ),
    )
    eight_bits = event("MatMul8bitFp", 0, event("aten::to", 50, event("aten::copy_", 50)), event("aten::linear", 200))
    at_once = event("MatMul4Bit", 100, event("bitsandbytes::gemm_4bit", 900))
    assert times_ms(forward(apart)) == {("forward", "quantisation"): (0.2, 1), ("forward", "matmul"): (0.8, 1)}
    assert times_ms(forward(eight_bits)) == {("forward", "quantisation"): (0.1, 1), ("forward", "matmul"): (0.2, 1)}
    assert times_ms(forward(at_once)) == {("forward", "quantisation"): (0.1, 1), ("forward", "matmul"): (0.9, 1)}


def test_on_an_accelerator_the_kernels_are_timed() -> None:
    product = event("aten::mm", 1000)
    product.self_device_time_total = 250
    kernel = event("sgemm", 250)
    kernel.device_type = DeviceType.CUDA
    assert times_ms(forward(product), kernel, on_device=True) == {("forward", "matmul"): (0.25, 1)}
