"""The endpoint and the client side by side: every probe of a load test, in the order it is made."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from deploycost.benchmarking.cores import CorePlan
from deploycost.benchmarking.endpoint import Endpoint, running_endpoint
from deploycost.benchmarking.generator import Generator
from deploycost.benchmarking.queueing import guess_capacity_rps, guess_prior
from deploycost.benchmarking.search import Precision, Start, capacity_of, find_capacity, probe_duration_s
from deploycost.benchmarking.verdict import curve_point, give_up_ratio, hopeless_ms
from deploycost.errors import LoadTestFailed
from deploycost.records import CurvePoint, Slo
from deploycost.stats import minimum_samples
from deploycost.units import milliseconds, rate
from loadtests.plan import ProbePlan
from loadtests.result import ProbeResult, merged, quantile_ms

# Enough load to see what a server does whose lone requests are already too slow.
HOPELESS_RATIO = 0.3
CEILING_RATIO = 1.5
CEILING_S = 1.0
# So many requests at least, or the ends of the probe weigh too much in the rate it answered.
CEILING_REQUESTS = 300
# Two rates this near to one another tell the same.
NEAR_RATIO = 1.1
PARITY_ANSWERS = 200
FIRST_ANSWER_DEADLINE_S = 10.0
# A server that failed a probe gets this long to be ready again.
RECOVERY_S = 15.0
# Slow answers are waited for at least this long, so that they are counted late rather than lost.
DRAIN_S = 5.0

# Start and end on the `perf_counter` clock.
Period = tuple[float, float]


@dataclass
class Bench:
    """The two processes under way, and every probe made so far with the period it took.

    A `hasty` one gives a probe up as soon as requests pile up for good.
    """

    variant: str
    slo: Slo
    precision: Precision
    generator: Generator
    endpoint: Endpoint
    seed: int
    progress: Callable[[str], None]
    keep: Callable[[CurvePoint], None] = lambda _: None
    hasty: bool = True
    results: list[tuple[ProbeResult, Period]] = field(default_factory=list)

    @property
    def drain_s(self) -> float:
        """How long slow answers are waited for."""
        return max(DRAIN_S, 10 * max(limit_ms for _, _, limit_ms in self.slo.limits) / 1000)

    def _sent(self, plan: ProbePlan) -> ProbeResult:
        start_s = time.perf_counter()
        result = self.generator.run(self.endpoint.url, plan)
        self.results.append((result, (start_s, time.perf_counter())))
        return result

    def _require_alive(self) -> None:
        if not self.endpoint.child.alive:
            raise self.endpoint.child.death()

    def probe(self, rate_rps: float, duration_s: float) -> CurvePoint:
        """An open-loop probe; after one that failed, the endpoint is given time to be ready again.

        Its point is kept also where the endpoint died in it.

        Raises:
            LoadTestFailed: the endpoint or the client died, or the endpoint was not ready again.
        """
        plan = ProbePlan(
            rate_rps=rate_rps,
            warmup_s=self.precision.warmup_s,
            duration_s=duration_s,
            drain_s=self.drain_s,
            seed=self.seed + len(self.results),
            texts=self.generator.texts,
            late_ms=self.slo.p95_ms,
            give_up_ratio=give_up_ratio(self.slo),
            hopeless_ms=hopeless_ms(self.slo) if self.hasty else 0.0,
            answers=PARITY_ANSWERS,
        )
        point = curve_point(self._sent(plan), self.slo)
        self.keep(point)
        self._require_alive()
        verdict = "ok" if point.meets_slo else point.reason
        self.progress(f"{self.variant}: {rate(rate_rps)}, p95 {milliseconds(point.p95_ms)}: {verdict}")
        if not point.meets_slo:
            self.endpoint.wait_ready(RECOVERY_S)
        return point

    def closed(self, users: int) -> ProbeResult:
        """A closed-loop probe, which no answer can fail for being late.

        Raises:
            LoadTestFailed: the endpoint or the client died, or the endpoint gave no good answer at all.
        """
        result = self._sent(
            ProbePlan(
                mode="closed",
                concurrency=users,
                warmup_s=self.precision.warmup_s / 2,
                duration_s=self.precision.probe_s / 3,
                drain_s=self.drain_s,
                seed=self.seed + len(self.results),
                texts=self.generator.texts,
                late_ms=self.slo.p95_ms,
                answers=PARITY_ANSWERS,
            )
        )
        self._require_alive()
        if not result.answered:
            kinds = ", ".join(result.errors) or "nothing came back"
            raise LoadTestFailed(f"the endpoint of {self.variant} gave no good answer: {kinds}")
        return result


def time_first_answer(endpoint: Endpoint, text: str) -> float | None:
    """Seconds from the start of the process to its first answer, None where that is no good one."""
    start_s = time.perf_counter()
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=FIRST_ANSWER_DEADLINE_S)
    try:
        connection.request("POST", "/predict", json.dumps({"text": text}), {"Content-Type": "application/json"})
        answered = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return (endpoint.startup_s or 0.0) + time.perf_counter() - start_s if answered else None


def precise_enough(precision: Precision, slo: Slo) -> Precision:
    """The precision with probes long enough for the highest percentile that has a limit."""
    needed = max(minimum_samples(quantile) for _, quantile, _ in slo.limits)
    return replace(precision, requests=max(precision.requests, needed))


def search_start(lone: ProbeResult, saturation_rps: float, slo: Slo) -> Start:
    """Where to begin: what a queue of such service times carries within the tightest of the limits."""
    service = merged([lone.service])
    service_s = [quantile_ms(service, (step + 0.5) / 100) / 1000 for step in range(100)]
    guesses = [
        (guess_capacity_rps(service_s, saturation_rps, limit_ms / 1000, quantile), limit_ms / 1000)
        for _, quantile, limit_ms in slo.limits
    ]
    rate_rps, limit_s = min(guesses)
    return Start(rate_rps, guess_prior(service_s, saturation_rps, limit_s, rate_rps))


def search(bench: Bench, start: Start, saturation_rps: float, lone_ms: float) -> list[CurvePoint]:
    """All open-loop probes: the search for the capacity, then the curve below it."""
    precision = bench.precision
    if lone_ms > min(limit_ms for _, _, limit_ms in bench.slo.limits):
        rate_rps = HOPELESS_RATIO * saturation_rps
        return [bench.probe(rate_rps, probe_duration_s(rate_rps, precision))]
    points = list(find_capacity(bench.probe, start, precision))
    capacity_rps = capacity_of(points, start.prior, precision.doubt_ratio).value or 0.0
    for ratio in precision.curve_ratios:
        rate_rps = ratio * capacity_rps
        near = any(1 / NEAR_RATIO <= point.rate_rps / rate_rps <= NEAR_RATIO for point in points) if rate_rps else True
        if not near:
            points.append(bench.probe(rate_rps, probe_duration_s(rate_rps, precision)))
    return points


def probe_ceiling(generator: Generator, cores: CorePlan, slo: Slo, capacity_rps: float) -> ProbeResult:
    """What the client gets out of a server that does nothing, where the endpoint was, above the endpoint's rate."""
    rate_rps = CEILING_RATIO * capacity_rps
    with running_endpoint("the null server", ("loadtests.null_server",), cores.server) as null:
        return generator.run(
            null.url,
            ProbePlan(
                rate_rps=rate_rps,
                warmup_s=CEILING_S / 2,
                duration_s=max(CEILING_S, CEILING_REQUESTS / rate_rps),
                texts=generator.texts,
                late_ms=slo.p95_ms,
                give_up_ratio=give_up_ratio(slo),
            ),
            to_endpoint=False,
        )
