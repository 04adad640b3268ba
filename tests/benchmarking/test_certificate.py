"""Each check of a certificate can fail, alone, and says by how much."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploycost.benchmarking.certificate import Evidence, certify
from deploycost.benchmarking.cores import CorePlan, HostState
from deploycost.benchmarking.endpoint import Target
from deploycost.records import Check, Slo
from loadtests.result import ProbeResult

MakeResult = Callable[..., ProbeResult]
HOST = HostState(duration_s=30, drift_ratio=0.02, steal_ratio=0.001)


@pytest.fixture
def evidence(make_result: MakeResult) -> Evidence:
    good = make_result([10] * 500)
    return Evidence(
        slo=Slo(p95_ms=100),
        cores=CorePlan((0,), (1,)),
        decisive=[good],
        at_capacity=[good],
        ceiling=make_result([1] * 600),
        host=HOST,
        agreement=(200, 200),
    )


def checks(evidence: Evidence) -> dict[str, Check]:
    return {check.name: check for check in certify(evidence).checks}


def test_a_good_test_is_certified(evidence: Evidence) -> None:
    certificate = certify(evidence)
    assert certificate.certified
    assert len(certificate.checks) == 10
    assert all(check.limit is not None and check.value is not None for check in certificate.checks)


@pytest.mark.parametrize(
    ("name", "change", "value"),
    [
        ("steal_time", {"host": replace(HOST, steal_ratio=0.2)}, 0.2),
        ("calibration_drift", {"host": replace(HOST, drift_ratio=0.3)}, 0.3),
        ("output_parity", {"agreement": (190, 200)}, 0.95),
        ("output_parity", {"agreement": (0, 0)}, 0),
        ("pinned_apart", {"cores": CorePlan((0, 1), (1,))}, 1),
        ("pinned_apart", {"cores": CorePlan((), ())}, None),
    ],
)
def test_a_fact_of_the_machine_can_fail_alone(
    evidence: Evidence, name: str, change: dict[str, Any], value: float | None
) -> None:
    certificate = certify(replace(evidence, **change))
    assert not certificate.certified
    failed = [check for check in certificate.checks if not check.ok]
    assert [(check.name, check.value) for check in failed] == [(name, value)]
    assert failed[0].explanation


def test_a_late_client_is_seen(evidence: Evidence, make_result: MakeResult) -> None:
    late = checks(replace(evidence, decisive=[make_result([50] * 500, dispatch_ms=20)]))["dispatch_delay_p99_ms"]
    assert not late.ok
    assert late.value == pytest.approx(20, rel=0.001)
    assert late.limit == 10


def test_a_busy_client_is_seen(evidence: Evidence, make_result: MakeResult) -> None:
    assert not checks(replace(evidence, decisive=[make_result([10] * 500, client_cpu_ratio=0.95)]))["client_cpu"].ok


def test_a_client_that_cannot_offer_more_is_seen(evidence: Evidence, make_result: MakeResult) -> None:
    slow = checks(replace(evidence, ceiling=make_result([30] * 600)))["null_server_p95_ms"]
    assert (slow.ok, slow.value) == (False, pytest.approx(30, rel=0.001))
    given_up = replace(evidence, ceiling=make_result([1] * 600, gave_up="so many were late"))
    assert not checks(given_up)["null_server_p95_ms"].ok


def test_failures_at_the_capacity_are_seen(evidence: Evidence, make_result: MakeResult) -> None:
    errors = checks(replace(evidence, at_capacity=[make_result([10] * 490 + [None] * 10)]))["error_ratio"]
    assert (errors.ok, errors.value) == (False, 0.02)
    # The upper end of Wilson's interval of 10 in 500.
    assert "at most 3.6 %" in errors.explanation


def test_requests_that_pile_up_are_seen(evidence: Evidence, make_result: MakeResult) -> None:
    # All 500 are due within the second and answered after it: 250 in flight on average, and nothing served.
    piled = checks(replace(evidence, at_capacity=[make_result([1000] * 500, late_ms=9999)]))["littles_law"]
    assert not piled.ok
    assert piled.value == pytest.approx(1, abs=0.05)


def test_a_growing_latency_is_seen(evidence: Evidence) -> None:
    growing = replace(evidence.at_capacity[0], medians_ms=[10, 20, 70, 90])
    check = checks(replace(evidence, at_capacity=[growing]))["stationarity"]
    # (70 + 90) / 2 - (10 + 20) / 2 = 65 ms of 100 ms.
    assert (check.ok, check.value) == (False, pytest.approx(0.65))


def test_what_was_not_there_to_check_is_left_out(evidence: Evidence) -> None:
    names = checks(replace(evidence, host=replace(HOST, steal_ratio=None), agreement=None))
    assert len(names) == 8
    assert not {"steal_time", "output_parity"} & set(names)


def test_few_requests_are_judged_by_the_longest_delay(evidence: Evidence, make_result: MakeResult) -> None:
    check = checks(replace(evidence, decisive=[make_result([10] * 100)]))["dispatch_delay_p99_ms"]
    assert check.ok
    assert "only 100 requests" in check.explanation


def test_a_rate_that_was_not_held_is_checked_for_the_client_and_the_machine_alone(evidence: Evidence) -> None:
    assert set(checks(replace(evidence, at_capacity=[]))) == {
        "dispatch_delay_p99_ms", "client_cpu", "null_server_p95_ms", "calibration_drift", "pinned_apart", "steal_time",
        "output_parity",
    }  # fmt: skip


def test_what_cannot_be_seen_of_a_service_is_told(evidence: Evidence) -> None:
    assert certify(evidence).unseen == ()
    running = replace(evidence, agreement=None, cores=CorePlan((), (1,)))
    here = certify(replace(running, target=Target("http://127.0.0.1:9000")))
    assert not here.certified
    assert [text.partition(":")[0] for text in here.unseen] == [
        "memory, CPU and power of the server",
        "its settings and how long it takes to start",
        "whether its answers are right",
    ]
    named = certify(replace(running, target=Target("http://127.0.0.1:9000", pid=1)))
    assert len(named.unseen) == 2
    # An address for documentation (RFC 5737), of no machine here: it shares no core with the client.
    elsewhere = certify(replace(running, target=Target("http://192.0.2.1:9000")))
    assert elsewhere.certified
    assert elsewhere.unseen[0].endswith("it is another one")
