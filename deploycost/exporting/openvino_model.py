"""A graph for OpenVINO: its own two files, in full precision or with 8-bit parts.

It is read once and compiled for several lengths. What the CPU plugin would have to make anew for each, an order of
weights or a table in full precision, each length would hold for itself; so the files have both as they are used.
"""

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
_MATRIX_RANK = 2
# Below so many columns a table's scales would weigh as much as what its numbers are cut by.
_LEAST_WIDTH = 8
# Of the integers, on both sides of nought.
_LARGEST = 127


def write_openvino(source: Path, target: Path) -> None:
    """Writes an fp32 ONNX graph as `target` (.xml) and the weights beside it (.bin)."""
    openvino = import_openvino()
    openvino.save_model(_with_outputs_first(openvino, source), target, compress_to_fp16=False)


def write_openvino_int8(
    source: Path,
    target: Path,
    calibration: CalibrationSet,
    validation: CalibrationSet | None = None,
    max_accuracy_drop: float = 0.01,
) -> None:
    """Writes an fp32 ONNX graph with its multiplications in 8 bits, scaled by what NNCF sees on calibration texts.

    Embeddings are kept in 8 bits with a scale for each row.

    With `validation` texts NNCF gives operators back to fp32, the most harmful first, until accuracy on those texts is
    within `max_accuracy_drop`.
    """
    openvino = import_openvino()
    with kept_silent():
        import nncf
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model, watched = _with_outputs_first(openvino, source), nncf.Dataset(list(calibration.feeds()))
    asked = {
        "subset_size": len(calibration.texts),
        "model_type": nncf.ModelType.TRANSFORMER,
        # Tables of embeddings are looked up, not multiplied: NNCF's form of them would be unpacked for each length.
        "ignored_scope": nncf.IgnoredScope(types=["Gather"], validate=False),
    }
    with quiet():
        if validation is None:
            # Symmetric scales: without zero points the products are the plugin's fastest. What is given back to fp32
            # one by one is coarser for them, so that the accuracy-aware mode has the usual ones.
            quantised = nncf.quantize(model, watched, preset=nncf.QuantizationPreset.PERFORMANCE, **asked)
        else:
            rows = list(zip(validation.feeds(), validation.texts.labels, strict=True))
            quantised = nncf.quantize_with_accuracy_control(
                model,
                calibration_dataset=watched,
                validation_dataset=nncf.Dataset(rows, lambda row: row[0]),
                validation_fn=_accuracy,
                max_drop=max_accuracy_drop,
                drop_type=nncf.DropType.ABSOLUTE,
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    ranking_subset_size=_RANKED_BY
                ),
                **asked,
            )
    _coarsen_tables(openvino, quantised)
    openvino.save_model(quantised, target, compress_to_fp16=False)


def _with_outputs_first(openvino: Any, source: Path) -> Any:  # noqa: ANN401 - openvino's own
    """The graph with each matrix of weights as [outputs, inputs], the order that the plugin packs from."""
    ops, model = openvino.opset13, openvino.Core().read_model(source)
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul" or product.get_attributes()["transpose_b"]:
            continue
        weights = product.input_value(1).get_node()
        if weights.get_type_name() != "Constant" or len(weights.shape) != _MATRIX_RANK:
            continue
        turned = ops.constant(np.ascontiguousarray(weights.data.T))
        turned.set_friendly_name(weights.get_friendly_name())
        wants_rows = product.get_attributes()["transpose_a"]
        _put_in_place(product, ops.matmul(product.input_value(0), turned, wants_rows, True))
    return model


def _coarsen_tables(openvino: Any, model: Any) -> None:  # noqa: ANN401 - openvino's own
    """Keeps every fp32 table that rows are looked up in as 8-bit integers and a scale for each row."""
    ops = openvino.opset13
    for lookup in model.get_ordered_ops():
        table = lookup.input_value(0).get_node() if lookup.get_type_name() == "Gather" else None
        if table is None or table.get_type_name() != "Constant" or table.get_element_type() != openvino.Type.f32:
            continue
        if len(table.shape) != _MATRIX_RANK or table.shape[1] < _LEAST_WIDTH or not _takes_rows(lookup):
            continue
        scales = np.abs(table.data).max(axis=1, keepdims=True) / _LARGEST
        scales[scales == 0] = 1
        coarse = np.rint(table.data / scales).astype(np.int8)
        at, axis = lookup.input_value(1), ops.constant(np.int64(0))
        rows = ops.convert(ops.gather(ops.constant(coarse), at, axis), "f32")
        _put_in_place(lookup, ops.multiply(rows, ops.gather(ops.constant(scales.astype(np.float32)), at, axis)))


def _takes_rows(lookup: Any) -> bool:  # noqa: ANN401 - openvino's own
    axis = lookup.input_value(2).get_node()
    return axis.get_type_name() == "Constant" and int(axis.data) == 0 and not lookup.get_attributes().get("batch_dims")


def _put_in_place(old: Any, new: Any) -> None:  # noqa: ANN401 - openvino's own
    new.set_friendly_name(old.get_friendly_name())
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


def _accuracy(compiled: Any, rows: Iterable[Any]) -> tuple[float, list[float]]:  # noqa: ANN401 - openvino's own
    """The share of validation rows that a compiled model gets right, and 1 or 0 for each."""
    right = [float(np.argmax(compiled(feed)[OUTPUT_NAME]) == label) for feed, label in rows]
    return sum(right) / len(right), right
