"""Statistics against figures worked out by hand or by summing the binomial distribution outright."""

import itertools
from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.stats import isotonic, mean_interval, minimum_samples, quantile_ranks, student_t, wilson_interval


@pytest.mark.parametrize(("quantile", "samples"), [(0.5, 8), (0.9, 46), (0.95, 93), (0.99, 473)])
def test_minimum_samples_of_the_percentiles_that_are_reported(quantile: float, samples: int) -> None:
    assert minimum_samples(quantile) == samples


def test_minimum_samples_of_the_median_by_hand() -> None:
    # n = 8: all or all but one below the median has a chance of (1 + 8) / 256 = 3.5 %; n = 7: (1 + 7) / 128 = 6.25 %.
    assert minimum_samples(0.5, confidence=1 - 9 / 256) == 8
    assert minimum_samples(0.5, confidence=1 - 8 / 128) == 7


def test_ranks_around_the_median_by_hand() -> None:
    # Of 8 samples: P(none below) = 1/256 is within 2.5 %, P(at most one below) = 9/256 = 3.5 % is not.
    assert quantile_ranks(8, 0.5) == (1, 8)


def test_too_few_samples_bracket_nothing() -> None:
    # P(all 5 above the median) = 1/32 = 3.1 % is more than 2.5 %.
    assert quantile_ranks(5, 0.5) is None
    assert quantile_ranks(0, 0.95) is None


@given(samples=st.integers(75, 400), quantile=st.sampled_from([0.5, 0.9, 0.95]))
def test_ranks_cover_the_quantile_as_often_as_promised(samples: int, quantile: float) -> None:
    ranks = quantile_ranks(samples, quantile)
    assert ranks is not None
    lower, upper = ranks
    below = [comb(samples, k) * quantile**k * (1 - quantile) ** (samples - k) for k in range(samples + 1)]
    assert sum(below[:lower]) <= 0.025 + 1e-9
    assert sum(below[upper:]) <= 0.025 + 1e-9
    assert lower <= samples * quantile + 1 <= upper + 1


def test_ranks_of_many_samples_are_near_the_normal_approximation() -> None:
    # 95,000 +- 1.96 sqrt(100,000 x 0.95 x 0.05) = 95,000 +- 135
    assert quantile_ranks(100_000, 0.95) == (pytest.approx(94_865, abs=2), pytest.approx(95_136, abs=2))


def test_wilson_by_hand() -> None:
    # 0 of 100: z^2 / (n + z^2) = 3.8415 / 103.8415
    assert wilson_interval(0, 100) == pytest.approx((0, 0.036994), abs=1e-5)
    # 5 of 10: middle 0.5, half = 1.95996 / 1.384146 x sqrt(0.025 + 3.841459 / 400)
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-5)
    assert wilson_interval(0, 0) == (0, 1)


def test_isotonic_pools_what_violates() -> None:
    assert isotonic([(1, 1, 1), (2, 3, 1), (3, 2, 1), (4, 4, 1)]) == [(1, 1), (2, 2.5), (3, 2.5), (4, 4)]
    # Weighted: (3 x 3 + 2 x 1) / 4
    assert isotonic([(2, 3, 3), (3, 2, 1)]) == [(2, 2.75), (3, 2.75)]
    # Two samples at one x are one mean.
    assert isotonic([(1, 0, 1), (1, 4, 3)]) == [(1, 3)]


_SAMPLES = st.lists(
    st.tuples(st.integers(0, 9).map(float), st.floats(0, 10), st.integers(1, 50).map(float)), min_size=1, max_size=30
)


@given(samples=_SAMPLES)
def test_isotonic_never_falls_and_keeps_the_mean(samples: list[tuple[float, float, float]]) -> None:
    fit = isotonic(samples)
    values = [y for _, y in fit]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(values))
    weights = {x: sum(w for at, _, w in samples if at == x) for x, _ in fit}
    assert sum(y * weights[x] for x, y in fit) == pytest.approx(sum(y * w for _, y, w in samples))


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_students_t_is_as_in_the_printed_tables(degrees: int, quantile: float) -> None:
    assert student_t(degrees) == pytest.approx(quantile, abs=5e-5)


def test_students_t_of_one_degree_is_the_cauchy_distribution() -> None:
    assert student_t(1, confidence=0.5) == pytest.approx(1.0)  # half of a Cauchy draw lies within 1 of the middle


def test_the_interval_of_a_mean_by_hand() -> None:
    # Mean 4, standard deviation 2, three draws: 4.3027 x 2 / sqrt(3) on either side.
    low, high = mean_interval([2.0, 4.0, 6.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((4 - 4.302653 * 2 / sqrt(3), 4 + 4.302653 * 2 / sqrt(3)), abs=1e-5)
    assert mean_interval([1.0]) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_the_interval_moves_with_its_values(values: list[float], shift: float) -> None:
    low, high = mean_interval(values) or (0.0, 0.0)
    moved_low, moved_high = mean_interval([value + shift for value in values]) or (0.0, 0.0)
    assert (moved_low - shift, moved_high - shift) == pytest.approx((low, high), abs=1e-6)
