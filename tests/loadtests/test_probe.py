"""The open loop against servers that are greenlets here: what a slow, stalled or dead one does to the figures."""

import time
from collections.abc import Callable

import gevent
import pytest
from gevent.lock import BoundedSemaphore

from loadtests.plan import ProbePlan
from loadtests.probe import run_probe
from loadtests.recorder import Answer
from loadtests.result import merged, quantile_ms

GOOD = Answer(label="World")
TEXTS = [0, 1]


def one_at_a_time(service_s: float) -> Callable[[int], Answer]:
    """A server that serves one request after another."""
    lock = BoundedSemaphore()

    def send(_: int) -> Answer:
        with lock:
            gevent.sleep(service_s)
        return GOOD

    return send


def test_latency_counts_from_the_due_time() -> None:
    # 50/s of requests that take 30 ms one at a time: after 1 s request 50 has waited for 50 x (30 - 20) ms = 500 ms.
    plan = ProbePlan(rate_rps=50, arrivals="constant", warmup_s=0, duration_s=1, late_ms=1000)
    result = run_probe(plan, TEXTS, one_at_a_time(0.03))
    assert result.requests == result.planned == 50
    longest_ms = quantile_ms(merged([result.latency]), 1)
    assert longest_ms >= 490
    # A closed loop of one user sees nothing of it.
    closed = run_probe(ProbePlan(mode="closed", warmup_s=0, duration_s=0.5), TEXTS, one_at_a_time(0.03))
    assert 30 <= quantile_ms(merged([closed.latency]), 0.5) < longest_ms / 4
    assert closed.achieved_rps <= 34


def test_a_stall_is_seen_by_all_that_were_due_in_it() -> None:
    sent_s: list[float] = []

    def send(_: int) -> Answer:
        sent_s.append(time.perf_counter())
        passed = sent_s[-1] - sent_s[0]
        gevent.sleep(0.7 - passed if 0.2 < passed < 0.7 else 0.001)
        return GOOD

    plan = ProbePlan(rate_rps=100, arrivals="constant", warmup_s=0, duration_s=1, late_ms=100)
    result = run_probe(plan, TEXTS, send)
    # Due between 0.2 s and 0.6 s, half a second's stall: 40 of 100 waited for more than 100 ms, where a client that
    # waits for answers would count one. A busy machine adds some of its own.
    assert result.late >= 34


def test_a_hopeless_probe_is_given_up_early() -> None:
    plan = ProbePlan(rate_rps=100, warmup_s=0, duration_s=5, late_ms=50, give_up_ratio=0.05, drain_s=0.2)
    start = time.perf_counter()
    result = run_probe(plan, TEXTS, one_at_a_time(0.1))
    assert time.perf_counter() - start < 2
    assert "already late or failed" in result.gave_up
    assert result.requests < result.planned == 500


def test_requests_that_pile_up_end_a_probe_before_anything_was_measured() -> None:
    # 40/s of 100/s are answered. The warm-up alone would last 4 s, and a quarter of the window 2.5 s more.
    plan = ProbePlan(
        rate_rps=100, warmup_s=4, duration_s=10, late_ms=50, give_up_ratio=0.36, hopeless_ms=230, drain_s=0.1
    )
    result = run_probe(plan, TEXTS, one_at_a_time(0.025))
    assert result.gave_up.startswith("requests pile up: ")
    assert result.gave_up.endswith(" % of them are answered")
    # What it saw in the later half of its time is told all the same.
    assert 0 < result.requests < 200
    assert result.warmup_s == pytest.approx(result.window_s, abs=0.2)
    assert result.late + result.failed == result.requests
    # A trace may bring more than the server bears for a while.
    trace = ProbePlan(**{**plan.__dict__, "arrivals": "trace", "trace": "t", "duration_s": 1.5, "warmup_s": 0})
    gave_up = run_probe(trace, TEXTS, one_at_a_time(0.025), trace_s=[0.01 * n for n in range(200)]).gave_up
    assert not gave_up.startswith("requests pile up")


def test_requests_without_an_answer_fail_when_the_drain_time_is_over() -> None:
    def send(_: int) -> Answer:
        gevent.sleep(60)
        return GOOD

    plan = ProbePlan(rate_rps=20, warmup_s=0, duration_s=0.5, drain_s=0.1)
    for mode in ("open", "closed"):
        start = time.perf_counter()
        result = run_probe(ProbePlan(**{**plan.__dict__, "mode": mode}), TEXTS, send)
        assert time.perf_counter() - start < 3
        assert result.errors == {"no answer in time": result.requests}
        assert result.requests == (10 if mode == "open" else 1)
        assert merged([result.latency]).get_total_count() == 0


def test_warm_up_is_not_recorded() -> None:
    plan = ProbePlan(rate_rps=40, arrivals="constant", warmup_s=0.5, duration_s=0.5)
    assert run_probe(plan, TEXTS, one_at_a_time(0.001)).requests == 20
