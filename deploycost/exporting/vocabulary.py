"""An embedding table cut to the words of the task, and the tokenizer that goes with it.

A pretrained encoder knows some 30,000 tokens, of which a task's texts use a part; the rest are rows that are stored,
loaded and never read. Kept are the tokens of the training texts, special ones, and single characters or bytes, so that
a word that no training text has still is split into pieces and not lost: into other pieces, at times, than before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from deploycost.errors import UserError
from deploycost.models.scoring import right_answers, same_answers
from deploycost.records import VocabularyTrim
from serving.bundle import Task


@dataclass(frozen=True)
class Trimming:
    """A smaller vocabulary and what it does to the test texts: `unseen_rows` are those that are split otherwise."""

    network: nn.Module
    tokenizer: PreTrainedTokenizerFast
    tokens_before: int
    tokens_kept: int
    saved_bytes: int
    unseen_rows: tuple[int, ...]
    mean_tokens_ratio: float

    def record(
        self, task: Task, labels: Sequence[Any] | None, trained: NDArray[np.float32], served: NDArray[np.float32]
    ) -> VocabularyTrim:
        """What it came to, given the trained model's logits and the artifact's [rows, labels] on the test split.

        `labels` are None where the texts' labels are unknown.
        """
        rows = list(self.unseen_rows)
        right = None
        if labels is not None and task != "regression" and rows:
            right = [float(right_answers(task, labels, each)[rows].mean()) for each in (trained, served)]
        return VocabularyTrim(
            tokens_before=self.tokens_before,
            tokens_kept=self.tokens_kept,
            saved_bytes=self.saved_bytes,
            unseen_texts=len(rows),
            unseen_agreement_ratio=float(same_answers(trained, served, task)[rows].mean()) if rows else None,
            unseen_accuracy=right[1] if right else None,
            unseen_trained_accuracy=right[0] if right else None,
            mean_tokens_ratio=self.mean_tokens_ratio,
        )


def trim_vocabulary(
    network: nn.Module, tokenizer: PreTrainedTokenizerFast, train_texts: Sequence[str], test_texts: Sequence[str]
) -> Trimming:
    """The network and tokenizer with the tokens that the training texts use; those given stay as they are.

    Raises:
        UserError: the tokenizer is not of a kind whose vocabulary can be cut.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = _kept_tokens(content, _used_tokens(tokenizer, train_texts))
    vocabulary = content["model"]["vocab"]
    # Tokens that were added to the model's vocabulary lie behind it, and the library has them there again.
    added = sorted({each["id"] for each in content["added_tokens"]} - set(vocabulary.values()))
    old_ids = [*sorted(vocabulary[token] for token in kept), *added]
    new_ids = {old: new for new, old in enumerate(old_ids)}
    pad = tokenizer.pad_token_id
    if isinstance(pad, int) and new_ids[pad] != pad:
        # RoBERTa counts positions from this number.
        raise UserError("--trim-vocabulary would renumber the padding token; build without it")
    smaller = _with_ids(tokenizer, content, kept, new_ids)
    trimmed, saved_bytes = _with_rows(network, old_ids)
    before, after = _split(tokenizer, test_texts), _split(smaller, test_texts)
    return Trimming(
        network=trimmed,
        tokenizer=smaller,
        tokens_before=len(vocabulary) + len(added),
        tokens_kept=len(old_ids),
        saved_bytes=saved_bytes,
        unseen_rows=tuple(row for row, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]),
        mean_tokens_ratio=sum(map(len, after)) / sum(map(len, before)),
    )


def _split(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[str]]:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return [encoding.tokens for encoding in backend.encode_batch(list(texts))]


def _used_tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> set[str]:
    return {token for tokens in _split(tokenizer, texts) for token in tokens}


def _kept_tokens(content: dict[str, Any], used: Iterable[str]) -> set[str]:
    """The tokens to keep, those that others are merged from among them."""
    model, vocabulary = content["model"], content["model"]["vocab"]
    if model["type"] not in ("WordPiece", "BPE"):
        raise UserError(
            f"--trim-vocabulary cuts WordPiece and BPE tokenizers, and this one is {model['type']}; build without it"
        )
    prefix = model.get("continuing_subword_prefix") or ""
    single = {token for token in vocabulary if len(token) == 1 or (prefix and len(token.removeprefix(prefix)) == 1)}
    special = {added["content"] for added in content["added_tokens"]}
    kept = (set(used) | single | special) & set(vocabulary)
    merges = [tuple(pair) for pair in model.get("merges", ())]
    while parts := {part for left, right in merges if left + right in kept for part in (left, right)} - kept:
        kept |= parts
    return kept


def _with_ids(
    tokenizer: PreTrainedTokenizerFast, content: dict[str, Any], kept: set[str], new_ids: dict[int, int]
) -> PreTrainedTokenizerFast:
    """The tokenizer with the kept tokens only, numbered anew."""
    content = deepcopy(content)
    model = content["model"]
    model["vocab"] = {token: new_ids[old] for token, old in model["vocab"].items() if token in kept}
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if pair[0] + pair[1] in kept]
    for added in content["added_tokens"]:
        added["id"] = new_ids[added["id"]]
    post = content["post_processor"] or {}
    for special in post.get("special_tokens", {}).values():
        special["ids"] = [new_ids[old] for old in special["ids"]]
    for name in ("sep", "cls"):
        if name in post:
            post[name] = [post[name][0], new_ids[post[name][1]]]
    backend = Tokenizer.from_str(json.dumps(content))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)


def _with_rows(network: nn.Module, rows: list[int]) -> tuple[nn.Module, int]:
    """A copy of the network whose table of words has these rows only, and how many bytes it is smaller."""
    trimmed: Any = deepcopy(network)
    table = getattr(trimmed, "model", trimmed).get_input_embeddings()
    before = table.weight.nbytes
    table.weight = nn.Parameter(table.weight.detach()[torch.tensor(rows)].clone(), requires_grad=False)
    table.num_embeddings = len(rows)
    return trimmed, before - table.weight.nbytes
