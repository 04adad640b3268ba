"""The record of a probe, from requests whose moments were chosen by hand."""

import tracemalloc
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan import ProbePlan
from loadtests.recorder import KEPT_REQUESTS, NS_PER_MS, NS_PER_S, Answer, Recorder, Sent, _kept_us
from loadtests.result import ProbeResult, merged, new_histogram, quantile_ms, read_result, write_result

GOOD = Answer(label="World")


def recorded() -> Recorder:
    """A window of 2 s from second 1, on a clock that starts at 0."""
    recorder = Recorder(ProbePlan(rate_rps=2, late_ms=100, answers=2), window_start_ns=NS_PER_S)
    for due_ms, sent_ms, done_ms, answer in [
        (900, 900, 1100, GOOD),  # due in the warm-up: in flight for 100 ms of the window, recorded nowhere
        (1000, 1001, 1050, GOOD),
        (1500, 1500, 1700, GOOD),  # late
        (2000, 2003, 2030, Answer(error="HTTP 503")),
        (2500, 2500, 3200, GOOD),  # late, and answered after the window
    ]:
        recorder.record(Sent(7, due_ms * NS_PER_MS, sent_ms * NS_PER_MS, done_ms * NS_PER_MS), answer)
    return recorder


def test_counts_and_timings_by_hand() -> None:
    result = recorded().result(planned=4, window_end_ns=3 * NS_PER_S, gave_up="", client_cpu_ratio=0.25)
    assert (result.requests, result.answered, result.failed, result.late) == (4, 3, 1, 2)
    assert result.errors == {"HTTP 503": 1}
    # Three good answers came within the two seconds: at 1.1, 1.05 and 1.7 s.
    assert result.achieved_rps == 1.5
    # In flight: 100 + 50 + 200 + 30 + 500 ms of 2 s.
    assert result.mean_in_flight == pytest.approx(0.44)
    latency = merged([result.latency])
    assert latency.get_total_count() == 3
    assert quantile_ms(latency, 0.5) == pytest.approx(200, rel=0.001)
    assert quantile_ms(merged([result.service]), 0.1) == pytest.approx(49, rel=0.001)
    assert quantile_ms(merged([result.dispatch]), 1) == pytest.approx(1, rel=0.001)
    # 60 slices of 33.3 ms from the start of the window, by when a request was due: at 0, 500, 1000 and 1500 ms.
    told = {number: each for number, each in enumerate(result.slices) if each.requests}
    assert len(result.slices) == 60
    assert [(number, each.requests, each.late, each.failed) for number, each in told.items()] == [
        (0, 1, 0, 0), (15, 1, 1, 0), (30, 1, 0, 1), (45, 1, 1, 0),
    ]  # fmt: skip
    assert [each.median_ms for each in told.values()] == [
        pytest.approx(50, rel=0.001), pytest.approx(200, rel=0.001), None, pytest.approx(700, rel=0.001)
    ]  # fmt: skip
    assert result.answers == [(7, "World"), (7, "World")]


def test_histograms_of_several_probes_merge_exactly() -> None:
    results = [recorded().result(4, 3 * NS_PER_S, "", 0.0) for _ in range(3)]
    assert merged(result.latency for result in results).get_total_count() == 9


def test_a_result_survives_its_text() -> None:
    result = recorded().result(4, 3 * NS_PER_S, "because", 0.5)
    assert read_result(write_result(result)) == result


def test_other_json_is_not_a_result() -> None:
    with pytest.raises(ValueError, match="not the result of a probe"):
        read_result('{"event": "ready"}')


def test_a_quantile_is_the_smallest_value_that_enough_samples_are_within() -> None:
    histogram = new_histogram()
    for value_ms in range(1, 221):
        histogram.record_value(value_ms * 1000)
    # 95 % of 220 are 209.
    assert quantile_ms(histogram, 0.95) == pytest.approx(209, rel=0.001)
    assert quantile_ms(histogram, 0.9501) == pytest.approx(210, rel=0.001)
    assert quantile_ms(histogram, 1) == pytest.approx(220, rel=0.001)


def many(requests: int, kept: int, monkeypatch: pytest.MonkeyPatch, end_s: float = 3.0) -> ProbeResult:
    """So many requests in a window of 2 s after a warm-up of 1 s; `kept` of them are kept as they are told."""
    monkeypatch.setattr("loadtests.recorder.KEPT_REQUESTS", kept)
    source = Random(3)
    recorder = Recorder(ProbePlan(rate_rps=requests / 2, duration_s=2, late_ms=50, answers=7))
    dues = sorted(source.randrange(3 * NS_PER_S) for _ in range(requests))
    told = [
        Sent(number, due, due + source.randrange(NS_PER_MS), due + source.randrange(2, 200 * NS_PER_MS))
        for number, due in enumerate(dues)
    ]
    for sent in sorted(told, key=lambda sent: sent.done_ns):
        if sent.done_ns >= NS_PER_S and not recorder.warmup_s:
            recorder.open_window(NS_PER_S, 1.0, steady=True)
        recorder.record(sent, Answer(error="HTTP 500") if source.random() < 0.1 else Answer(label=str(sent.text)))
    assert len(recorder.seen) <= max(kept, requests // 3 + 100)
    return recorder.result(requests, round(end_s * NS_PER_S), "", 0.3)


def test_what_is_counted_under_load_is_what_would_be_counted_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert many(3000, 500, monkeypatch) == many(3000, 3000, monkeypatch)


def test_of_a_long_probe_that_was_given_up_only_the_slices_are_of_what_was_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted, kept = (many(3000, number, monkeypatch, end_s=2.9) for number in (1500, 3000))
    assert [each.requests > 0 for each in counted.slices][-3:] == [True, True, True]
    same = {"slices": kept.slices, "medians_ms": kept.medians_ms}
    assert replace(counted, **same) == kept
    assert sum(each.requests for each in counted.slices) == counted.requests


def test_millions_of_requests_take_no_more_memory_than_thousands() -> None:
    plan = ProbePlan(rate_rps=1000, duration_s=200, late_ms=50)
    recorder, source = Recorder(plan, window_start_ns=0), Random(5)
    tracemalloc.start()
    sizes = []
    for number in range(200_000):
        due_ns = number * NS_PER_MS
        done_ns = due_ns + source.randrange(NS_PER_MS, 40 * NS_PER_MS)
        recorder.record(Sent(number % 500, due_ns, due_ns + source.randrange(NS_PER_MS), done_ns), GOOD)
        if number in (60_000, 199_999):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(recorder.seen) == KEPT_REQUESTS
    # A slice takes as much as latencies differ; each request kept would have added some 300 bytes, 40 MB in all.
    assert sizes[1] - sizes[0] < 10e6


@given(st.integers(0, 4_000_000_000_000))
def test_a_value_is_kept_as_a_histogram_keeps_it(value_ns: int) -> None:
    value_us = max(1, (value_ns + 500) // 1000)
    assert value_us - _kept_us(value_ns) <= value_us / 1000
    assert new_histogram().get_lowest_equivalent_value(value_us) == _kept_us(value_ns)
