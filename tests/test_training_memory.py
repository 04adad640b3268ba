"""The memory model: numbers worked out by hand on a tiny shape, and laws that hold for any."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deploycost.encoder_shape import EncoderShape
from deploycost.experiment import METHOD_NAMES, MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.records import TrainingMemory
from deploycost.training_memory import (
    Setting,
    TrainingLoad,
    initial_rank_for,
    load_of,
    predict,
    trainable_parameters,
)
from deploycost.units import MIB

# Body: tables (10 + 6 + 2 + 2 of the norm) x 8 = 160; a layer's matrices 4 x 8 x 8 + 2 x 8 x 16 = 512, its biases
# 4 x 8 + 16 + 8 = 56 and norms 4 x 8 = 32; so 160 + 2 x 600 = 1360. The head for three labels: 9 x (8 + 3) = 99.
SHAPE = EncoderShape("bert", layers=2, hidden=8, heads=2, ffn_width=16, vocabulary=10, positions=6, token_types=2)
# Two texts of four tokens: 8 fed tokens, a stream of 8 x 8 numbers, scores of 2 heads x 8 x 4 = 64 numbers.
SMALL = TrainingLoad(labels=3, batch_size=2, tokens=4, half_precision=False)


def test_full_training_in_fp32_by_hand() -> None:
    # A layer: attention 4 x (64 + 2 x 64) + 12 x 64 = 1536, dropout masks 64 x (4 + 4) = 512, norms 2 x 4 x 64 = 512,
    # gelu's input 4 x 8 x 16 = 512, inputs of trained matrices 4 x 8 x (3 x 8 + 16) = 1280: 4352.
    # Two layers 8704, the embeddings' norm and mask 512, passing 2 x 4 x 8 x 16 = 1024: 10240.
    # Gradients but the tables' (5836 - 640) more than fill the heap's holes (0.4 x 10240).
    assert predict(SHAPE, replace(SMALL, whole_body=True)) == TrainingMemory(
        weights=5836, gradients=5836, optimiser=11672, activations=10240, workspace=40 * MIB
    )


def test_lora_in_half_precision_by_hand() -> None:
    # 2 layers x 2 matrices x rank 3 x (8 + 8) = 192 parameters, and the head's 99.
    # Weights: all 1459, the adapters, a second head, and 2-byte copies of 1024 matrix entries.
    # A layer: attention 1536, masks 64 x (2 + 2) = 256, norms 512, gelu's input 2 x 8 x 16 = 256, and for each of two
    # adapters 8 x ((4 + 2) x 8 + 2 x 3) = 432: 3424. Two layers, and 2 x 2 x 8 x 16 = 512 passing: 7360.
    # Workspace: 0.4 x 7360 = 2944, of which gradients fill 1164; and the kernels of one width, 4 MiB.
    load = replace(SMALL, half_precision=True, rank=3)
    assert trainable_parameters(SHAPE, load) == 291
    assert predict(SHAPE, load) == TrainingMemory(
        weights=4 * (1459 + 192 + 99) + 2 * 1024,
        gradients=4 * 291,
        optimiser=8 * 291,
        activations=7360,
        workspace=44 * MIB + 2944 - 1164,
    )


def test_4_bit_layers_leave_more_holes_in_the_heap() -> None:
    # The same adapters; gelu's input and the second mask in fp32 add 256 and 128 bytes a layer: 7360 + 768 = 8128.
    memory = predict(SHAPE, replace(SMALL, half_precision=True, rank=3, bits=4))
    assert memory.activations == 8128
    assert memory.workspace == 44 * MIB + round(0.7 * 8128) - 1164


@pytest.mark.parametrize(("tokens", "widths"), [(1, 1), (8, 1), (9, 2), (128, 16)])
def test_kernels_are_kept_for_each_width_in_half_precision(tokens: int, widths: int) -> None:
    memory = predict(SHAPE, replace(SMALL, half_precision=True, tokens=tokens))
    # The head alone is trained: its gradients fill next to none of the holes.
    holes = round(0.4 * memory.activations) - memory.gradients
    assert memory.workspace == (40 + 4 * widths) * MIB + max(0, holes)


def test_allocated_ranks_add_singular_values_and_their_importance() -> None:
    plain, allocated = replace(SMALL, rank=3), replace(SMALL, rank=3, allocated_ranks=True)
    # A singular value for each rank of 4 matrices: 12; three more numbers for each of the 204 of the adapters.
    assert trainable_parameters(SHAPE, allocated) - trainable_parameters(SHAPE, plain) == 12
    assert predict(SHAPE, allocated).optimiser == 8 * 303 + 12 * 204


def test_nf4_takes_the_place_of_matrices_on_a_gpu_and_stands_beside_the_mapped_file_on_a_cpu() -> None:
    on_cpu, on_gpu = (
        predict(SHAPE, replace(SMALL, rank=3, bits=4, device=device)).weights for device in ("cpu", "cuda")
    )
    nf4 = round(1024 * (0.5 + 1 / 64 + 1 / 16384))
    assert on_cpu == 4 * (1459 + 192 + 99) + nf4
    assert on_gpu == on_cpu - 4 * 1024


def test_prompts_and_bottlenecks_train_what_they_add() -> None:
    head = 99
    assert trainable_parameters(SHAPE, replace(SMALL, input_tokens=5)) == head + 5 * 8
    assert trainable_parameters(SHAPE, replace(SMALL, layer_tokens=5, prompted_layers=1)) == head + 5 * 2 * 8
    # Vectors 5 x 4, hidden 4 x 4 + 4, and for each of 2 layers 4 x 16 + 16.
    prefix = replace(SMALL, layer_tokens=5, prompted_layers=2, prefix_width=4)
    assert trainable_parameters(SHAPE, prefix) == head + 20 + 20 + 160
    # Down 8 x 2 + 2, up 2 x 8 + 8, twice in each of 2 layers.
    houlsby = replace(SMALL, bottleneck_width=2, bottlenecks_per_layer=2)
    assert trainable_parameters(SHAPE, houlsby) == head + 4 * 42


def test_keys_and_values_at_layers_are_kept_only_there() -> None:
    none, one, both = (
        predict(SHAPE, replace(SMALL, layer_tokens=3, prompted_layers=count)).activations for count in (0, 1, 2)
    )
    # Keys and values 4 x 2 x (2 texts x 3 x 8), scores 12 x (2 heads x 8 x 3).
    assert one - none == both - one == 384 + 576


@pytest.mark.parametrize(("layers", "untrained"), [("all", 0), ("1", 0), ("2", 1)])
def test_layers_below_the_lowest_prompt_keep_nothing(layers: str, untrained: int) -> None:
    spec = TrainingSpec.model_validate({"batch_size": 2, "prompt": {"virtual_tokens": 3, "layers": layers}})
    setting = Setting(3, 4, half_precision=True)
    load = load_of(METHODS["prompt"], spec, SHAPE, setting)
    assert load.untrained_layers == untrained
    assert load_of(METHODS["stacked"], spec, SHAPE, setting).untrained_layers == 0
    # A plain layer keeps 2560 as in the LoRA by hand, less its adapters; its matrices' copies are 2 x 512.
    every = predict(SHAPE, replace(load, untrained_layers=0))
    memory = predict(SHAPE, load)
    assert every.activations - memory.activations == untrained * 2560
    assert every.weights - memory.weights == untrained * 1024


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_parameters_are_those_that_ask_for_gradients(method: MethodName, tiny_bases: dict[str, Path]) -> None:
    from deploycost.encoder_shape import shape_of
    from deploycost.models.base import find_base
    from deploycost.models.classifier import build
    from deploycost.models.recipe import RankSchedule
    from deploycost.tuning.recipes import recipe_for

    base = find_base(str(tiny_bases["bert"]))
    shape = shape_of(base.place)
    spec = TrainingSpec.model_validate({"prompt": {"virtual_tokens": 4}, "lora": {"rank": 2}})
    ranks = RankSchedule(
        initial_rank=5, target_rank=2, total_steps=10, warm_up_steps=1, settling_steps=3, interval_steps=1
    )
    network = build(base, recipe_for(METHODS[method], base.name, ("a", "b", "c"), spec, ranks))
    load = load_of(METHODS[method], spec, shape, Setting(3, 16, half_precision=False), initial_rank=5)
    assert trainable_parameters(shape, load) == sum(p.numel() for p in network.parameters() if p.requires_grad)


LOADS = st.builds(
    TrainingLoad,
    labels=st.integers(2, 20),
    batch_size=st.integers(1, 64),
    tokens=st.integers(1, 128),
    half_precision=st.booleans(),
    device=st.sampled_from(["cpu", "cuda"]),
    gradient_checkpointing=st.booleans(),
    bits=st.sampled_from([None, 4, 8]),
    rank=st.integers(0, 64),
    allocated_ranks=st.booleans(),
    input_tokens=st.integers(0, 50),
    layer_tokens=st.integers(0, 50),
    prompted_layers=st.integers(0, 2),
    bottleneck_width=st.integers(0, 4),
    bottlenecks_per_layer=st.integers(0, 2),
)


@given(LOADS, st.sampled_from(["batch_size", "tokens", "rank", "input_tokens", "layer_tokens"]), st.integers(1, 20))
def test_more_of_anything_never_needs_less(load: TrainingLoad, what: str, more: int) -> None:
    larger = replace(load, **{what: getattr(load, what) + more})
    assert predict(SHAPE, larger).total >= predict(SHAPE, load).total


@given(LOADS)
def test_checkpointing_of_many_layers_never_keeps_more(load: TrainingLoad) -> None:
    # Where prompts are many times longer than the text, what is run anew may be more than what is kept.
    assume(load.tokens >= load.layer_tokens)
    deep = replace(SHAPE, layers=12)
    kept, checkpointed = (replace(load, gradient_checkpointing=on) for on in (False, True))
    assert predict(deep, checkpointed).activations <= predict(deep, kept).activations


def test_allocation_begins_half_as_large_again() -> None:
    assert [initial_rank_for(rank) for rank in (1, 2, 3, 8)] == [2, 3, 5, 12]
