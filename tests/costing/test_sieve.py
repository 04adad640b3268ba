import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deploycost.costing.sieve import Bounds, Sight, bounds_told, nearest_miss, pareto, within

few = st.sampled_from([1.0, 2.0, 3.0, float("nan")])
seen_rows = st.lists(st.tuples(few, few, few, st.booleans()), min_size=1, max_size=12)


def sight(rows: list[tuple[float, float, float, bool]]) -> Sight:
    planned, p95, accuracy, deployable = (np.array(column) for column in zip(*rows, strict=True))
    return Sight(planned * 100, planned, p95, accuracy, deployable.astype(bool))


def test_the_front_by_hand() -> None:
    rows = [(1.0, 50.0, 0.9, True), (2.0, 20.0, 0.9, True), (3.0, 60.0, 0.8, True), (1.0, 50.0, 0.9, True)]
    beaten_but_for_memory = (0.5, 10.0, 0.95, False)
    unknown = (1.0, float("nan"), 0.9, True)
    assert pareto(sight([*rows, beaten_but_for_memory, unknown])) == [True, True, False, True, None, None]


@given(rows=seen_rows)
def test_the_front_by_brute_force(rows: list[tuple[float, float, float, bool]]) -> None:
    known = [row[3] and not any(np.isnan(row[:3])) for row in rows]

    def beats(other: tuple[float, ...], row: tuple[float, ...]) -> bool:
        better = (other[0] <= row[0], other[1] <= row[1], other[2] >= row[2])
        return all(better) and other[:3] != row[:3]

    expected = [
        not any(beats(other, row) for other, judged in zip(rows, known, strict=True) if judged) if judges else None
        for row, judges in zip(rows, known, strict=True)
    ]
    assert pareto(sight(rows)) == expected


def test_bounds_keep_what_is_known_to_be_within_them() -> None:
    rows = sight([(1.0, 50.0, 0.9, True), (2.0, 20.0, 0.8, True), (float("nan"), 5.0, 0.9, True)])
    assert within(Bounds(), rows).tolist() == [True, True, True]
    assert within(Bounds(max_p95_ms=50), rows).tolist() == [True, True, True]
    assert within(Bounds(max_p95_ms=49), rows).tolist() == [False, True, True]
    assert within(Bounds(min_accuracy=0.9), rows).tolist() == [True, False, True]
    assert within(Bounds(max_monthly_usd=150), rows).tolist() == [True, False, False]


def test_the_nearest_miss_is_measured_as_a_share_of_each_bound() -> None:
    rows = sight([(3.0, 50.0, 0.9, True), (1.0, 90.0, 0.9, True), (1.0, float("nan"), 0.9, True)])
    # 300 for 200 is half too much; 90 ms for 80 an eighth.
    assert nearest_miss(Bounds(max_p95_ms=80, max_monthly_usd=200), rows) == 1
    assert nearest_miss(Bounds(max_p95_ms=80), sight([(1.0, float("nan"), 0.9, True)])) is None


def test_bounds_in_words() -> None:
    told = bounds_told(Bounds(max_p95_ms=20, min_accuracy=0.9, max_monthly_usd=300))
    assert told == "p95 within 20 ms, accuracy of at least 90.0 %, at most $300.00 a month"
