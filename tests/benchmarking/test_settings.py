"""The search for settings against servers made up of numbers."""

from itertools import count
from pathlib import Path

from deploycost.benchmarking.settings import Saturation, candidates, carries_more, module_of, propose
from deploycost.records import Figure, ServerSettings


def test_candidates_of_one_core_and_of_two() -> None:
    one, two = candidates(1), candidates(2)
    assert one[0] == ServerSettings()
    assert {each.threads * each.workers for each in one} == {1}
    assert two[0] == ServerSettings(threads=2)
    assert {(each.workers, each.threads) for each in two} == {(1, 2), (2, 1)}
    assert len(set(two)) == len(two) == 2 * len(one)


def test_the_best_is_proposed_and_the_default_is_tried_as_often() -> None:
    tries, order = candidates(1), []

    def saturate(settings: ServerSettings) -> Saturation:
        order.append(settings)
        return Saturation(rate_rps=100 + settings.max_batch, p95_ms=10)

    tried = propose(tries, saturate, limit_ms=100)
    assert tried[0].settings.max_batch == 32
    assert tried[0].saturation_rps == 132
    assert tried[1].settings == tries[0]
    # There and back, once: of five the better half are two.
    assert order == [*tries, *reversed(tries)]
    assert {each.rounds for each in tried} == {2}
    assert len(tried) == 5


def test_the_better_half_goes_on_until_two_are_left() -> None:
    tries = candidates(2)

    def saturate(settings: ServerSettings) -> Saturation:
        return Saturation(rate_rps=100 * settings.workers + settings.max_batch, p95_ms=10)

    tried = propose(tries, saturate, limit_ms=100)
    assert (tried[0].settings.workers, tried[0].settings.max_batch) == (2, 32)
    assert tried[1].settings == tries[0]
    # Ten, then five of them, the default among them although others were better.
    assert sorted(each.rounds for each in tried) == [2] * 5 + [4] * 5
    assert {each.rounds for each in tried[:2]} == {4}


def test_a_machine_that_slows_down_meets_all_alike() -> None:
    turns = count()

    def saturate(settings: ServerSettings) -> Saturation:
        # Each turn is 5 % slower than the one before; batches of 32 are 5 % faster than the others.
        return Saturation(rate_rps=100 * (1.05 if settings.max_batch == 32 else 1) - 5 * next(turns), p95_ms=10)

    tried = propose(candidates(1), saturate, limit_ms=100)
    assert tried[0].settings.max_batch == 32


def test_the_default_stays_where_a_difference_may_be_chance() -> None:
    usual = Figure(value=100, low=90, high=110)
    assert carries_more(Figure(value=111, low=95, high=130), usual)
    assert carries_more(Figure(value=105, low=101, high=109), usual)
    assert not carries_more(Figure(value=108, low=98, high=118), usual)
    assert not carries_more(Figure(value=90, low=80, high=99), usual)
    # Nothing met the objective: any capacity is more.
    assert carries_more(Figure(value=5, low=4, high=6), Figure(value=0, low=0, high=1))
    assert not carries_more(Figure(value=0, low=0, high=1), Figure(value=0, low=0, high=1))


def test_a_rate_that_ruins_latency_is_no_gain() -> None:
    def saturate(settings: ServerSettings) -> Saturation:
        slow = settings.max_batch == 32
        return Saturation(rate_rps=500 if slow else 100, p95_ms=900 if slow else 50)

    assert propose(candidates(1), saturate, limit_ms=100)[0].settings.max_batch != 32


def test_settings_reach_the_endpoint() -> None:
    module = module_of(Path("bundle"), ServerSettings(workers=2, threads=3, max_batch=4, batch_window_ms=2.5))
    assert module[0] == "serving"
    told = dict(zip(module[1::2], module[2::2], strict=True))
    assert told["--workers"] == "2"
    assert told["--threads"] == "3"
    assert told["--max-batch"] == "4"
    assert told["--batch-window-ms"] == "2.5"
