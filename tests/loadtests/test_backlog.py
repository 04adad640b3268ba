"""When a probe is hopeless because requests pile up, and when it only looks so for a while."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.backlog import LEAST_S, LOOK_EVERY_S, Backlog, standard_error

LATE_S, HOPELESS_S, END_S = 0.04, 0.184, 6.5
# Of all requests, as of a load test with an objective of p95.
LATE_RATIO = 0.36


def told_at_s(
    rate_rps: float,
    service_s: Callable[[Random, float], float],
    seed: int,
    *,
    late_s: float = LATE_S,
    servers: int = 1,
    end_s: float = END_S,
) -> float | None:
    """When it is said of a queue of Poisson arrivals that it is hopeless; None if never."""
    source = Random(seed)
    free_s, due_s, dues_s, dones_s = [0.0] * servers, 0.0, [], []
    while (due_s := due_s + source.expovariate(rate_rps)) < end_s:
        free_s.sort()
        free_s[0] = max(due_s, free_s[0]) + service_s(source, due_s)
        dues_s.append(due_s)
        dones_s.append(free_s[0])
    lates_s = sorted(due_s + late_s for due_s, done_s in zip(dues_s, dones_s, strict=True) if done_s > due_s + late_s)
    dones_s.sort()
    backlog = Backlog(rate_rps, late_s, late_s * HOPELESS_S / LATE_S, end_s, LATE_RATIO)
    sent = answered = late = 0
    for number in range(int(end_s / LOOK_EVERY_S)):
        at_s = number * LOOK_EVERY_S
        while sent < len(dues_s) and dues_s[sent] <= at_s:
            sent += 1
        while answered < len(dones_s) and dones_s[answered] <= at_s:
            answered += 1
        while late < len(lates_s) and lates_s[late] <= at_s:
            late += 1
        if backlog.look(at_s, sent, answered, late):
            return at_s
    return None


def fixed(_: Random, __: float) -> float:
    return 0.002


def varied(source: Random, _: float) -> float:
    return source.expovariate(1 / 0.002)


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("service_s", [fixed, varied])
def test_a_server_that_is_outrun_is_told_within_moments(
    service_s: Callable[[Random, float], float], times: int
) -> None:
    for seed in range(5):
        at_s = told_at_s(times * 500, service_s, seed)
        assert at_s is not None
        assert at_s <= LEAST_S + LATE_S + 3 * LOOK_EVERY_S


@pytest.mark.parametrize(("service_s", "capacity_rps"), [(fixed, 462), (varied, 425)])
def test_a_burst_near_the_capacity_is_no_overrun(
    service_s: Callable[[Random, float], float], capacity_rps: int
) -> None:
    # Even a little beyond it, where a probe tells most about where it is.
    for ratio in (0.95, 1.0, 1.05):
        assert not any(told_at_s(ratio * capacity_rps, service_s, seed) for seed in range(40))


def test_a_pause_is_no_overrun() -> None:
    # Nothing is served for 1.5 s from the start, or in the middle; before and after there is room to spare.
    for begin_s in (0.0, 0.3, 2.0):

        def paused(_: Random, due_s: float, begin_s: float = begin_s) -> float:
            in_pause = begin_s <= due_s < begin_s + 0.002
            return 1.5 if in_pause else 0.001

        assert not any(told_at_s(300, paused, seed) for seed in range(10))


def test_a_few_answers_that_take_very_long_are_no_overrun() -> None:
    # Nobody queues, and p95 holds: 3 % take 5 s, and in flight there are 60 more after it.
    def slow_at_times(source: Random, _: float) -> float:
        return 5.0 if source.random() < 0.03 else 0.005

    assert not any(told_at_s(400, slow_at_times, seed, servers=1000) for seed in range(10))


def test_requests_that_are_served_side_by_side_fill_up_first() -> None:
    # 100 in flight at 100/s, when the first answers come after a second.
    assert not any(
        told_at_s(100, lambda source, _: source.uniform(0.9, 1.1), seed, late_s=1.5, servers=1000) for seed in range(10)
    )


def test_arrivals_beyond_what_the_rate_promises_are_no_fault_of_the_server() -> None:
    # It answers 100/s, as promised; 160/s come.
    backlog = Backlog(100, LATE_S, HOPELESS_S, END_S, LATE_RATIO)
    looks = [(step * LOOK_EVERY_S, step * 8, step * 5, step * 8) for step in range(100)]
    assert not any(backlog.look(*look) for look in looks)
    # Where so many were promised, it is.
    backlog = Backlog(160, LATE_S, HOPELESS_S, END_S, LATE_RATIO)
    told = next(text for look in looks if (text := backlog.look(*look)))
    assert told == "requests pile up: 62 % of them are answered"


def test_the_spread_of_a_sum_by_hand() -> None:
    # Deviations -1, 1, -1, 1 of four parts: squares 4, less a quarter that the mean takes.
    assert standard_error([1, 3, 1, 3]) == pytest.approx((4 / 0.75) ** 0.5)
    # -1, -1, 1, 1: 4 + 2 (1 - 1 + 1) = 6, over 1 - 1/4 - 6/16.
    assert standard_error([1, 1, 3, 3]) == pytest.approx((6 / 0.375) ** 0.5)
    # The same spread in two runs is that of fewer parts.
    alike = [0.0] * 10 + [2.0] * 10
    assert standard_error(alike) > 1.7 * standard_error([0.0, 2.0] * 10)


@given(st.lists(st.integers(0, 30), min_size=60, max_size=120), st.integers(0, 3))
@settings(max_examples=50)
def test_nothing_is_hopeless_while_answers_come_in_time(arrivals: list[int], behind_looks: int) -> None:
    # All that came is answered within some looks, which is within the limit.
    backlog = Backlog(sum(arrivals) / (len(arrivals) * LOOK_EVERY_S) + 1, 0.2, 1.0, 60, LATE_RATIO)
    sent = [sum(arrivals[: step + 1]) for step in range(len(arrivals))]
    for step, number in enumerate(sent):
        answered = sent[step - behind_looks] if step >= behind_looks else 0
        assert backlog.look(step * LOOK_EVERY_S, number, answered, 0) == ""
