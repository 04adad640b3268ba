"""Schedules: as many arrivals as asked, in order, within the time, from the seed alone."""

import itertools
from pathlib import Path
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import NS_PER_S, arrival_offsets_ns, read_trace, trace_rate_rps


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


def test_a_trace_is_replayed_as_recorded_or_to_a_rate_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("100.5\n100\n\n102\n", encoding="utf-8")
    trace_s = read_trace(str(path))
    assert trace_s == [0, 0.5, 2]
    # Two gaps in 2 s: 1/s, and a round of 3 s with the mean gap behind it.
    assert trace_rate_rps(trace_s) == 1
    as_recorded = arrival_offsets_ns("trace", 0, 5, seed=0, trace_s=trace_s)
    assert as_recorded == [0, 500_000_000, 2_000_000_000, 3_000_000_000, 3_500_000_000]
    assert arrival_offsets_ns("trace", 4, 1.25, 0, trace_s) == [each // 4 for each in as_recorded]


def test_iso_times_are_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("2026-01-31T12:00:00Z\n2026-01-31T13:00:00.250+01:00\n", encoding="utf-8")
    assert read_trace(str(path)) == [0, 0.25]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\nsoon\n", ":2: expected seconds"),
        ("1\n1\n", "is no trace"),
        ("nan\n1\n", ":1: expected a moment"),
        ("", "is no"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_trace(str(path))


@given(rate=st.floats(1, 300), parts=st.integers(1, 5), arrivals=st.sampled_from(["poisson", "constant"]))
def test_shares_are_a_partition(rate: float, parts: int, arrivals: str) -> None:
    whole = arrival_offsets_ns(arrivals, rate, 3, seed=5)
    assert sorted(due for part in range(parts) for due in whole[part::parts]) == whole
