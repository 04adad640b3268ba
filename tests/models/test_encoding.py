"""Texts as token ids: truncated once, batched by length, answered in the order of the texts."""
# ruff: noqa: TID253 - these test what is made of the framework

from pathlib import Path
from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deploycost.models.base import find_base, load_tokenizer
from deploycost.models.encoding import EncodedTexts, batches_by_length, encode, logits_of


class _FirstAndLength(nn.Module):
    """Answers each text with its first token and its number of real tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, mask: Tensor) -> SimpleNamespace:
        assert not self.training
        return SimpleNamespace(logits=torch.stack([ids[:, 0], mask.sum(dim=1)], dim=1))


def _texts(lengths: list[int]) -> EncodedTexts:
    return EncodedTexts(
        tuple([100 + number] * length for number, length in enumerate(lengths)), tuple([0] * len(lengths)), 0
    )


def test_texts_are_cut_to_the_limit_special_tokens_included(tiny_bases: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(find_base(str(tiny_bases["bert"])))
    encoded = encode(tokenizer, ["goal", "goal " * 100], [0, 1], max_tokens=12)
    assert [ids[0] for ids in encoded.input_ids] == [tokenizer.cls_token_id] * 2
    assert [ids[-1] for ids in encoded.input_ids] == [tokenizer.sep_token_id] * 2
    assert len(encoded.input_ids[1]) == 12
    assert encoded.mean_tokens == (len(encoded.input_ids[0]) + 12) / 2
    whole = [len(ids) for ids in tokenizer(["goal", "goal " * 100])["input_ids"]]
    assert encoded.whole_mean_tokens == sum(whole) / 2 > encoded.mean_tokens
    assert len(encoded) == 2


def test_an_example_is_what_a_collator_takes() -> None:
    encoded = EncodedTexts(([2, 7, 3],), (1,), 0)
    assert encoded[0] == {"input_ids": [2, 7, 3], "attention_mask": [1, 1, 1], "labels": 1}


def test_batches_hold_texts_of_like_length_from_the_shortest_to_the_longest() -> None:
    lengths = [11, 1, 2, 1, 9]
    encoded = EncodedTexts(tuple([5] * length for length in lengths), (0,) * 5, 9)
    batches = list(batches_by_length(encoded, 2))
    assert [rows for rows, _, _ in batches] == [[1, 3], [2, 4], [0]]
    assert batches[0][1].tolist() == [[5] + [9] * 7] * 2
    assert batches[1][2].sum(dim=1).tolist() == [2, 9]


def test_widths_are_few_and_none_is_above_the_longest_text() -> None:
    encoded = EncodedTexts(([5] * 21, [5] * 3), (0, 0), 0)
    widths = [encoded.padded_width([[5] * length, [5]]) for length in (1, 8, 9, 16, 17, 21)]
    assert widths == [8, 8, 16, 16, 21, 21]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 7))
def test_answers_come_in_the_order_of_the_texts(lengths: list[int], batch_size: int) -> None:
    answers = logits_of(_FirstAndLength(), _texts(lengths), batch_size)
    assert answers.tolist() == [[100 + number, length] for number, length in enumerate(lengths)]


def test_judging_leaves_the_model_in_the_mode_it_was_in() -> None:
    model = _FirstAndLength()
    model.train()
    logits_of(model, _texts([2]))
    assert model.training
    model.eval()
    logits_of(model, _texts([2]))
    assert not model.training
