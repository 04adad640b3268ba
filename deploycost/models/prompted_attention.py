"""Attention that also sees trained keys and values, through the attention functions that transformers registers.

A layer's attention is given them as two more arguments (see `deep_prompts`); a layer that is given none answers as
with SDPA alone. No token is added: queries, and so all the work outside attention, stay as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "sdpa_with_prompts"


def use_prompted_attention(model: PreTrainedModel) -> None:
    """Makes a model's layers attend by `attend`; without keys and values to add, its answers stay the same."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    prompt_keys: Tensor | None = None,
    prompt_values: Tensor | None = None,
    **others: Any,  # noqa: ANN401 - whatever else transformers hands on
) -> tuple[Tensor, None]:
    """Scaled dot-product attention over the prompt's keys and values and then the text's.

    Args:
        module: The attention layer.
        query: float [batch, heads, tokens, width per head]; `key` and `value` alike.
        key: See `query`.
        value: See `query`.
        attention_mask: bool [batch, 1, tokens, tokens], True where a key is seen; None: all are.
        prompt_keys: float [heads, count, width per head], seen by every token; `prompt_values` alike.
        prompt_values: See `prompt_keys`.
        others: Dropout, scaling, and what else transformers passes.

    Returns:
        float [batch, tokens, heads, width per head], and None for the weights.
    """
    if prompt_keys is not None and prompt_values is not None:
        key = _before(prompt_keys, key)
        value = _before(prompt_values, value)
        if attention_mask is not None:
            seen = attention_mask.new_ones(()).expand(*attention_mask.shape[:-1], prompt_keys.shape[1])
            attention_mask = torch.cat([seen, attention_mask], dim=-1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


def _before(prompt: Tensor, own: Tensor) -> Tensor:
    return torch.cat([prompt.to(own.dtype).unsqueeze(0).expand(own.shape[0], -1, -1, -1), own], dim=2)
