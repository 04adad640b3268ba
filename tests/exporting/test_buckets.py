"""Lengths to pad to: as few padded tokens as any choice of so many."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from deploycost.exporting.buckets import choose_buckets


def _padded(lengths: list[int], buckets: tuple[int, ...]) -> int:
    return sum(next(bucket for bucket in buckets if bucket >= length) for length in lengths)


def test_by_hand() -> None:
    # Ten texts of 5 and one of 30: one bucket pads all to 48; of two, 8 and 48 pad 10 x 8 + 48.
    assert choose_buckets([5] * 10 + [30], 48, count=1) == (48,)
    assert choose_buckets([5] * 10 + [30], 48, count=2) == (8, 48)
    assert choose_buckets([5] * 10 + [30], 48, count=3) == (8, 32, 48)
    # More are of no use.
    assert choose_buckets([5] * 10, 48, count=6) == (8, 48)
    assert choose_buckets([3], 5) == (5,)


def test_without_texts_they_are_evenly_spaced() -> None:
    assert choose_buckets([], 128, count=4) == (32, 64, 96, 128)
    assert choose_buckets([], 8, count=4) == (8,)
    assert choose_buckets([], 20, count=8) == (8, 16, 20)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    max_tokens=st.integers(8, 60),
    count=st.integers(1, 4),
)
def test_no_other_choice_pads_less(lengths: list[int], max_tokens: int, count: int) -> None:
    found = choose_buckets(lengths, max_tokens, count)
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    assert found[-1] == max_tokens
    fed = [min(length, max_tokens) for length in lengths]
    candidates = range(8, max_tokens, 8)
    others = [
        (*inner, max_tokens) for number in range(count) for inner in combinations(candidates, number)
    ]  # fmt: skip
    assert _padded(fed, found) == min(_padded(fed, other) for other in others)
