"""What a variant computes on one request: its shape with what the method adds, its precision, its runtime."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from deploycost.errors import UserError
from deploycost.layer_choice import resolve_layers
from deploycost.projecting.hardware import Kind, Place
from deploycost.projecting.observations import OWN_SOURCE, Setting
from deploycost.projecting.runtimes import find_precision, find_runtime
from deploycost.projecting.shapes import Shape, find_shape
from deploycost.records import ModelRecord, TuningRecord, Variant

# The runtimes behind the engines of bundles, as published measurements call them.
_RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
# What is taken to run where the product makes no bundle yet, whatever the artifact: int8 activations that are quantised
# as they come have no fast path there.
_ELSEWHERE: dict[Kind, tuple[str, str]] = {"gpu": ("ONNX Runtime", "fp16"), "accelerator": ("torch-neuronx", "bf16")}
_LEAST_TOKENS = 2


class Request(NamedTuple):
    """The mean request of a variant: its shape, and the runtime and precision of its artifact."""

    shape: Shape
    runtime: str
    precision: str
    tokens: int

    def of_length(self, mean_tokens: float) -> Request:
        """The same with texts of so many tokens, to a whole one."""
        return self._replace(tokens=max(_LEAST_TOKENS, round(mean_tokens)))

    def runs_as(self, kind: Kind) -> tuple[str, str]:
        """The runtime and the precision that it is taken to run in on such a chip."""
        return _ELSEWHERE.get(kind, (self.runtime, self.precision))

    def on(self, place: Place, batch: int = 1) -> Setting | None:
        """So many of it at once on a place; None where its runtime or precision is of no known class."""
        label, named = self.runs_as(place.device.kind)
        runtime, precision = find_runtime(label), find_precision(named, place.device.kind)
        if runtime is None or precision is None:
            return None
        name = place.device.name
        return Setting(self.shape, place, runtime, label, precision, batch, self.tokens, name, OWN_SOURCE)


def request_of(variant: Variant) -> Request | None:
    """The mean request of a variant, with virtual tokens, keys and adapters; None where its base model's shape is not
    known."""
    base = _base_shape(variant.tuning.base_model)
    if base is None:
        return None
    export = variant.export
    runtime = _RUNTIMES.get(export.engine, export.engine)
    request = Request(_with_method(base, variant.tuning), runtime, export.precision, _LEAST_TOKENS)
    return request.of_length(export.mean_tokens)


@cache
def _base_shape(name: str) -> Shape | None:
    try:
        return find_shape(name)
    except UserError:
        return None


def _with_method(shape: Shape, tuning: ModelRecord) -> Shape:
    shape = replace(shape, labels=len(tuning.label_names))
    if not isinstance(tuning, TuningRecord):
        return shape  # as it was brought
    told = tuning.hyper_parameters
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
