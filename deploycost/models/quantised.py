"""Quantised layers: weights in 4 or 8 bits that stay as they were rounded, arithmetic in the precision asked for.

So a layer answers alike in training, in judging and once dequantised, but for the precision of the arithmetic.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from torch import Tensor, nn

# A row's scale is what its largest weight, 127, stands for.
_LARGEST = 127.0


def hold_weights(model: nn.Module) -> None:
    """Keeps bitsandbytes from computing otherwise in answering than in training.

    On CPUs with bf16 instructions it repacks 4-bit weights in place at the first answer out of training, scales
    rounded to bf16; neither gradients nor widths that are no multiple of 64 pass through its kernel from then on.
    8-bit layers it multiplies by activations rounded to 8 bits too, on a CPU in answering only, which no graph
    made of the dequantised weights could match.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, Linear8bitLt):
            # A method bound to the layer is copied along with it.
            module.forward = MethodType(_multiply, module)


class _ByInt8(torch.autograd.Function):
    """x W^T for rows of W kept as int8 and a scale each. Only the int8 weights are held for the way back."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, rows: Tensor, scales: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        ctx.save_for_backward(rows, scales)
        if given.dtype is torch.float16:
            # Sums of products with whole numbers of up to 127 would soon pass its largest number, 65504.
            return torch.matmul(given, (rows * scales.unsqueeze(1)).to(given.dtype).t())
        return torch.matmul(given, rows.to(given.dtype).t()) * scales.to(given.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - torch's
        rows, scales = ctx.saved_tensors
        gradient = gradients[0]
        return torch.matmul(gradient * scales.to(gradient.dtype), rows.to(gradient.dtype)), None, None


def _multiply(layer: Any, given: Tensor) -> Tensor:  # noqa: ANN401 - bitsandbytes' layers declare no types
    if layer.weight.CB is not None:
        layer.init_8bit_state()
    device = given.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else given.dtype
    with torch.autocast(device, enabled=False):
        product = _ByInt8.apply(given.to(dtype), layer.state.CB, layer.state.SCB / _LARGEST)
        return product if layer.bias is None else product + layer.bias.to(dtype)
