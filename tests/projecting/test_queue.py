from math import exp, inf, log
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.benchmarking.queueing import guess_capacity_rps
from deploycost.projecting.queue import (
    Batches,
    batched_capacity_within,
    batched_latency_at,
    capacity_within,
    latency_at,
    spread_of,
)


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


def test_latencies_by_hand() -> None:
    # Texts of 10 ms each, half busy: the wait exceeds t with chance 0.5 exp(-t / 10 ms), so 95 % wait 10 ms x ln 10.
    assert latency_at(50.0, 0.010, 0.0) == pytest.approx(0.010 + 0.010 * log(10), rel=1e-6)
    # Hardly anybody waits where one in twenty texts finds another.
    assert latency_at(5.0, 0.010, 0.0) == pytest.approx(0.010, rel=1e-6)
    assert latency_at(99.0, 0.010, 0.0) == inf
    # 8 in 10 ms carry 720/s and are waited for 1.95 times; 200/s of texts alone would take longer: 0.8 busy, so a mean
    # wait of 4 / (2 x 0.2) ms and 95 % within 4 + 10 x ln 16 ms.
    assert batched_latency_at(720.0, {1: 0.004, 8: 0.010}) == pytest.approx(0.0195)
    assert latency_at(200.0, 0.004, 0.0) == pytest.approx(0.004 + 0.010 * log(16), rel=1e-6)
    assert batched_latency_at(200.0, {1: 0.004, 8: 0.010}) == pytest.approx(0.0078)
    assert batched_latency_at(800.0, {1: 0.004, 8: 0.010}) == inf


@given(
    service_s=st.floats(1e-4, 0.1), spread=st.floats(0.0, 1.0), limit_s=st.floats(1e-3, 1.0), share=st.floats(0, 1)
)  # fmt: skip
def test_a_capacity_is_the_most_that_comes_in_time(
    service_s: float, spread: float, limit_s: float, share: float
) -> None:
    capacity = capacity_within(service_s, spread, limit_s)
    at_most = latency_at(capacity, service_s, spread)
    assert latency_at(share * capacity, service_s, spread) <= at_most * (1 + 1e-9)
    if capacity:
        assert at_most <= limit_s * (1 + 1e-9)
    if 0 < capacity * service_s < 0.97:
        assert latency_at(capacity + 1e-3 / service_s, service_s, spread) > limit_s


@given(
    seconds=st.lists(st.floats(1e-4, 0.2), min_size=4, max_size=4), limit_s=st.floats(1e-3, 1.0), share=st.floats(0, 1)
)  # fmt: skip
def test_a_capacity_in_batches_is_the_most_that_comes_in_time(
    seconds: list[float], limit_s: float, share: float
) -> None:
    batch_s: Batches = dict(zip((1, 2, 4, 8), sorted(seconds), strict=True))
    capacity = batched_capacity_within(batch_s, limit_s)
    at_most = batched_latency_at(capacity, batch_s)
    assert batched_latency_at(share * capacity, batch_s) <= at_most
    assert capacity == 0 or at_most <= limit_s * (1 + 1e-9)


@given(
    servers=st.lists(st.tuples(st.floats(1e-4, 0.1), st.floats(0.01, 1.0), st.floats(1e-3, 1.0)), min_size=1),
    share=st.floats(0, 1),
)
def test_of_many_servers_each_is_as_alone(servers: list[tuple[float, float, float]], share: float) -> None:
    service_s, spread, limit_s = np.array(servers).T
    capacities = capacity_within(service_s, spread, limit_s)
    latencies = latency_at(share * capacities, service_s, spread)
    in_batches = batched_capacity_within({1: service_s, 8: 2 * service_s}, limit_s)
    late_in_batches = batched_latency_at(share * in_batches, {1: service_s, 8: 2 * service_s})
    for place, (alone_s, alone_spread, limit) in enumerate(servers):
        batch_s = {1: alone_s, 8: 2 * alone_s}
        assert capacities[place] == (alone := capacity_within(alone_s, alone_spread, limit))
        assert latencies[place] == latency_at(share * alone, alone_s, alone_spread)
        assert in_batches[place] == (alone := batched_capacity_within(batch_s, limit))
        assert late_in_batches[place] == batched_latency_at(share * alone, batch_s)


def test_the_spread_behind_two_quantiles() -> None:
    assert spread_of(10.0, 10.0 * exp(1.645 * 0.4), 0.2) == pytest.approx(0.4, abs=1e-3)
    assert spread_of(None, 5.0, 0.2) == spread_of(5.0, 4.0, 0.2) == 0.2
    assert log(2) / 1.645 == pytest.approx(spread_of(10.0, 20.0, 0.2), abs=1e-3)
