from math import exp, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.benchmarking.queueing import guess_capacity_rps
from deploycost.projecting.queue import batched_capacity_within, capacity_within, spread_of


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("limit", [3, 5, 10, 30])
def test_a_simulated_queue_agrees(spread: float, limit: float) -> None:
    """Lindley's recursion over drawn times, which the load test starts its search with."""
    draw = Random(1)
    times = [0.01 * exp(draw.gauss(-spread * spread / 2, spread)) for _ in range(20_000)]
    simulated = guess_capacity_rps(times, len(times) / sum(times), limit * 0.01)
    assert capacity_within(0.01, spread, limit * 0.01) == pytest.approx(simulated, abs=6)


def test_an_objective_below_the_service_time_is_never_met() -> None:
    assert capacity_within(0.050, 0.1, 0.049) == 0.0
    assert batched_capacity_within({1: 0.05, 8: 0.1}, 0.049) == 0.0


@given(service_s=st.floats(1e-4, 0.1), spread=st.floats(0.0, 1.0), limit_s=st.floats(1e-3, 1.0))
def test_laws(service_s: float, spread: float, limit_s: float) -> None:
    capacity = capacity_within(service_s, spread, limit_s)
    assert 0 <= capacity <= 1 / service_s
    assert capacity_within(service_s, spread, 2 * limit_s) >= capacity * (1 - 1e-9)
    assert capacity_within(2 * service_s, spread, limit_s) <= capacity * (1 + 1e-9)


def test_batches_by_hand() -> None:
    # 8 in 10 ms carry 800/s, of which a full server keeps 0.9; 16 would take 1.95 x 30 ms, too long
    assert batched_capacity_within({1: 0.004, 8: 0.010, 16: 0.030}, 0.050) == pytest.approx(720)
    # two batches of 8 take longer than 15 ms; alone 1/0.004 is the most
    assert batched_capacity_within({1: 0.004, 8: 0.010}, 0.015) < 250


def test_the_spread_behind_two_quantiles() -> None:
    assert spread_of(10.0, 10.0 * exp(1.645 * 0.4), 0.2) == pytest.approx(0.4, abs=1e-3)
    assert spread_of(None, 5.0, 0.2) == spread_of(5.0, 4.0, 0.2) == 0.2
    assert log(2) / 1.645 == pytest.approx(spread_of(10.0, 20.0, 0.2), abs=1e-3)
