"""Accuracy given up, with its interval; and calibration errors worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.exporting.fidelity import accuracy_drop, calibration_error


def _logits(scores: list[float]) -> np.ndarray:
    """Two labels, the first with these scores."""
    first = np.array(scores)
    return np.log(np.stack([first, 1 - first], axis=1)).astype(np.float32)


def test_calibration_error_by_hand() -> None:
    # Confidences .95, .95, .95, .65: bins 15, 15, 15 and 10. The first three are right twice of three times, the last
    # is right: 3/4 x |0.95 - 2/3| + 1/4 x |0.65 - 1|.
    logits = _logits([0.95, 0.95, 0.05, 0.65])
    assert calibration_error([0, 0, 0, 0], logits) == pytest.approx(0.75 * (0.95 - 2 / 3) + 0.25 * 0.35, abs=1e-6)


def test_sure_and_right_has_no_error_and_sure_and_wrong_has_all() -> None:
    logits = np.array([[40.0, 0.0], [0.0, 40.0]], dtype=np.float32)
    assert calibration_error([0, 1], logits) == pytest.approx(0, abs=1e-9)
    assert calibration_error([1, 0], logits) == pytest.approx(1, abs=1e-9)


def test_calibration_error_of_each_label_by_hand() -> None:
    # Two texts with two labels each. Answers: given with .9, right; not given with .8, right; given with .9, wrong; not
    # given with .8, right. Bins 14 and 12: 2/4 x |0.9 - 1/2| + 2/4 x |0.8 - 1|.
    scores = np.array([[0.9, 0.2], [0.9, 0.2]])
    logits = np.log(scores / (1 - scores)).astype(np.float32)
    expected = 0.5 * 0.4 + 0.5 * 0.2
    assert calibration_error([(0,), ()], logits, "multi-label") == pytest.approx(expected, abs=1e-6)


def test_a_number_has_no_score_to_trust() -> None:
    assert calibration_error([1.0, 2.0], np.array([[1.0], [2.0]], dtype=np.float32), "regression") is None


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(-20, 20), min_size=3, max_size=3)), min_size=1))
def test_calibration_error_is_a_share(rows: list[tuple[int, list[float]]]) -> None:
    labels = [label for label, _ in rows]
    logits = np.array([row for _, row in rows], dtype=np.float32)
    assert 0 <= (calibration_error(labels, logits) or 0) <= 1 + 1e-9
    several = [(label,) for label in labels]
    assert 0 <= (calibration_error(several, logits, "multi-label") or 0) <= 1 + 1e-9


def _drop(lost: int, won: int, rows: int, limit: float = 0.01):  # noqa: ANN202
    labels = [0] * rows
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    trained = np.array([right] * lost + [wrong] * won + [right] * (rows - lost - won), dtype=np.float32)
    served = np.array([wrong] * lost + [right] * won + [right] * (rows - lost - won), dtype=np.float32)
    drop = accuracy_drop(labels, trained, served, limit)
    assert drop is not None
    assert drop.measure == "accuracy"
    return drop


def test_drop_by_hand() -> None:
    drop = _drop(lost=30, won=10, rows=1000)
    assert (drop.value, drop.lost_rows, drop.won_rows) == (0.02, 30, 10)
    # Agresti and Min: (30.5 - 10.5) / 1002 +- 1.96 x sqrt(41 - 400 / 1002) / 1002.
    assert drop.low == pytest.approx(20 / 1002 - 1.959964 * (41 - 400 / 1002) ** 0.5 / 1002, abs=1e-9)
    assert drop.high == pytest.approx(20 / 1002 + 1.959964 * (41 - 400 / 1002) ** 0.5 / 1002, abs=1e-9)
    assert (drop.refused, drop.flagged) == (False, True)


def test_refused_for_sure_flagged_by_chance_kept_within() -> None:
    assert _drop(60, 10, 1000).refused
    assert not _drop(60, 10, 1000).flagged
    few = _drop(2, 0, 61)
    assert few.value > 0.03
    assert (few.refused, few.flagged) == (False, True)
    same = _drop(0, 0, 61)
    assert (same.value, same.refused, same.flagged) == (0, False, False)
    better = _drop(0, 30, 100)
    assert (better.value, better.refused, better.flagged) == (-0.3, False, False)


@given(lost=st.integers(0, 40), won=st.integers(0, 40), more=st.integers(0, 400), limit=st.floats(0, 1))
def test_never_refused_and_flagged_at_once(lost: int, won: int, more: int, limit: float) -> None:
    rows = lost + won + more + 1
    drop = _drop(lost, won, rows, limit)
    assert -1 <= drop.low <= drop.high <= 1
    assert not (drop.refused and drop.flagged)
    assert drop.flagged <= (drop.value > limit)


def test_of_several_labels_whole_answers_count() -> None:
    # Scores of three labels: +1 gives one, -1 does not. Right, right, one label too many, one missing.
    trained = np.array([[1, -1, -1], [1, 1, -1], [1, -1, -1], [1, 1, 1]], dtype=np.float32)
    served = np.array([[1, -1, 1], [1, 1, -1], [-1, -1, -1], [1, 1, 1]], dtype=np.float32)
    drop = accuracy_drop([(0,), (0, 1), (), (0, 1)], trained, served, 0.01, "multi-label")
    assert drop is not None
    assert (drop.measure, drop.value, drop.lost_rows, drop.won_rows) == ("accuracy", 0, 1, 1)
    few = accuracy_drop([(0,), (0, 1), (0,), (0, 1)], trained, served, 0.01, "multi-label")
    assert few is not None
    assert (few.value, few.lost_rows, few.won_rows, few.flagged) == (0.5, 2, 0, True)


def _told(true: list[float], trained: list[float], served: list[float]):  # noqa: ANN202
    columns = [np.array(each, dtype=np.float32)[:, None] for each in (trained, served)]
    return accuracy_drop(true, columns[0], columns[1], 0.01, "regression")


def test_of_a_number_explained_variance_counts() -> None:
    # The true numbers are 0 and 2, with a variance of 1: the squared errors, 0, 0, 0.25 and 0, become 0.25, 0, 0 and 1.
    drop = _told([0, 2, 0, 2], [0, 2, 0.5, 2], [0.5, 2, 0, 1])
    assert drop.measure == "explained variance"
    assert drop.value == pytest.approx((0.25 + 0 - 0.25 + 1) / 4)
    # About their mean of 0.25 the four lie 0, 0.25, 0.5 and 0.75 away.
    half = 1.959964 * ((0 + 0.0625 + 0.25 + 0.5625) / 3) ** 0.5 / 2
    assert (drop.low, drop.high) == (pytest.approx(0.25 - half), pytest.approx(0.25 + half))
    assert (drop.lost_rows, drop.won_rows, drop.refused, drop.flagged) == (2, 1, False, True)
    surely = _told([0, 2] * 50, [0, 2] * 50, [0.3, 1.7] * 50)
    assert surely.value == pytest.approx(0.09)
    assert surely.refused
    assert not _told([0, 2], [0, 2], [0, 2]).flagged


def test_numbers_that_are_all_the_same_have_nothing_to_explain() -> None:
    assert _told([3, 3, 3], [3, 3, 3], [1, 2, 3]) is None
    assert _told([3], [3], [1]) is None
