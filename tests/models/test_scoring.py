"""Scores and parity, by numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.models.scoring import compare, score, score_task
from deploycost.records import MultiLabelScores, RegressionScores


def test_scores_of_a_hand_made_table() -> None:
    # True 0 0 0 1 1 2, answered 0 0 1 1 1 0.
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 1, 0]]
    scores = score([0, 0, 0, 1, 1, 2], logits)
    assert scores.accuracy == pytest.approx(4 / 6)
    # Class 0: precision 2/3, recall 2/3; class 1: 2/3 and 1; class 2 is never answered: 0 and 0.
    assert scores.precision == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert scores.rows == 6


def test_a_class_without_rows_counts_in_the_means() -> None:
    scores = score([0, 0], np.array([[1, 0, 0], [1, 0, 0]], dtype=np.float32))
    assert (scores.accuracy, scores.macro_f1) == (1.0, pytest.approx(1 / 3))


def _parity(reference: list[list[float]], other: list[list[float]], error: float = 0.5, agreement: float = 0.6):  # noqa: ANN202
    return compare(
        np.array(reference, dtype=np.float32),
        np.array(other, dtype=np.float32),
        relative_error_limit=error,
        agreement_limit=agreement,
    )


def test_parity_of_a_hand_made_pair() -> None:
    # About their rows' means the reference is -1, 1, -3, 3: spread sqrt(20 / 4). The difference is 0, 0, 0, 2: rms 1.
    parity = _parity([[1, 3], [0, 6]], [[1, 3], [0, 8]])
    assert parity.relative_error == pytest.approx(1 / math.sqrt(5))
    assert parity.agreement_ratio == 1
    assert parity.ok


def test_limits_are_held_to_each() -> None:
    pair = ([[1.0, 3.0], [0.0, 6.0]], [[1.0, 3.0], [0.0, 8.0]])
    assert not _parity(*pair, error=0.44).ok
    assert _parity(*pair, error=0.45, agreement=1.0).ok
    swapped = _parity([[0, 1], [4, -4]], [[1, 0], [4, -4]], error=9, agreement=0.95)
    assert swapped.agreement_ratio == 0.5
    assert not swapped.ok


def test_few_rows_on_the_edge_refuse_nothing() -> None:
    # Wilson's interval of 1 in 2 is 0.095 to 0.905: two rows cannot tell a half from nine tenths.
    swapped = _parity([[0, 1], [4, -4]], [[1, 0], [4, -4]], error=9, agreement=0.9)
    assert swapped.agreement_high == pytest.approx(0.9055, abs=1e-3)
    assert swapped.ok


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_a_number_is_infinitely_far(bad: float) -> None:
    parity = _parity([[1, 3], [0, 6]], [[1, 3], [bad, 6]], error=1e9, agreement=0)
    assert parity.relative_error == math.inf
    assert not parity.ok
    assert not _parity([[1, bad], [0, 6]], [[1, 3], [0, 6]], error=1e9, agreement=0).ok


def test_a_model_that_says_nothing_of_any_text_cannot_be_agreed_with() -> None:
    assert not _parity([[2, 2], [2, 2]], [[2, 2], [2, 2]], error=1e9, agreement=0).ok


@given(st.floats(-50, 50), st.integers(0, 1000))
def test_error_is_relative_and_blind_to_a_shift_of_the_reference_spread(shift: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=(5, 3))
    other = reference + draw.normal(scale=0.1, size=(5, 3))
    plain = _parity(reference.tolist(), other.tolist()).relative_error
    shifted = _parity((reference + shift).tolist(), (other + shift).tolist()).relative_error
    scaled = _parity((reference * 4).tolist(), (other * 4).tolist()).relative_error
    assert shifted == pytest.approx(plain, rel=1e-3)
    assert scaled == pytest.approx(plain, rel=1e-4)


def test_scores_of_several_labels_by_hand() -> None:
    """Decisions [[1, 0], [1, 1], [0, 0]] against true [[1, 0], [1, 0], [0, 1]]: one whole answer of three is right.

    First label: 2 of 2 right; second: one given wrongly, one missed. Together 2 right, 1 wrong, 1 missed.
    """
    logits = np.array([[2, -2], [2, 2], [-2, -2]], dtype=np.float32)
    scores = score_task("multi-label", ((0,), (0,), (1,)), logits)
    assert isinstance(scores, MultiLabelScores)
    assert scores.accuracy == pytest.approx(1 / 3)
    assert (scores.macro_f1, scores.precision, scores.recall) == pytest.approx((0.5, 0.5, 0.5))
    assert (scores.micro_f1, scores.micro_precision, scores.micro_recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert scores.rows == 3


def test_scores_of_numbers_by_hand() -> None:
    scores = score_task("regression", (1.0, 2.0, 4.0), np.array([[1.5], [2.0], [3.0]], dtype=np.float32))
    assert isinstance(scores, RegressionScores)
    assert scores.mse == pytest.approx((0.25 + 0 + 1) / 3)
    assert scores.mae == pytest.approx(0.5)
    assert scores.spearman == pytest.approx(1)
    # Deviations (-4/3, -1/3, 5/3) and (-2/3, -1/6, 5/6): proportional.
    assert scores.pearson == pytest.approx(1)
    constant = score_task("regression", (1.0, 2.0), np.array([[3.0], [3.0]], dtype=np.float32))
    assert isinstance(constant, RegressionScores)
    assert (constant.pearson, constant.spearman) == (None, None)


def test_texts_without_labels_have_no_scores() -> None:
    for task in ("single-label", "multi-label", "regression"):
        assert score_task(task, (None, None), np.zeros((2, 2), dtype=np.float32)) is None


def test_agreement_is_of_whole_answers_and_of_near_numbers() -> None:
    limits = {"relative_error_limit": 0.1, "agreement_limit": 0.9}
    several = np.array([[1, -1], [1, 1], [-1, -1], [-1, 1]], dtype=np.float32)
    other = several.copy()
    other[0, 1] = 1.0
    parity = compare(several, other, task="multi-label", **limits)
    assert parity.agreement_ratio == 0.75
    # Each column's mean is 0 and its spread 1; one of eight differs by 2.
    assert parity.relative_error == pytest.approx((4 / 8) ** 0.5)
    numbers = np.array([[0], [2], [0], [2]], dtype=np.float32)  # spread 1
    parity = compare(numbers, numbers + np.float32([[0], [0.4], [0.6], [0]]), task="regression", **limits)
    assert parity.agreement_ratio == 0.75
    assert parity.relative_error == pytest.approx(((0.16 + 0.36) / 4) ** 0.5)
