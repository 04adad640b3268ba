"""Texts as token ids, made once and batched by length, so that little arithmetic is spent on padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploycost.training_memory import WIDTH_STEP

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of each text, truncated to what the model is fed, special tokens included.

    `cut_tokens` are those that truncation took off all texts together.
    """

    input_ids: tuple[list[int], ...]
    labels: tuple[int, ...]
    pad_token_id: int
    cut_tokens: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, object]:
        """One example, as a transformers collator takes it."""
        ids = self.input_ids[index]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": self.labels[index]}

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.input_ids))

    def padded_width(self, rows: Iterable[Sequence[int]]) -> int:
        """The tokens that a batch of rows of ids is padded to: one of few widths, none above the longest text.

        For each width that it meets oneDNN makes and keeps kernels, megabytes of them in the midst of the heap, so that
        what training takes on a CPU grows with each new width. Up to seven tokens more cost next to no time.
        """
        return min(-(-max(map(len, rows)) // WIDTH_STEP) * WIDTH_STEP, self.longest)

    @property
    def mean_tokens(self) -> float:
        """Mean number of real tokens of a text."""
        return float(np.mean([len(ids) for ids in self.input_ids]))

    @property
    def whole_mean_tokens(self) -> float:
        """The same of the texts as they are, before they are truncated."""
        return self.mean_tokens + self.cut_tokens / len(self)


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], labels: Sequence[int], max_tokens: int
) -> EncodedTexts:
    """Tokenises once, truncating each text to `max_tokens`."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens)
    # What is cut off comes in pieces that have special tokens of their own.
    pieces = (piece for text in encoded.encodings or () for piece in text.overflowing)
    cut = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in pieces)
    pad = tokenizer.pad_token_id
    return EncodedTexts(tuple(encoded["input_ids"]), tuple(labels), pad if isinstance(pad, int) else 0, cut)


def batches_by_length(encoded: EncodedTexts, batch_size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of texts of like length: their row numbers, ids [batch, tokens] and mask [batch, tokens]."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded.input_ids[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = encoded.padded_width(encoded.input_ids[row] for row in rows)
        ids = torch.full((len(rows), width), encoded.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            length = len(encoded.input_ids[row])
            ids[place, :length] = torch.tensor(encoded.input_ids[row])
            mask[place, :length] = 1
        yield rows, ids, mask


@torch.inference_mode()
def logits_of(classifier: nn.Module, encoded: EncodedTexts, batch_size: int = 32) -> NDArray[np.float32]:
    """Logits [texts, labels] in the order of the texts, in the classifier's own precision."""
    device = next(classifier.parameters()).device
    was_training = classifier.training
    classifier.eval()
    rows_and_logits = [
        (rows, classifier(ids.to(device), mask.to(device)).logits.float().cpu().numpy())
        for rows, ids, mask in batches_by_length(encoded, batch_size)
    ]
    classifier.train(was_training)
    logits = np.empty((len(encoded), rows_and_logits[0][1].shape[1]), dtype=np.float32)
    for rows, part in rows_and_logits:
        logits[rows] = part
    return logits
