"""The capacities that the load-test benchmark takes for true, and its simulated servers, by hand."""

import numpy as np
import pytest

from benchmarks.known_queues import (
    in_batches_s,
    known_queues,
    md1_capacity_rps,
    mm1_capacity_rps,
    one_by_one_s,
    simulated_capacity_rps,
    virtual_probe,
)
from benchmarks.loadtest import grid_s, virtual_search
from deploycost.benchmarking.search import PRECISIONS


def test_servers_by_hand() -> None:
    arrivals = np.array([0.0, 0.5, 3.0])
    assert one_by_one_s(arrivals, np.full(3, 1.0)).tolist() == [1.0, 1.5, 1.0]
    # Alone until 1.5; then both that waited, in 1 + 2 x 0.5.
    assert in_batches_s(np.array([0.0, 0.2, 0.4]), 1.0, 0.5, 8).tolist() == pytest.approx([1.5, 3.3, 3.1])
    # One at a time where batches hold one.
    assert in_batches_s(arrivals, 0.5, 0.5, 1).tolist() == [1.0, 1.5, 1.0]


def test_formulas_agree_with_simulation() -> None:
    def fixed(arrivals_s: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return one_by_one_s(arrivals_s, np.full(len(arrivals_s), 0.002))

    assert simulated_capacity_rps(fixed, 500, 0.04) == pytest.approx(md1_capacity_rps(0.002, 0.04), rel=0.01)
    # mu - ln(20) / t.
    assert mm1_capacity_rps(0.002, 0.04) == pytest.approx(500 - 74.89, abs=0.01)


def test_virtual_probes_are_given_up_as_real_ones() -> None:
    for queue in known_queues():
        spent_s: list[float] = []
        probe = virtual_probe(queue, 1.5, np.random.default_rng(0), spent_s.append)
        far = probe(3 * queue.truth_rps, 5.0)
        assert far.duration_s < 1
        assert far.strain > 10
        # Given up after a second of three times the load, whose last request waits for three times as long.
        assert spent_s[0] < 5
        near = probe(1.02 * queue.truth_rps, 5.0)
        assert near.duration_s == 5
        assert near.requests == round(5 * 1.02 * queue.truth_rps)
        assert 6.5 <= spent_s[1] < 7.5


def test_searches_in_virtual_time_find_the_truth() -> None:
    for queue in known_queues():
        found = [virtual_search(queue, "normal", seed) for seed in range(20)]
        assert sum(each.covers for each in found) >= 18, queue.name
        assert sum(abs(each.capacity_ratio - 1) <= 0.05 for each in found) >= 18, queue.name
        assert max(each.seconds for each in found) <= grid_s(PRECISIONS["normal"]) / 4
