from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.reporting.placement import pareto_front, spread


def test_spread_by_hand() -> None:
    # Three at 10 with a gap of 4: the middle one stays. The one at 30 is far enough.
    assert spread([10, 30, 10, 10], gap=4) == [6, 30, 10, 14]


@given(st.lists(st.floats(-1e3, 1e3), max_size=10), st.floats(0.1, 50))
def test_spread_keeps_order_centre_and_gap(positions: list[float], gap: float) -> None:
    moved = spread(positions, gap)
    ordered = sorted(moved)
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(ordered))
    assert sum(moved) == pytest.approx(sum(positions), abs=1e-6)
    by_place = sorted(range(len(positions)), key=positions.__getitem__)
    assert [moved[i] for i in by_place] == ordered


def test_pareto_front_by_hand() -> None:
    # Cheap and poor; dear and good; dominated; as dear as the second but worse.
    assert pareto_front([(1, 80), (3, 90), (2, 79), (3, 85), (2, 88)]) == [0, 4, 1]
    assert pareto_front([]) == []
