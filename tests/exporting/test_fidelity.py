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


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(-20, 20), min_size=3, max_size=3)), min_size=1))
def test_calibration_error_is_a_share(rows: list[tuple[int, list[float]]]) -> None:
    labels = [label for label, _ in rows]
    logits = np.array([row for _, row in rows], dtype=np.float32)
    assert 0 <= calibration_error(labels, logits) <= 1 + 1e-9


def _drop(lost: int, won: int, rows: int, limit: float = 0.01):  # noqa: ANN202
    labels = [0] * rows
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    trained = np.array([right] * lost + [wrong] * won + [right] * (rows - lost - won), dtype=np.float32)
    served = np.array([wrong] * lost + [right] * won + [right] * (rows - lost - won), dtype=np.float32)
    return accuracy_drop(labels, trained, served, limit)


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
