"""The first guess of a capacity against queues with known answers."""

from random import Random

import pytest

from deploycost.benchmarking.queueing import guess_capacity_rps


def test_fixed_service_times() -> None:
    # M/D/1 with 5 ms and 100 ms: 185.1/s (see the tests of the search).
    assert guess_capacity_rps([0.005], 200, 0.1) == pytest.approx(185.1, rel=0.03)


def test_exponential_service_times() -> None:
    # M/M/1: the sojourn is exponential with mean 1 / (mu - lambda), so lambda = mu - ln(20) / limit.
    source = Random(1)
    drawn = [source.expovariate(200) for _ in range(5000)]
    assert guess_capacity_rps(drawn, 200, 0.1) == pytest.approx(200 - 29.96, rel=0.05)


def test_time_on_the_wire_is_not_time_in_the_server() -> None:
    # A lone request takes 20 ms, but 1000 of them overlap so far that 500/s are served.
    assert 300 < guess_capacity_rps([0.02], 500, 0.1) <= 500


def test_a_server_that_is_too_slow_gets_the_least_guess() -> None:
    assert guess_capacity_rps([0.2], 5, 0.1) == pytest.approx(0.1, rel=0.05)
