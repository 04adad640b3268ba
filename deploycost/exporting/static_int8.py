"""An ONNX graph in int8 whose activations are scaled beforehand, by what calibration texts showed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from deploycost.exporting.calibration import CalibrationSet, Feed
from deploycost.exporting.graph import quiet


class _Reader(CalibrationDataReader):
    """Feeds, in the way that the quantiser asks for them."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:  # pyright: ignore[reportIncompatibleMethodOverride] - None ends it
        """The next text, or None."""
        return next(self._feeds, None)


def write_static_int8(source: Path, target: Path, calibration: CalibrationSet) -> None:
    """Writes a graph whose matrices are multiplied in int8: weights scaled per output channel, activations per tensor.

    Products of activations with one another stay in fp32, as in the dynamic form.
    """
    model = onnx.load(str(source))
    del model.graph.value_info[:]  # see `graph.write_int8`
    with quiet():
        quantize_static(
            model,
            str(target),
            _Reader(calibration.feeds()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True, "DedicatedQDQPair": False},
        )
