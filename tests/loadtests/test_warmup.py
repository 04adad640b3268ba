"""When the measured window begins: as soon as latencies are steady, at once where waiting is of no use."""

import time
from random import Random

import gevent
import pytest

from loadtests.plan import ProbePlan
from loadtests.probe import run_probe
from loadtests.recorder import Answer
from loadtests.steady import cut_of, is_overrun, is_steady
from loadtests.warmup import Share

GOOD = Answer(label="World")


def test_the_cut_is_where_the_transient_ends_by_hand() -> None:
    # 20 values of 100, then 180 around 10: four batches of five go, and nothing after them.
    source = Random(1)
    values = [100.0] * 20 + [10 + source.uniform(-1, 1) for _ in range(180)]
    assert cut_of(values) == 20
    assert is_steady(values)
    # With most of the values in the transient there is no steady half yet.
    assert not is_steady([*[100.0 - n for n in range(60)], *values[20:50]])


def test_a_series_without_a_transient_is_kept_almost_whole() -> None:
    source = Random(2)
    cuts = [cut_of([source.expovariate(0.1) for _ in range(400)]) for _ in range(50)]
    assert sorted(cut for cut in cuts if cut is not None)[25] <= 40
    assert sum(cut is not None and cut <= 200 for cut in cuts) >= 45


def test_too_few_values_say_nothing() -> None:
    assert cut_of([1.0] * 9) is None
    assert not is_steady([1.0] * 9)
    assert is_steady([1.0] * 10)


def test_late_answers_that_get_later_are_an_overrun() -> None:
    assert is_overrun([10.0 * n for n in range(40)], late_ms=100)
    assert not is_overrun([400.0 - 10 * n for n in range(40)], late_ms=100)
    assert not is_overrun([1.0 * n for n in range(40)], late_ms=100)


def test_a_server_that_is_slow_at_first_is_measured_once_it_is_steady() -> None:
    begun_s = time.perf_counter()

    def send(_: int) -> Answer:
        # Answers that take 100 ms at first and 2 ms after twice the least warm-up.
        gevent.sleep(max(0.002, 0.1 * (1 - (time.perf_counter() - begun_s) / 0.8)))
        return GOOD

    plan = ProbePlan(rate_rps=100, arrivals="constant", warmup_s=0.4, duration_s=0.5, late_ms=1000)
    result = run_probe(plan, [0], send)
    assert result.requests == result.planned == 50
    assert 0.8 < result.warmup_s <= 1.6 + 0.3
    assert result.warmup_requests == pytest.approx(100 * result.warmup_s, abs=5)
    # None of the slow answers is in any figure; a busy machine has delays of its own.
    assert sum(median_ms is not None and median_ms > 55 for median_ms in result.medians_ms) <= 2


def test_a_server_that_never_is_steady_is_measured_all_the_same() -> None:
    def send(_: int) -> Answer:
        gevent.sleep(0.02 * (time.perf_counter() - begun_s))
        return GOOD

    begun_s = time.perf_counter()
    result = run_probe(ProbePlan(rate_rps=60, warmup_s=0.2, duration_s=0.4, late_ms=1000), [0], send)
    assert result.warmup_s <= 0.8 + 0.3
    assert result.requests == 24


def test_part_zero_decides_for_all() -> None:
    told: list[tuple[float, bool]] = []
    shares = [Share(0, 2, announce=lambda at, steady: told.append((at, steady))), Share(1, 2)]

    def hand_on() -> None:
        while not told:
            gevent.sleep(0.02)
        for share in shares:
            share.steady, share.window_unix_s = told[0][1], told[0][0]

    plan = ProbePlan(rate_rps=100, warmup_s=0.3, duration_s=0.6)
    probes = [gevent.spawn(run_probe, plan, [0, 1, 2], lambda _: GOOD, share) for share in shares]
    gevent.spawn(hand_on)
    gevent.joinall(probes, timeout=10, raise_error=True)
    first, second = (probe.value for probe in probes)
    assert first.requests + second.requests == 60
    assert first.warmup_s == pytest.approx(second.warmup_s, abs=0.1)
