"""The search against simulated queues whose capacity is known, and its steps by hand."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from math import floor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.benchmarking.crossing import Prior, design_effect
from deploycost.benchmarking.queueing import guess_prior
from deploycost.benchmarking.search import (
    LONGEST_PROBE_S,
    PRECISIONS,
    Start,
    capacity_of,
    crossing_of,
    find_capacity,
    next_rate,
    patient,
    probe_duration_s,
)
from deploycost.records import CurvePoint, Miss
from loadtests.arrivals import arrival_offsets_ns

QUICK, NORMAL = PRECISIONS["quick"], PRECISIONS["normal"]


def point(rate_rps: float, strain: float, duration_s: float = 1, requests: int = 100) -> CurvePoint:
    return CurvePoint(
        rate_rps=rate_rps,
        achieved_rps=rate_rps,
        p50_ms=None,
        p95_ms=None,
        p99_ms=None,
        strain=strain,
        errors=0,
        requests=requests,
        duration_s=duration_s,
        meets_slo=strain <= 1,
    )


def md1_capacity_rps(service_s: float, limit_s: float) -> float:
    """The rate at which the 95th percentile of an M/D/1 queue's sojourn is `limit_s` (Erlang's formula, 1909).

    P(W <= t D) = (1 - rho) sum_k (rho (k - t))^k / k! exp(-rho (k - t)), k = 0 .. floor(t); its terms alternate in
    sign and grow large, so it is summed in decimals of many digits.
    """
    low, high = Decimal("0.001"), Decimal("0.999")
    with localcontext(prec=100):
        t = Decimal(limit_s) / Decimal(service_s) - 1
        for _ in range(20):
            rho = (low + high) / 2
            total, factorial = Decimal(0), Decimal(1)
            for k in range(floor(t) + 1):
                factorial *= max(k, 1)
                x = rho * (k - t)
                total += x**k / factorial * (-x).exp()
            low, high = (rho, high) if (1 - rho) * total >= Decimal("0.95") else (low, rho)
    return float(low) / service_s


def simulated_queue(
    service_s: float, limit_s: float, warmup_s: float, seed: int
) -> Callable[[float, float], CurvePoint]:
    """A probe of a server with one worker and a fixed service time, by Lindley's recursion; gives up as ours does."""
    source = Random(seed)

    def probe(rate_rps: float, duration_s: float) -> CurvePoint:
        seconds = warmup_s + duration_s
        dues = [at / 1e9 for at in arrival_offsets_ns("poisson", rate_rps, seconds, source.randrange(10**9))]
        planned, free_s = sum(due >= warmup_s for due in dues), 0.0
        lates: list[tuple[float, bool]] = []
        for due in dues:
            free_s = max(free_s, due) + service_s
            if due >= warmup_s:
                lates.append((due - warmup_s, free_s - due > limit_s))
            if sum(late for _, late in lates[-1:]) and sum(late for _, late in lates) > 0.24 * planned:
                break
        window_s = min(duration_s, lates[-1][0] + limit_s)
        slices = [[0, 0] for _ in range(60)]
        for at_s, late in lates:
            slices[min(59, int(60 * at_s / window_s))][0] += 1
            slices[min(59, int(60 * at_s / window_s))][1] += late
        return counted(rate_rps, [(sent, late) for sent, late in slices], window_s)

    return probe


def counted(rate_rps: float, slices: list[tuple[int, int]], duration_s: float = 5) -> CurvePoint:
    """A point with as many requests, late under a p95, as the slices hold."""
    requests, late = (sum(column) for column in zip(*slices, strict=True))
    miss = Miss(
        objective="p95", missed=late, requests=requests, allowed_ratio=0.05, design_effect=design_effect(slices)
    )
    plain = point(rate_rps, late / requests / 0.05, duration_s, requests)
    return plain.model_copy(update={"misses": (miss,)})


def test_the_formula_gives_a_known_queue() -> None:
    # No room for any waiting: P(W = 0) = 1 - rho must be 0.95, so rho is 0.05 of 10/s.
    assert md1_capacity_rps(0.1, 0.1000001) == pytest.approx(0.5, rel=0.01)
    # 5 ms and 100 ms, from 400,000 simulated arrivals of another implementation: 185.1/s.
    assert md1_capacity_rps(0.005, 0.1) == pytest.approx(185.1, rel=0.01)


@pytest.mark.parametrize(("service_s", "within"), [(0.00125, 0.03), (0.005, 0.06)])
def test_the_capacity_of_a_queue_is_found(service_s: float, within: float) -> None:
    truth, errors, covered = md1_capacity_rps(service_s, 0.1), [], 0
    saturation_rps = 1 / service_s
    start = Start(truth, guess_prior([service_s], saturation_rps, 0.1, truth))
    normal = patient(NORMAL, start)
    for seed in range(20):
        # A first guess that is off by up to 12 % either way.
        guess = replace(start, rate_rps=truth * Random(seed).uniform(0.88, 1.12))
        probe = simulated_queue(service_s, 0.1, normal.warmup_s, seed)
        points = find_capacity(probe, guess, normal)
        figure = capacity_of(points, start.prior, normal.doubt_ratio)
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high
        assert sum(p.duration_s + normal.warmup_s for p in points) <= 1.1 * NORMAL.budget_s
        covered += figure.low <= truth <= figure.high
        errors.append(figure.value / truth - 1)
    assert max(map(abs, errors)) < within
    assert abs(sum(errors) / len(errors)) < within / 2
    assert covered >= 18


