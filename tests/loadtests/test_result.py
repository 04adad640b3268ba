"""Results of several processes: added up as if one had recorded everything."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.plan import ProbePlan
from loadtests.recorder import NS_PER_MS, NS_PER_S, Answer, Recorder, Sent
from loadtests.result import merge_results

PLAN = ProbePlan(rate_rps=100, duration_s=2, late_ms=50)


def recorder() -> Recorder:
    return Recorder(PLAN, window_start_ns=NS_PER_S, warmup_s=1.0, steady=True)


@settings(max_examples=8, deadline=None)
@given(parts=st.integers(1, 4), seed=st.integers(0, 999))
def test_histograms_and_counts_are_those_of_one_process_to_the_byte(parts: int, seed: int) -> None:
    source, whole, shares = Random(seed), recorder(), [recorder() for _ in range(parts)]
    for number in range(200):
        due_ns = NS_PER_S + number * 10 * NS_PER_MS
        sent_ns = due_ns + source.randrange(2 * NS_PER_MS)
        sent = Sent(number, due_ns, sent_ns, sent_ns + source.randrange(80 * NS_PER_MS))
        answer = Answer(error="HTTP 500") if source.random() < 0.1 else Answer(label="x")
        whole.record(sent, answer)
        shares[number % parts].record(sent, answer)
    end_ns = 3 * NS_PER_S
    one = whole.result(200, end_ns, "", 0.3)
    several = [share.result(len(share.seen), end_ns, "", 0.3) for share in shares]
    merged = merge_results(PLAN, several, 200, lost=0)
    assert (merged.latency, merged.service, merged.dispatch) == (one.latency, one.service, one.dispatch)
    assert merged.slices == one.slices
    assert abs(merged.mean_in_flight - one.mean_in_flight) < 1e-9
    same = {"workers": 1, "mean_in_flight": one.mean_in_flight, "achieved_rps": one.achieved_rps}
    assert replace(merged, **same) == one


def test_lost_workers_give_a_probe_up() -> None:
    part = recorder().result(0, 3 * NS_PER_S, "", 0.3)
    merged = merge_results(PLAN, [part], 200, lost=1)
    assert (merged.workers, merged.lost_workers, merged.planned) == (2, 1, 200)
    assert merged.gave_up == "1 of 2 workers of the load generator died"
