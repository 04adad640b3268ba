"""Matrices that are kept in 4 or 8 bits, multiplied by bitsandbytes."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from serving.torch_graph import INT8_SCALES, NF4_STATE

if TYPE_CHECKING:
    from torch import Tensor

# What its fast kernel asks of a matrix: rows in groups of 32, and blocks of weights that end where rows do.
_ROWS_TOGETHER = 32
_KERNELS = "kernels"


def import_bitsandbytes() -> Any:  # noqa: ANN401 - the module itself
    """The library; `ImportError` where it is not installed."""
    # On import it fetches compiled code from a model hub where the package `kernels` can be imported, and warns where
    # it cannot. A server runs no code but what was installed.
    blocked = _KERNELS not in sys.modules
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    if blocked:
        sys.modules[_KERNELS] = None  # pyright: ignore[reportArgumentType] - Python's own way to say "not there"
    try:
        import bitsandbytes
    finally:
        logger.setLevel(level)
        if blocked:
            del sys.modules[_KERNELS]
    return bitsandbytes


def quantised_linear(name: str, weights: "Mapping[str, Tensor]", bias: "Tensor | None") -> "Callable[[Tensor], Tensor]":
    """What multiplies by the matrix that goes by `name` and adds `bias`.

    Raises `ImportError` without bitsandbytes, `KeyError`, `ValueError` or `RuntimeError` where a part of the matrix is
    missing or does not fit the others.
    """
    import_bitsandbytes()
    return _in_4_bits(name, weights, bias) if name + NF4_STATE in weights else _In8Bits(name, weights, bias)


def _in_4_bits(name: str, weights: "Mapping[str, Tensor]", bias: "Tensor | None") -> "Callable[[Tensor], Tensor]":
    """nf4 (Dettmers et al., 2023), multiplied in bf16 where its kernel can, in fp32 after unpacking where not."""
    import torch
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    parts = {part: tensor for part, tensor in weights.items() if part.startswith(name + ".")}
    layer = Linear4bit(1, 1, bias=False, quant_type="nf4")
    weight = Params4bit.from_prequantized(data=weights[name], quantized_stats=parts, device="cpu", module=layer)
    state: Any = weight.quant_state
    rows, columns = state.shape
    layer.weight, layer.in_features, layer.out_features = weight, columns, rows
    fits = rows % _ROWS_TOGETHER == 0 and columns % state.blocksize == 0
    layer.support_avx512bf16_for_cpu = layer.support_avx512bf16_for_cpu and fits
    layer.compute_dtype = torch.bfloat16 if layer.support_avx512bf16_for_cpu else torch.float32
    layer.compute_type_is_set = True
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return layer.eval().requires_grad_(False)


class _In8Bits:
    """LLM.int8() (Dettmers et al., 2022): a scale per row of the matrix and per token, whole numbers between.

    By the library's operators: its layer would first round activations to half precision, whose largest number is
    65504. No column is set apart for outliers, as encoders of this size have none that would matter.
    """

    def __init__(self, name: str, weights: "Mapping[str, Tensor]", bias: "Tensor | None") -> None:
        import torch

        self._matrix, self._scales, self._bias = weights[name], weights[name + INT8_SCALES], bias
        self._operators = torch.ops.bitsandbytes
        rows = self._matrix.shape[0]
        if self._matrix.ndim != 2 or self._scales.shape != (rows,):
            raise ValueError(f"{name} has {rows} rows and scales of shape {tuple(self._scales.shape)}")

    def __call__(self, given: "Tensor") -> "Tensor":
        flat = given.reshape(-1, given.shape[-1])
        rounded, row_scales, _ = self._operators.int8_vectorwise_quant(flat)
        product = self._operators.int8_scaled_mm(
            rounded, self._matrix, row_scales, self._scales, bias=self._bias, dtype=given.dtype
        )
        return product.reshape(*given.shape[:-1], -1)
