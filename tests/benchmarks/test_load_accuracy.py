"""The verdicts of the generator's benchmark, from figures chosen by hand."""

import pytest

from benchmarks.load_accuracy import Findings, Offer, Pair, Seen, sections, verdicts_of


def seen(p50: float, p95: float = 50.0, p99: float = 100.0) -> Seen:
    return Seen({"p50": p50, "p95": p95, "p99": p99}, dispatch_p99_ms=0.2)


def offer(rate_rps: float, achieved_rps: float, dispatch_p99_ms: float, errors: int = 0, workers: int = 1) -> Offer:
    return Offer(workers, rate_rps, achieved_rps, dispatch_p99_ms, 1.0, 0.5, errors)


@pytest.mark.parametrize(
    ("ours", "other", "agree"),
    [
        ([seen(10.9)], [seen(10.0)], True),  # 0.9 ms of 10
        ([seen(11.1)], [seen(10.0)], False),  # 1.1 ms, and 11 %
        ([seen(10, p99=104)], [seen(10, p99=100)], True),  # 4 %
        ([seen(10, p99=106)], [seen(10, p99=100)], False),
        # One turn that was disturbed does not count.
        ([seen(10), seen(60), seen(10)], [seen(10), seen(10), seen(10)], True),
    ],
)
def test_generators_agree_within_a_share_or_a_millisecond(ours: list[Seen], other: list[Seen], agree: bool) -> None:
    pair = Pair("server", 100, ours, other)
    assert all(pair.within(name) for name in ("p50", "p95", "p99")) is agree


def test_a_rate_is_held_if_all_was_offered_on_time() -> None:
    assert offer(2000, 1990, 4.9).held
    assert not offer(2000, 1990, 5.1).held
    assert not offer(2000, 1900, 1.0).held
    assert not offer(2000, 2000, 1.0, errors=1).held


def test_the_ceiling_is_that_of_one_process() -> None:
    pair = Pair("server", 100, [seen(10)], [seen(10)])
    offers = [offer(2000, 2000, 0.2), offer(4000, 4000, 3), offer(6000, 5000, 90), offer(6000, 6000, 1, workers=2)]
    found = Findings([pair], pair, offers)
    verdicts = verdicts_of(found)
    assert [verdict.met for verdict in verdicts] == [True, True, True]
    assert verdicts[-1].value == "4000/s, p99 0.20 ms late"
    assert [len(section.rows) for section in sections(found, verdicts)] == [3, 2, 4]
    slow = Findings([pair], pair, [offer(2000, 1500, 30)])
    assert not verdicts_of(slow)[-1].met