@given(capacity=st.floats(1, 3000), guess_ratio=st.floats(0.2, 5))
def test_a_cliff_is_reported_as_an_interval_around_it(capacity: float, guess_ratio: float) -> None:
    def probe(rate_rps: float, duration_s: float) -> CurvePoint:
        return point(rate_rps, 0 if rate_rps <= capacity else 20, duration_s)

    figure = capacity_of(find_capacity(probe, Start(capacity * guess_ratio), NORMAL))
    assert figure.high is not None
    assert figure.low == figure.value
    assert figure.value is not None
    assert figure.value <= capacity < figure.high


def test_no_rate_meets_the_objective() -> None:
    tried: list[float] = []

    def probe(rate_rps: float, duration_s: float) -> CurvePoint:
        tried.append(rate_rps)
        return point(rate_rps, 20, duration_s=0.5)

    figure = capacity_of(find_capacity(probe, Start(1000), QUICK))
    assert (figure.value, figure.low, figure.high) == (0, 0, min(tried))
    assert min(tried) == 1000 / 32


def test_a_server_beyond_every_rate_tried_has_a_lower_bound() -> None:
    points = find_capacity(lambda rate_rps, duration_s: point(rate_rps, 0, duration_s), Start(100), QUICK)
    figure = capacity_of(points)
    assert figure.high is None
    assert figure.value == max(p.rate_rps for p in points) > 100


def test_steps_by_hand() -> None:
    precision, start = QUICK, Start(100)
    assert next_rate([], start, precision) == 100
    # Up from what passed, in steps that square.
    assert next_rate([point(100, 0)], start, precision) == pytest.approx(108)
    assert next_rate([point(100, 0), point(108, 0)], start, precision) == pytest.approx(108 * 1.08**2)
    # Down from what failed.
    assert next_rate([point(100, 9)], start, precision) == pytest.approx(100 / 1.08)
    # A cliff: the geometric mean of its gap.
    assert next_rate([point(100, 0), point(121, 9)], start, precision) == pytest.approx(110)
    # Narrow enough: both ends once more, the lower first; then nothing.
    ends = [point(100, 0), point(104, 9)]
    assert next_rate(ends, start, precision) == 100
    assert next_rate([*ends, point(100, 0)], start, precision) == 104
    assert next_rate([*ends, *ends], start, precision) is None


def test_probes_are_put_beside_the_crossing_now_above_and_now_below() -> None:
    start = Start(100, Prior(slope=20, design_effect=1))
    slices = [(10, 0), (10, 1)] * 30
    # 30 of 600 are late: just what is allowed, so the crossing is near 100, and 104 is above it.
    points = [counted(100, slices), counted(104, [(10, 1), (10, 2)] * 30)]
    below = next_rate(points, start, NORMAL)
    assert below is not None
    assert 90 < below < 100
    points += [counted(below, [(10, 0)] * 59 + [(10, 9)])] * 3
    found, above = crossing_of(points, start.prior), next_rate(points, start, NORMAL)
    assert found is not None
    assert above is not None
    assert found.rate_rps < above < 1.1 * found.rate_rps


def test_the_first_objective_to_fail_binds() -> None:
    slow = counted(100, [(100, 0)] * 60), counted(120, [(100, 20)] * 60)
    loose = Miss(objective="p50", missed=0, requests=6000, allowed_ratio=0.5)
    assert capacity_of([p.model_copy(update={"misses": (*p.misses, loose)}) for p in slow]) == capacity_of(slow)
    errors = [Miss(objective="errors", missed=n, requests=6000, allowed_ratio=0.01) for n in (0, 600)]
    both = [p.model_copy(update={"misses": (*p.misses, e)}) for p, e in zip(slow, errors, strict=True)]
    together, alone = capacity_of(both).value, capacity_of(slow).value
    assert together is not None
    assert alone is not None
    assert 100 < together < alone < 120


def test_a_repetition_that_overturns_a_verdict_widens_the_gap() -> None:
    # 104 passed by luck: pooled with a repetition that failed, its strain is (0.5 + 2) / 2.
    points = [point(100, 0.2), point(104, 0.5), point(108, 5), point(104, 5)]
    figure = capacity_of(points)
    assert (figure.low, figure.value, figure.high) == (100, 100, 104)


def test_a_probe_lasts_until_a_percentile_has_its_samples() -> None:
    assert probe_duration_s(1000, QUICK) == QUICK.probe_s
    assert probe_duration_s(11, QUICK) == pytest.approx(10)
    assert probe_duration_s(0.01, QUICK) == LONGEST_PROBE_S
