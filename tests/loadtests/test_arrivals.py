"""Schedules: as many arrivals as asked, in order, within the time, from the seed alone."""

import itertools
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import NS_PER_S, arrival_offsets_ns


def test_constant_arrivals_by_hand() -> None:
    assert arrival_offsets_ns("constant", 4, 1, seed=0) == [125_000_000, 375_000_000, 625_000_000, 875_000_000]


@given(
    arrivals=st.sampled_from(["poisson", "constant"]),
    rate=st.floats(0.5, 500),
    seconds=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_arrivals_are_as_many_as_asked_and_in_order(arrivals: str, rate: float, seconds: float, seed: int) -> None:
    offsets = arrival_offsets_ns(arrivals, rate, seconds, seed)
    assert len(offsets) == max(1, round(rate * seconds))
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0
    assert offsets[-1] <= seconds * NS_PER_S
    assert offsets == arrival_offsets_ns(arrivals, rate, seconds, seed)


def test_poisson_gaps_are_exponential() -> None:
    offsets = arrival_offsets_ns("poisson", 1000, 20, seed=3)
    gaps = [(b - a) / 1e6 for a, b in itertools.pairwise(offsets)]
    # An exponential gap's standard deviation equals its mean: 1 ms here, and exp(-1) of all gaps are longer.
    assert mean(gaps) == pytest.approx(1, rel=0.01)
    assert stdev(gaps) == pytest.approx(1, rel=0.03)
    assert sum(gap > 1 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.01)


def test_seeds_differ() -> None:
    assert arrival_offsets_ns("poisson", 100, 1, seed=1) != arrival_offsets_ns("poisson", 100, 1, seed=2)
