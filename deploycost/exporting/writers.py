"""Who writes which artifact: one visible table, from a trained model to the files of a bundle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from deploycost.errors import NoAnswer
from deploycost.experiment import ArtifactName, ExportSpec
from deploycost.exporting.calibration import CalibrationSet
from deploycost.exporting.graph import write_fp16, write_int8
from deploycost.exporting.openvino_model import write_openvino, write_openvino_int8
from deploycost.exporting.static_int8 import write_static_int8
from deploycost.exporting.torch_graph import TorchPrecision, write_torch
from serving.torch_graph import GRAPH_FILE

ONNX_FILE, OPENVINO_FILE = "model.onnx", "model.xml"


@dataclass(frozen=True)
class Source:
    """What artifacts are written from: the fp32 graph; the network, where there is one; texts to calibrate on."""

    graph_path: Path
    network: nn.Module | None
    max_tokens: int
    calibration: CalibrationSet | None
    validation: CalibrationSet | None
    spec: ExportSpec
    max_accuracy_drop: float


Writer = Callable[[Source, Path], None]


def _torch(precision: TorchPrecision) -> Writer:
    def write(source: Source, path: Path) -> None:
        """Writes the network; `NoAnswer` where there is only a graph."""
        if source.network is None:
            raise NoAnswer(
                f"torch-{precision} is written from the network itself, and this model was brought as a graph; "
                "choose onnx or openvino artifacts for it"
            )
        write_torch(source.network, source.max_tokens, precision, path)

    return write


def _copy(source: Source, path: Path) -> None:
    try:
        os.link(source.graph_path, path)
    except OSError:
        shutil.copyfile(source.graph_path, path)


def _openvino_int8(source: Source, path: Path) -> None:
    validation = source.validation if source.spec.accuracy_aware else None
    if source.spec.accuracy_aware and validation is None:
        raise NoAnswer("--accuracy-aware judges by training texts with one label each, and this model came without")
    calibration = _calibration(source, "openvino-int8")
    write_openvino_int8(source.graph_path, path, calibration, validation, source.max_accuracy_drop)


def _calibration(source: Source, name: str) -> CalibrationSet:
    if source.calibration is None:
        raise NoAnswer(f"{name} is calibrated on training texts, and none came with this model; leave it out")
    return source.calibration


WRITERS: Final[Mapping[ArtifactName, tuple[str, Writer]]] = {
    "torch-fp32": (GRAPH_FILE, _torch("fp32")),
    "torch-bf16": (GRAPH_FILE, _torch("bf16")),
    "torch-nf4": (GRAPH_FILE, _torch("nf4")),
    "torch-int8": (GRAPH_FILE, _torch("int8")),
    "onnx-fp32": (ONNX_FILE, _copy),
    "onnx-fp16": (ONNX_FILE, lambda source, path: write_fp16(source.graph_path, path)),
    "onnx-int8": (ONNX_FILE, lambda source, path: write_int8(source.graph_path, path)),
    "onnx-int8-static": (
        ONNX_FILE,
        lambda source, path: write_static_int8(source.graph_path, path, _calibration(source, "onnx-int8-static")),
    ),
    "openvino-fp32": (OPENVINO_FILE, lambda source, path: write_openvino(source.graph_path, path)),
    "openvino-bf16": (OPENVINO_FILE, lambda source, path: write_openvino(source.graph_path, path)),
    "openvino-int8": (OPENVINO_FILE, _openvino_int8),
}
