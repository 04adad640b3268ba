"""Verdicts on probes whose latencies were chosen by hand."""

from collections.abc import Callable

import pytest

from deploycost.benchmarking.verdict import curve_point, give_up_ratio, hopeless_ms
from deploycost.records import Slo
from loadtests.result import ProbeResult

SLO = Slo(p95_ms=100, max_error_ratio=0.01)
MakeResult = Callable[..., ProbeResult]


def test_a_probe_in_time_meets_the_objective(make_result: MakeResult) -> None:
    point = curve_point(make_result([*range(1, 101)]), SLO)
    assert point.meets_slo
    assert point.reason == ""
    assert (point.requests, point.errors, point.late) == (100, 0, 0)
    assert point.p50_ms == pytest.approx(50, rel=0.001)
    assert point.p95_ms == pytest.approx(95, rel=0.001)
    assert point.p99_ms is None, "100 samples say nothing about a 99th percentile"
    # Ranks of 100 samples around the 95th percentile: P(B <= 89) = 2.8 %, P(B <= 88) = 1.1 %; P(B <= 98) = 96.3 %.
    assert point.p95_low_ms == pytest.approx(90, rel=0.01, abs=1.01)
    assert point.p95_high_ms == pytest.approx(100, rel=0.001)


def test_five_late_of_a_hundred_are_the_limit(make_result: MakeResult) -> None:
    at_the_limit = curve_point(make_result([10] * 95 + [150] * 5), SLO)
    assert (at_the_limit.meets_slo, at_the_limit.late, at_the_limit.strain) == (True, 5, pytest.approx(1))
    beyond = curve_point(make_result([10] * 94 + [150] * 6), SLO)
    assert (beyond.meets_slo, beyond.strain) == (False, pytest.approx(1.2))
    assert "p95 150 ms is above 100 ms" in beyond.reason


def test_failed_requests_fail_a_probe_and_leave_its_latencies_alone(make_result: MakeResult) -> None:
    point = curve_point(make_result([10] * 190 + [None] * 10), SLO)
    assert not point.meets_slo
    assert point.errors == 10
    assert point.strain == pytest.approx(5)
    assert point.reason == "10 of 200 requests failed, most of them with: HTTP 503"
    assert point.p95_ms == pytest.approx(10, rel=0.001)


def test_without_any_tolerance_one_failure_is_too_many(make_result: MakeResult) -> None:
    result = make_result([10] * 199 + [None])
    assert curve_point(result, SLO).meets_slo
    point = curve_point(result, Slo(p95_ms=100, max_error_ratio=0))
    assert not point.meets_slo
    assert point.strain > 1


def test_too_few_answers_prove_nothing(make_result: MakeResult) -> None:
    point = curve_point(make_result([1] * 92), SLO)
    assert not point.meets_slo
    assert point.p95_ms is None
    assert point.reason == "only 92 answers; p95 needs 93"
    assert point.strain > 1


def test_a_probe_that_was_given_up_does_not_meet_the_objective(make_result: MakeResult) -> None:
    point = curve_point(make_result([10] * 100, gave_up="7 of 110 requests were already late or failed"), SLO)
    assert not point.meets_slo
    assert point.reason.startswith("stopped early")
    assert point.strain > 1


def test_a_probe_that_served_less_than_was_offered_does_not_meet_the_objective(make_result: MakeResult) -> None:
    # Due within the second, answered 0.3 s later: 30 of 100 answers come after the window.
    point = curve_point(make_result([300] * 100, late_ms=1000), Slo(p95_ms=1000))
    assert not point.meets_slo
    assert "served 7" in point.reason


def test_give_up_allows_for_the_late_and_the_failed() -> None:
    assert give_up_ratio(SLO) == pytest.approx(4 * 0.06)


def test_waits_are_hopeless_where_hardly_any_burst_takes_them() -> None:
    # 5 % wait for 100 ms, 0.25 % for 200 ms, and so on: one in a million for 461 ms.
    assert hopeless_ms(SLO) == pytest.approx(461, abs=0.5)


def test_every_percentile_has_a_limit_of_its_own(make_result: MakeResult) -> None:
    slo = Slo(p95_ms=100, p50_ms=20, p99_ms=300)
    assert slo.text == "p50 <= 20 ms and p95 <= 100 ms and p99 <= 300 ms"
    fine = curve_point(make_result([10] * 960 + [90] * 40), slo)
    assert fine.meets_slo
    assert [(miss.objective, miss.missed, miss.requests) for miss in fine.misses] == [
        ("p50", 40, 1000), ("p95", 0, 1000), ("p99", 0, 1000), ("errors", 0, 1000),
    ]  # fmt: skip
    slow_tail = curve_point(make_result([10] * 980 + [400] * 20), slo)
    assert slow_tail.strain == pytest.approx(2)
    assert slow_tail.reason == "p99 400 ms is above 300 ms"
    slow_middle = curve_point(make_result([10] * 400 + [30] * 600), slo)
    assert slow_middle.strain == pytest.approx(1.2)
    assert slow_middle.reason == "p50 30 ms is above 20 ms"
    few = curve_point(make_result([10] * 200), slo)
    assert few.reason.startswith("only 200 answers; p99 needs")


def test_alike_neighbours_make_the_interval_of_a_percentile_wider(make_result: MakeResult) -> None:
    apart = curve_point(make_result(([10] * 18 + [90, 150]) * 100), SLO)
    bursts = curve_point(make_result(([10] * 450 + [90] * 25 + [150] * 25) * 4), SLO)
    assert apart.effective_requests is not None
    assert bursts.effective_requests is not None
    assert bursts.effective_requests < 200
    assert apart.effective_requests > 1000
    assert apart.p95_low_ms == pytest.approx(90, rel=0.01)
    few = curve_point(make_result([10] * 1800 + [150] * 200), Slo(p95_ms=200))
    assert few.effective_requests is None, "nothing was late, so nothing tells how alike neighbours are"
