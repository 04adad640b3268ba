"""The search for settings against servers made up of numbers."""

from pathlib import Path

from deploycost.benchmarking.settings import Saturation, candidates, module_of, propose
from deploycost.records import ServerSettings


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
    rounds = {each.settings: each.rounds for each in tried}
    assert rounds[tries[0]] == rounds[tried[0].settings] == max(rounds.values())
    assert order[:5] == list(tries)
    assert len(tried) == 5


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
