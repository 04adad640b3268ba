"""Cores: apart where there are enough, and given back after use."""

import os

import pytest

from deploycost.benchmarking.cores import CorePlan, HostWatch, kernel_s, on_cores, plan_cores


def test_apart_only_where_no_core_is_shared() -> None:
    assert CorePlan((0,), (1,)).apart
    assert not CorePlan((0, 1), (1,)).apart
    assert not CorePlan((), ()).apart


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")
def test_server_from_the_start_and_client_at_the_end() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    plan = plan_cores(1)
    assert plan == CorePlan((allowed[0],), (allowed[-1],))
    assert not plan_cores(len(allowed)).apart
    with on_cores(plan.server):
        assert os.sched_getaffinity(0) == {allowed[0]}
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_the_kernel_takes_a_measurable_time() -> None:
    assert 1e-4 < kernel_s(()) < 1


def test_a_quiet_watch() -> None:
    state = HostWatch(()).finish()
    assert state.duration_s > 0
    assert state.drift_ratio >= 0
    assert state.steal_ratio is None or 0 <= state.steal_ratio <= 1
