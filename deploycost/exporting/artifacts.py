"""The artifacts, side by side: what serves each, what it takes, and how far it may stray from its model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploycost.environment import has_fast_bf16, machine_facts
from deploycost.errors import UserError
from deploycost.experiment import ARTIFACT_NAMES, FAST_ARTIFACTS, ArtifactName
from serving.bundle import EngineName, Precision

# How to get a package that an artifact is built or served with.
_INSTALLED_BY = {
    "openvino": "pip install 'deploycost[openvino]'",
    "nncf": "pip install 'deploycost[openvino]'",
    "bitsandbytes": "pip install bitsandbytes",
    "torch": "pip install torch",
}


@dataclass(frozen=True)
class Artifact:
    """One way to keep a trained model for serving.

    The limits refuse what is broken, not what is merely coarse: an fp32 artifact must give the trained model's logits;
    a coarser one may move them, but must go on naming the same labels for nearly all texts.

    `packages` are what it takes to build and to serve it, `needs` what machine. An artifact `from_network` is written
    from the network itself, which a model brought as a graph has not; a `calibrated` one sees training texts.
    """

    engine: EngineName
    precision: Precision
    summary: str
    relative_error_limit: float
    agreement_limit: float
    packages: tuple[str, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    needs: str = ""
    from_network: bool = False
    calibrated: bool = False


# Relative error, and share of equal labels, within which an artifact is not broken.
_EXACT = (0.02, 0.99)
_HALF = (0.1, 0.97)
_COARSE = (0.35, 0.93)
_COARSEST = (0.5, 0.90)
_TORCH, _BITS, _OPENVINO = ("torch",), ("torch", "bitsandbytes"), ("openvino",)

ARTIFACTS: dict[ArtifactName, Artifact] = {
    "torch-fp32": Artifact(
        "torch", "fp32", "the baseline: as one would deploy it first", *_EXACT, packages=_TORCH, from_network=True
    ),
    "torch-bf16": Artifact(
        "torch", "bf16", "bf16 throughout, half the size", *_HALF, packages=_TORCH,
        needs="fast on CPUs with bf16 instructions only", from_network=True,
    ),
    "torch-nf4": Artifact(
        "torch", "nf4", "matrices in 4 bits by bitsandbytes", *_COARSEST, packages=_BITS, from_network=True
    ),
    "torch-int8": Artifact(
        "torch", "int8", "LLM.int8() by bitsandbytes", *_COARSE, packages=_BITS, from_network=True
    ),
    "onnx-fp32": Artifact("onnxruntime", "fp32", "the same numbers by onnxruntime", *_EXACT),
    "onnx-fp16": Artifact(
        "onnxruntime", "fp16", "half precision on a GPU", *_HALF, packages=("onnxruntime-gpu",), device="cuda",
        needs="an NVIDIA GPU",
    ),
    "onnx-int8": Artifact("onnxruntime", "int8", "activations scaled as they come (dynamic)", *_COARSE),
    "onnx-int8-static": Artifact(
        "onnxruntime", "int8", "activations scaled by training texts (QDQ)", *_COARSE, calibrated=True
    ),
    "openvino-fp32": Artifact("openvino", "fp32", "the same numbers by OpenVINO", *_EXACT, packages=_OPENVINO),
    "openvino-bf16": Artifact(
        "openvino", "bf16", "the file of openvino-fp32, run in bf16", *_HALF, packages=_OPENVINO,
        needs="a CPU with bf16 instructions",
    ),
    "openvino-int8": Artifact(
        "openvino", "int8", "calibrated on training texts (NNCF)", *_COARSE,
        packages=("openvino", "nncf"), calibrated=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """Whether this machine can build and serve an artifact: `missing` says in one line what it lacks, or is empty."""

    name: ArtifactName
    missing: str

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def standing(name: ArtifactName) -> Standing:
    """What this machine lacks for an artifact; nothing is imported to find out."""
    artifact = ARTIFACTS[name]
    absent = [package for package in artifact.packages if not _is_installed(package)]
    if artifact.device == "cuda" and machine_facts().gpu_model is None:
        return Standing(name, f"this machine has not got {artifact.needs}")
    if absent == ["onnxruntime-gpu"]:
        return Standing(name, "this onnxruntime runs on CPUs only; pip install onnxruntime-gpu in its place")
    if absent:
        ways = dict.fromkeys(_INSTALLED_BY[package] for package in absent)
        return Standing(name, f"not installed: {', '.join(absent)}; {' and '.join(ways)}")
    if name == "openvino-bf16" and not has_fast_bf16():
        return Standing(name, f"this machine has not got {artifact.needs}")
    return Standing(name, "")


def buildable(names: Sequence[ArtifactName]) -> tuple[tuple[ArtifactName, ...], tuple[str, ...]]:
    """Those of `names` that this machine can build, and a line for each that was left out.

    Only a whole list, `all` or `fast`, leaves any out: one that is asked for by name is wanted.

    Raises:
        UserError: one asked for by name cannot be built here; says what is missing, of all of them in one line.
    """
    standings = [standing(name) for name in names]
    lacking = [f"{each.name}: {each.missing}" for each in standings if not each.ok]
    if lacking and set(names) not in (set(ARTIFACT_NAMES), set(FAST_ARTIFACTS)):
        raise UserError(f"cannot build {'; '.join(lacking)}; or leave it out of --artifacts")
    return tuple(each.name for each in standings if each.ok), tuple(f"left out {line}" for line in lacking)


def _is_installed(package: str) -> bool:
    if package == "onnxruntime-gpu":
        # It brings a module of the same name as the one for CPUs, and this library beside it.
        found = importlib.util.find_spec("onnxruntime")
        places = (found.submodule_search_locations or []) if found is not None else []
        return any(list(Path(place).glob("capi/*onnxruntime_providers_cuda*")) for place in places)
    return importlib.util.find_spec(package) is not None
