"""Of the last layer, only what is read: the head looks at the first token, so no other needs an answer there.

Keys and values of all tokens are still made; queries, the mix of values and the feed-forward block are of one token.
The answers are the same up to rounding. Of an encoder of 6 layers it saves a seventh of the products.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    RobertaForSequenceClassification,
)

from deploycost.models.plain_attention import attend, with_plain_attention

# Those whose heads read the first token and nothing else.
_READERS = (BertForSequenceClassification, DistilBertForSequenceClassification, RobertaForSequenceClassification)


def as_served(network: nn.Module) -> nn.Module:
    """A copy of a network in the form that its graph should have: plain attention, nothing computed that is not read.

    A network of another architecture only gets the plain attention, where it can.
    """
    plain = with_plain_attention(network)
    for module in plain.modules():
        if isinstance(module, _READERS) and not getattr(module.config, "is_decoder", False):
            _answer_first_token(module)
    return plain


def _answer_first_token(model: Any) -> None:  # noqa: ANN401 - one of the readers
    """Has the last layer of a model that attends plainly answer for the first token alone."""
    # Hooks of what methods add are called around these, as before.
    if model.config.model_type == "distilbert":
        layer = model.base_model.transformer.layer[-1]
        layer.attention.forward = MethodType(_distilbert_attention, layer.attention)
        layer.forward = MethodType(_distilbert_layer, layer)
    else:
        layer = model.base_model.encoder.layer[-1]
        layer.attention.self.forward = MethodType(_bert_attention, layer.attention.self)
        layer.forward = MethodType(_bert_layer, layer)


def _attend(attention: Any, hidden_states: Tensor, mask: Tensor | None, *names: str, **more: Any) -> Tensor:  # noqa: ANN401
    """What the first token takes from all, [batch, 1, width]; `names` are of the maps to query, key and value."""
    given = (_first(hidden_states), hidden_states, hidden_states)
    query, key, value = (
        attention.get_submodule(name)(each).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for name, each in zip(names, given, strict=True)
    )
    answer, _ = attend(attention, query, key, value, mask, scaling=attention.scaling, **more)
    return answer.flatten(2)


def _bert_attention(
    self: Any,  # noqa: ANN401 - transformers' own
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    **more: Any,  # noqa: ANN401 - whatever else transformers hands on
) -> tuple[Tensor, None]:
    return _attend(self, hidden_states, attention_mask, "query", "key", "value", **more), None


def _bert_layer(
    self: Any,  # noqa: ANN401
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *_: Any,  # noqa: ANN401
    **more: Any,  # noqa: ANN401
) -> Tensor:
    attended, _ = self.attention.self(hidden_states, attention_mask=attention_mask, **more)
    return self.feed_forward_chunk(self.attention.output(attended, _first(hidden_states)))


def _distilbert_attention(
    self: Any,  # noqa: ANN401
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    **more: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    return self.out_lin(_attend(self, hidden_states, attention_mask, "q_lin", "k_lin", "v_lin", **more)), None


def _distilbert_layer(
    self: Any,  # noqa: ANN401
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    **more: Any,  # noqa: ANN401
) -> Tensor:
    attended, _ = self.attention(hidden_states, attention_mask=attention_mask, **more)
    attended = self.sa_layer_norm(attended + _first(hidden_states))
    return self.output_layer_norm(self.ffn(attended) + attended)


def _first(hidden_states: Tensor) -> Tensor:
    return hidden_states[:, :1]
