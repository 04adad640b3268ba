"""What a variant computes on one request: its shape with what the method adds, its precision, its runtime."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from deploycost.errors import UserError
from deploycost.layer_choice import resolve_layers
from deploycost.projecting.hardware import Kind, Place
from deploycost.projecting.observations import Setting
from deploycost.projecting.runtimes import find_precision, find_runtime
from deploycost.projecting.shapes import Shape, find_shape
from deploycost.records import TuningRecord, Variant

# The runtimes behind the engines of bundles, as published measurements call them.
_RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
# What is taken to run on a GPU, whatever the artifact: the product makes no GPU bundle yet, and int8 activations that
# are quantised as they come have no fast path there.
GPU_RUNTIME, GPU_PRECISION = "ONNX Runtime", "fp16"
_LEAST_TOKENS = 2


def shape_of_variant(variant: Variant) -> Shape | None:
    """The shape with virtual tokens, keys and adapters; None where nothing says what the base model measures."""
    base = _base_shape(variant.tuning.base_model)
    return None if base is None else _with_method(base, variant.tuning)


@cache
def _base_shape(name: str) -> Shape | None:
    try:
        return find_shape(name)
    except UserError:
        return None


def _with_method(shape: Shape, tuning: TuningRecord) -> Shape:
    told = tuning.hyper_parameters
    shape = replace(shape, labels=len(tuning.label_names))
    count = told.get("virtual_tokens")
    if isinstance(count, int):
        layers = "all" if "reparametrised" in told else told.get("layers")
        if layers is None:
            return replace(shape, virtual_tokens=count)
        return replace(shape, virtual_keys=count, keyed_layers=len(resolve_layers(str(layers), shape.layers)))
    factor = told.get("reduction_factor")
    if isinstance(factor, int):
        adapters = 2 if told.get("placement") == "houlsby" else 1
        return replace(shape, adapters=adapters, adapter_width=shape.hidden // factor)
    return shape


def setting_on(variant: Variant, shape: Shape, place: Place, batch: int = 1) -> Setting | None:
    """The variant's mean request on a place; None where its runtime or precision is of no known class."""
    label, precision = runs_as(variant, place.device.kind)
    runtime, found = find_runtime(label), find_precision(precision, place.device.kind)
    if runtime is None or found is None:
        return None
    tokens = max(_LEAST_TOKENS, round(variant.export.mean_tokens))
    return Setting(shape, place, runtime, label, found, batch, tokens, place.device.name)


def runs_as(variant: Variant, kind: Kind) -> tuple[str, str]:
    """The runtime and the precision that the variant is taken to run in on such a chip."""
    if kind != "cpu":
        return GPU_RUNTIME, GPU_PRECISION
    engine = variant.export.engine
    return _RUNTIMES.get(engine, engine), variant.export.precision
