"""A graph for OpenVINO: its own two files, in full precision or with 8-bit parts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deploycost.exporting.calibration import CalibrationSet
from deploycost.exporting.graph import quiet
from serving.openvino_engine import import_openvino, kept_silent
from serving.signature import OUTPUT_NAME

# Texts by which NNCF decides which operator harms most, of the validation texts.
_RANKED_BY = 100


def write_openvino(source: Path, target: Path) -> None:
    """Writes an fp32 ONNX graph as `target` (.xml) and the weights beside it (.bin)."""
    openvino = import_openvino()
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)


def write_openvino_int8(
    source: Path,
    target: Path,
    calibration: CalibrationSet,
    validation: CalibrationSet | None = None,
    max_accuracy_drop: float = 0.01,
) -> None:
    """Writes an fp32 ONNX graph with its multiplications in 8 bits, scaled by what NNCF sees on calibration texts.

    With `validation` texts NNCF gives operators back to fp32, the most harmful first, until accuracy on those texts is
    within `max_accuracy_drop`.
    """
    openvino = import_openvino()
    with kept_silent():
        import nncf
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model, watched = openvino.Core().read_model(source), nncf.Dataset(list(calibration.feeds()))
    size = len(calibration.texts)
    kind = nncf.ModelType.TRANSFORMER
    with quiet():
        if validation is None:
            quantised = nncf.quantize(model, watched, model_type=kind, subset_size=size)
        else:
            rows = list(zip(validation.feeds(), validation.texts.labels, strict=True))
            quantised = nncf.quantize_with_accuracy_control(
                model,
                calibration_dataset=watched,
                validation_dataset=nncf.Dataset(rows, lambda row: row[0]),
                validation_fn=_accuracy,
                max_drop=max_accuracy_drop,
                drop_type=nncf.DropType.ABSOLUTE,
                subset_size=size,
                model_type=kind,
                # Tables of embeddings are looked up, not multiplied; with them to rank, NNCF 3.4 was seen to fail.
                ignored_scope=nncf.IgnoredScope(types=["Gather"], validate=False),
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    ranking_subset_size=_RANKED_BY
                ),
            )
    openvino.save_model(quantised, target, compress_to_fp16=False)


def _accuracy(compiled: Any, rows: Iterable[Any]) -> tuple[float, list[float]]:  # noqa: ANN401 - openvino's own
    """The share of validation rows that a compiled model gets right, and 1 or 0 for each."""
    right = [float(np.argmax(compiled(feed)[OUTPUT_NAME]) == label) for feed, label in rows]
    return sum(right) / len(right), right
