"""Virtual tokens: trained vectors that stand among the embedded words of every text (Lester et al., 2021).

They are inserted *after* the first token, because BERT-like heads read position 0: put before it, as PEFT does,
the head would read a virtual token instead of [CLS].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deploycost.errors import UserError
from deploycost.models.base import BaseModel, load_tokenizer

if TYPE_CHECKING:
    from deploycost.models.recipe import Recipe


@torch.no_grad()
def start_vectors(base: BaseModel, recipe: Recipe, embeddings: nn.Embedding) -> Tensor:
    """What a recipe's prompt starts from: [virtual tokens, width], drawn from torch's present random state.

    Vectors of random words, of the words of a text (its tokens, repeated or cut to as many as are wanted), or normal
    noise of the embeddings' own spread. Lester et al. (2021, section 3.2) find words a better start than noise.

    Raises:
        UserError: the text to start from has no word.
    """
    assert recipe.prompt is not None, "asked for only where there is a prompt"  # noqa: S101 - for the types
    count, table = recipe.prompt.virtual_tokens, embeddings.weight
    if recipe.prompt.start == "random":
        return torch.randn(count, table.shape[1], device=table.device) * table.std()
    if recipe.prompt.start == "vocabulary":
        return table[torch.randint(0, embeddings.num_embeddings, (count,))].clone()
    text = recipe.prompt.text if recipe.prompt.text is not None else " ".join(recipe.label_names)
    ids = load_tokenizer(base)(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"the text {text!r} that prompts are to start from has no word; give --prompt-text WORDS")
    return table[torch.tensor([ids[place % len(ids)] for place in range(count)])].clone()


class VirtualTokens(nn.Module):
    """`count` trained vectors of the embedding width."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)

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
