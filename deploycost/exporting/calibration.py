"""Training texts on which quantisers watch activations: never those that artifacts are judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deploycost.dataset import LabelledTexts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CALIBRATION_TEXTS = 300
# By which the accuracy-aware mode decides which operators to give back; others than those watched.
VALIDATION_TEXTS = 500
_SEED = 42

Feed = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class CalibrationSet:
    """Texts drawn from a training split, and how they are fed: one by one, cut as the endpoint cuts them."""

    texts: LabelledTexts
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int
    origin: str

    def feeds(self) -> Iterator[Feed]:
        """Ids and mask [1, tokens] of each text."""
        for ids in self.tokenizer(list(self.texts.texts), truncation=True, max_length=self.max_tokens)["input_ids"]:
            row = np.asarray([ids], dtype=np.int64)
            yield {"input_ids": row, "attention_mask": np.ones_like(row)}

    @property
    def description(self) -> str:
        """What was calibrated on, for the record: how many texts, of what, and the digest that names them."""
        digest = hashlib.sha256("\0".join(self.texts.texts).encode("utf-8", "replace")).hexdigest()
        return f"{len(self.texts)} texts of {self.origin}, seed {_SEED}, sha256 {digest[:16]}"


def draw(train: LabelledTexts, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> CalibrationSet:
    """What quantisers watch: texts drawn by a fixed seed, all of a small split."""
    rows = _order(train)[:CALIBRATION_TEXTS]
    return CalibrationSet(train.take(rows), tokenizer, max_tokens, "the training split")


def draw_validation(train: LabelledTexts, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> CalibrationSet:
    """What the accuracy-aware mode is judged by: texts that are not watched, where the split has enough."""
    order = _order(train)
    rows = order[CALIBRATION_TEXTS : CALIBRATION_TEXTS + VALIDATION_TEXTS] or order
    return CalibrationSet(train.take(rows), tokenizer, max_tokens, "the training split")


def _order(train: LabelledTexts) -> list[int]:
    return Random(_SEED).sample(range(len(train)), len(train))
