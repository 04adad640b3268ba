"""The words that an experiment is asked in: methods, artifacts, goals, trackers, and what is usual of them."""

from __future__ import annotations

from typing import Literal, get_args

MethodName = Literal["full", "lora", "qlora", "prompt", "prefix", "adapter", "dynamic", "stacked"]
ArtifactName = Literal[
    "torch-fp32", "torch-bf16", "torch-nf4", "torch-int8",
    "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int8-static",
    "openvino-fp32", "openvino-bf16", "openvino-int8",
]  # fmt: skip
PrecisionGoal = Literal["quick", "normal", "tight"]
TrackerName = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
# What runs wherever this product does; and what is built in seconds and costs least to serve.
USUAL_ARTIFACTS: tuple[ArtifactName, ...] = ("onnx-fp32", "onnx-int8")
FAST_ARTIFACTS: tuple[ArtifactName, ...] = ("onnx-int8", "openvino-bf16", "openvino-int8")
# The literature's four configurations, and plain LoRA beside its quantised form.
USUAL_METHODS: tuple[MethodName, ...] = ("full", "lora", "qlora", "prompt", "stacked")

LITERATURE_MODEL = "distilbert-base-uncased"
LITERATURE_DATASET = "ag_news"
EMBEDDED_MODEL = "minilm"
EMBEDDED_DATASET = "demo"
