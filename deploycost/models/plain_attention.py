"""Attention as a graph should have it: two products, a sum and a softmax, with one mask for all layers.

Traced as it is trained, attention becomes twice as many operators: masks of every pair of tokens are gathered one by
one, and each softmax is searched for rows without a single token, which texts never have. Engines recognise and fuse
the plain form only.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

NAME = "plain"
# Far below any score, and still a number in half precision.
_NEVER = -1e4


def with_plain_attention(network: nn.Module) -> nn.Module:
    """A copy of a network whose encoders attend by `attend`; its answers stay the same up to rounding."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask_of_keys)
    plain = deepcopy(network)
    for module in plain.modules():
        if isinstance(module, PreTrainedModel) and _attends_by_interface(module):
            module.set_attn_implementation(NAME)
    return plain


def mask_of_keys(
    *,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    **_: Any,  # noqa: ANN401 - whatever else transformers hands on
) -> Tensor | None:
    """What is added to the scores: float [batch, 1, 1, tokens], 0 where a token is seen; None: all are."""
    if attention_mask is None:
        return None
    return ((1.0 - attention_mask.to(dtype)) * _NEVER)[:, None, None, :]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prompt_keys: Tensor | None = None,
    prompt_values: Tensor | None = None,
    **_: Any,  # noqa: ANN401 - whatever else transformers hands on, dropout among it
) -> tuple[Tensor, None]:
    """See `prompted_attention.attend`, whose arguments these are; `attention_mask` is that of `mask_of_keys`."""
    if prompt_keys is not None and prompt_values is not None:
        key, value = _before(prompt_keys, key), _before(prompt_values, value)
        if attention_mask is not None:
            attention_mask = nn.functional.pad(attention_mask, (prompt_keys.shape[1], 0))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(-1, -2))
    if attention_mask is not None:
        scores = scores + attention_mask
    return torch.matmul(scores.softmax(dim=-1), value).transpose(1, 2), None


def _attends_by_interface(model: PreTrainedModel) -> bool:
    """Whether the model finds its attention where others may be registered."""
    return model.config._attn_implementation is not None and getattr(model, "_supports_sdpa", False)


def _before(prompt: Tensor, own: Tensor) -> Tensor:
    return torch.cat([prompt.to(own.dtype).unsqueeze(0).expand(own.shape[0], -1, -1, -1), own], dim=2)
