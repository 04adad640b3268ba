"""Runtimes by class: what people call theirs, and which of them behave alike."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from deploycost.projecting.hardware import Kind, Precision

# How much of a model a runtime fuses: that decides what a layer costs beyond its arithmetic.
Group = Literal["fused", "graph", "eager"]


class Runtime(NamedTuple):
    """A class of runtimes. `streams`: throughput of many requests at once, not the time of one."""

    name: str
    group: Group
    streams: bool = False


# The first pattern found in the lower-case name decides.
_PATTERNS: tuple[tuple[str, Runtime], ...] = (
    ("demobert", Runtime("tensorrt-plugins", "fused")),
    ("faster ?transformer.*tf", Runtime("fastertransformer-tf", "fused")),
    ("faster ?transformer", Runtime("fastertransformer-torch", "fused")),
    ("(onnx|ort).*tensorrt", Runtime("onnxruntime-tensorrt", "fused")),
    ("tensorrt|trt", Runtime("tensorrt", "fused")),
    ("onnx.*(optimi[sz]ed|fused|fp16)", Runtime("onnxruntime-fused", "graph")),
    ("onnx|\\bort\\b", Runtime("onnxruntime", "graph")),
    ("neuronx", Runtime("neuronx", "fused")),
    ("neuron", Runtime("neuron", "fused")),
    ("openvino.*gpu", Runtime("openvino-gpu", "graph")),
    ("openvino.*throughput", Runtime("openvino", "graph", streams=True)),
    ("openvino", Runtime("openvino", "graph")),
    ("xla", Runtime("tensorflow-xla", "graph")),
    ("tensorflow|\\btf\\b", Runtime("tensorflow", "graph")),
    ("torchscript|torch.*compile|inductor|\\bipex\\b|intel extension", Runtime("torchscript", "graph")),
    ("text.?embeddings.?inference|\\btei\\b|ctranslate|deepspeed|lightseq", Runtime("inference-server", "fused")),
    ("tflite|lite ?rt|core ?ml|ncnn|candle", Runtime("on-device", "graph")),
    ("\\bjax\\b|flax|mxnet|paddle|tvm", Runtime("other-graph", "graph")),
    ("torch|transformers|hugging ?face", Runtime("torch", "eager")),
)
_PRECISIONS: tuple[tuple[str, Precision], ...] = (
    ("bf16|fp16|half|float16|f16|mixed|amp", "fp16"), ("int8|w8a8|u8|^8bit", "int8"), ("tf32", "tf32"),
    ("fp32|float32|f32|full|single", "fp32"),
)  # fmt: skip


@lru_cache(maxsize=1024)
def find_runtime(name: str) -> Runtime | None:
    """The class of a runtime by its name, or None where it is like none that is known."""
    lowered = name.casefold().replace("_", " ")
    return next((runtime for pattern, runtime in _PATTERNS if re.search(pattern, lowered)), None)


@lru_cache(maxsize=1024)
def find_precision(name: str, kind: Kind) -> Precision | None:
    """The precision that matrix products run at, by its name; bf16 runs at the rate of fp16 wherever there is one.

    `fp32 model, bf16 matmul` runs at bf16. Newer GPUs run fp32 as it says unless it says tf32.
    """
    squeezed = re.sub(r"[\s_-]", "", name.casefold())
    found: Precision | None = next(
        (precision for pattern, precision in _PRECISIONS if re.search(pattern, squeezed)), None
    )
    return "fp32" if found == "tf32" and kind == "cpu" else found
