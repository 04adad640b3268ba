"""Virtual tokens: trained vectors that stand among the embedded words of every text (Lester et al., 2021).

They are inserted *after* the first token, because BERT-like heads read position 0: put before it, as PEFT does,
the head would read a virtual token instead of [CLS].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VirtualTokens(nn.Module):
    """`count` trained vectors of the embedding width, drawn at first from the vocabulary's own embeddings."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(count, width))

    @torch.no_grad()
    def draw_from(self, embeddings: nn.Embedding) -> None:
        """Starts from words: Lester et al. find vocabulary vectors a better start than noise."""
        chosen = torch.randint(0, embeddings.num_embeddings, (self.vectors.shape[0],))
        self.vectors.copy_(embeddings.weight[chosen])

    def forward(self, embedded: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Inserts the vectors after the first token.

        Args:
            embedded: float [batch, tokens, width].
            attention_mask: int [batch, tokens].

        Returns:
            The two with `count` more tokens.
        """
        batch, count = embedded.shape[0], self.vectors.shape[0]
        vectors = self.vectors.to(embedded.dtype).unsqueeze(0).expand(batch, -1, -1)
        seen = attention_mask.new_ones((batch, count))
        return (
            torch.cat([embedded[:, :1], vectors, embedded[:, 1:]], dim=1),
            torch.cat([attention_mask[:, :1], seen, attention_mask[:, 1:]], dim=1),
        )
