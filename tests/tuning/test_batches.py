"""Batches: every text once an epoch, little padding, and an order that only seed and epoch decide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deploycost.models.encoding import EncodedTexts
from deploycost.tuning.batches import GroupedByLength, Padder


def _order(lengths: list[int], batch_size: int, seed: int = 1, epoch: int = 0) -> list[int]:
    rows = GroupedByLength(lengths, batch_size, seed)
    rows.set_epoch(epoch)
    assert len(rows) == len(lengths)
    return list(rows)


@given(st.lists(st.integers(1, 128), min_size=1, max_size=300), st.integers(1, 17), st.integers(0, 3))
def test_each_text_comes_once_and_the_same_each_time(lengths: list[int], batch_size: int, epoch: int) -> None:
    order = _order(lengths, batch_size, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == _order(lengths, batch_size, epoch=epoch)


def test_epochs_and_seeds_differ() -> None:
    lengths = [5 + row % 40 for row in range(400)]
    orders = {tuple(_order(lengths, 8, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_texts_of_like_length_are_together_and_batches_come_in_no_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 128, 800).tolist()
    batches = np.array(lengths)[_order(lengths, 8)].reshape(-1, 8)
    padded = batches.max(axis=1).sum() * 8
    assert padded < 1.05 * sum(lengths), "drawn blindly it is about 1.8 times as much"
    widths = batches.max(axis=1)
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3


def test_a_batch_is_padded_to_one_of_few_widths() -> None:
    texts = EncodedTexts(([5, 6, 7], [8], [1] * 20), (2, 0, 1), pad_token_id=9)
    batch = Padder(texts)([texts[0], texts[1]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 9, 9, 9, 9, 9], [8, 9, 9, 9, 9, 9, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert batch["labels"].tolist() == [2, 0]
