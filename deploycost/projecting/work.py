"""The work of one forward pass: operations and bytes by operator class, as a function of batch and token length."""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.projecting.hardware import Precision
from deploycost.projecting.shapes import Shape

BYTES_EACH: dict[Precision, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}
# Passes over the activations of a layer that no matrix product makes: two residual sums, two normalisations that read
# twice and write once each, the biases, and the activation over the wider inner width.
_ELEMENTWISE_PASSES = 10
_INNER_PASSES = 2
# Operations per element of those passes, as a sum over them.
_ELEMENTWISE_FLOPS = 12
_INNER_FLOPS = 8
_SOFTMAX_FLOPS = 5


@dataclass(frozen=True)
class Work:
    """Operations (two per multiply-add) and bytes moved of one forward pass over a whole batch."""

    matmul_flops: float
    attention_flops: float
    elementwise_flops: float
    weight_bytes: float
    activation_bytes: float
    embedding_bytes: float

    @property
    def counted_flops(self) -> float:
        """What flop counters count: matrix products, those of attention included."""
        return self.matmul_flops + self.attention_flops

    @property
    def total_bytes(self) -> float:
        """Everything moved, if nothing stays in a cache but what one operator hands to the next."""
        return self.weight_bytes + self.activation_bytes + self.embedding_bytes


def work_of(shape: Shape, batch: float, tokens: int, precision: Precision) -> Work:
    """The work of `batch` texts of `tokens` tokens each.

    Matrices run at `precision`. At int8 attention and what is elementwise stay at 4 bytes, as dynamic quantisation
    leaves them.
    """
    each = BYTES_EACH[precision]
    wide = 4 if precision == "int8" else each
    length = tokens + shape.virtual_tokens
    positions = batch * length
    keys = shape.layers * length + shape.keyed_layers * shape.virtual_keys
    head = shape.hidden * shape.hidden + shape.hidden * shape.labels
    stored = shape.stored_layers or shape.layers
    per_layer = _ELEMENTWISE_PASSES * shape.hidden + _INNER_PASSES * shape.ffn_width
    scores = batch * shape.heads * length * keys
    return Work(
        matmul_flops=2 * positions * shape.layers * shape.layer_parameters + 2 * batch * head,
        attention_flops=2 * 2 * positions * keys * shape.hidden,
        elementwise_flops=positions
        * shape.layers
        * (_ELEMENTWISE_FLOPS * shape.hidden + _INNER_FLOPS * shape.ffn_width)
        + _SOFTMAX_FLOPS * scores,
        weight_bytes=each * (stored * shape.layer_parameters + head),
        activation_bytes=wide * (positions * shape.layers * per_layer + 3 * scores),
        embedding_bytes=wide * 3 * positions * shape.hidden,
    )
