"""Which texts make a batch: texts of like length together, in an order that depends on nothing but seed and epoch.

transformers' own grouping draws from the process's random state, so that an epoch taken up in its middle would get
other batches; and it feeds each stretch of batches from the longest to the shortest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploycost.models.encoding import EncodedTexts

# Of how many batches the texts are sorted by length together: enough to save padding, few enough to stay mixed.
_BATCHES_SORTED_TOGETHER = 50


class GroupedByLength:
    """Row numbers of an epoch, to be cut into batches of `batch_size`; the last batch may be smaller.

    `set_epoch` is called by the data loader.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch, from 0, the rows are asked for."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self._seed, self._epoch])
        order = draw.permutation(len(self))
        stretch = _BATCHES_SORTED_TOGETHER * self._batch_size
        pieces = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        order = np.concatenate([piece[np.argsort(self._lengths[piece], kind="stable")] for piece in pieces])
        whole = len(order) - len(order) % self._batch_size
        batches = draw.permutation(order[:whole].reshape(-1, self._batch_size))
        yield from batches.reshape(-1).tolist()
        yield from order[whole:].tolist()


class Padder:
    """Makes a batch of examples: ids and mask [batch, tokens], padded to one of few widths, and labels [batch]."""

    def __init__(self, texts: EncodedTexts) -> None:
        self._texts = texts

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The batch as the classifier takes it."""
        rows: list[list[int]] = [example["input_ids"] for example in examples]
        width = self._texts.padded_width(rows)
        ids = np.full((len(rows), width), self._texts.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        labels = np.array([example["labels"] for example in examples], dtype=np.int64)
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
        }
