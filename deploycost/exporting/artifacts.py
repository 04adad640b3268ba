"""The artifacts, side by side: what serves each, and how far it may stray from the model it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploycost.experiment import ArtifactName


@dataclass(frozen=True)
class Artifact:
    """One way to keep a trained model for serving.

    The limits refuse what is broken, not what is merely coarse: an fp32 graph must give the trained model's logits;
    an int8 one may move them, but must go on naming the same labels for nearly all texts.
    """

    engine: Literal["onnxruntime"]
    precision: Literal["fp32", "int8"]
    relative_error_limit: float
    agreement_limit: float


ARTIFACTS: dict[ArtifactName, Artifact] = {
    "onnx-fp32": Artifact("onnxruntime", "fp32", relative_error_limit=0.02, agreement_limit=0.99),
    "onnx-int8": Artifact("onnxruntime", "int8", relative_error_limit=0.35, agreement_limit=0.93),
}
