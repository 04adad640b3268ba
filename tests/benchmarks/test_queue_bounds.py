"""What no server can beat, against queues worked out by hand and against every schedule there is."""

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.queue_bounds import ideal_latencies_s, least_late, least_p95_s
from loadtests.arrivals import arrival_offsets_ns

_TIMES = st.integers(1, 9)


def test_the_ideal_queue_by_hand() -> None:
    # So slow a service that every request but the first waits for all before it.
    offsets_ns = arrival_offsets_ns("poisson", 3.0, 1.0, seed=7)
    latencies_s = ideal_latencies_s([10.0, 20.0], rate_rps=3.0, seconds=1.0, seed=7)
    pairs = zip(offsets_ns, latencies_s, strict=True)
    ends_s = [(offset_ns - offsets_ns[0]) / 1e9 + latency_s for offset_ns, latency_s in pairs]
    assert ends_s == pytest.approx([10.0, 30.0, 40.0])
    # And so fast a one that nobody waits.
    assert ideal_latencies_s([1e-12], rate_rps=3.0, seconds=1.0, seed=7) == pytest.approx([1e-12] * 3)


def test_the_one_in_the_way_is_given_up() -> None:
    # The long one is in time, and makes both that follow late; without it they are in time.
    assert least_late([0.0, 1.0, 2.0], [9.0, 3.0, 3.0], within_s=9.0) == 1
    assert least_late([0.0, 1.0, 2.0], [9.0, 3.0, 3.0], within_s=13.0) == 0
    assert least_late([0.0, 20.0], [9.0, 9.0], within_s=8.0) == 2


@given(st.lists(st.tuples(_TIMES, _TIMES), min_size=1, max_size=5), st.integers(1, 15))
def test_no_schedule_does_better(gaps_and_work: list[tuple[int, int]], within_s: int) -> None:
    due_s = [float(sum(gap for gap, _ in gaps_and_work[: place + 1])) for place in range(len(gaps_and_work))]
    work_s = [float(work) for _, work in gaps_and_work]
    everyone = range(len(due_s))
    in_time = max(
        size
        for size in range(len(due_s) + 1)
        for kept in combinations(everyone, size)
        if any(all_in_time(order, due_s, work_s, within_s) for order in permutations(kept))
    )
    assert least_late(due_s, work_s, within_s) == len(due_s) - in_time


def all_in_time(order: tuple[int, ...], due_s: list[float], work_s: list[float], within_s: float) -> bool:
    end_s = 0.0
    for number in order:
        end_s = max(end_s, due_s[number]) + work_s[number]
        if end_s - due_s[number] > within_s:
            return False
    return True


def test_the_least_p95_lies_between_the_work_and_the_queue_in_turn() -> None:
    service_s = [0.001, 0.003, 0.002]
    ideal_s = sorted(ideal_latencies_s(service_s, rate_rps=350.0, seconds=4.0, seed=7))
    least_s = least_p95_s(service_s, rate_rps=350.0, seconds=4.0, seed=7)
    assert 0.003 < least_s < ideal_s[int(0.95 * (len(ideal_s) - 1))]
