"""One load test from start to record: starts the endpoint and the client, finds the capacity, stops both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploycost.benchmarking.bench import Bench, Period, probe_ceiling, search
from deploycost.benchmarking.certificate import Evidence, certify
from deploycost.benchmarking.cores import CorePlan, HostState, HostWatch, plan_cores
from deploycost.benchmarking.endpoint import endpoint_module, running_endpoint
from deploycost.benchmarking.generator import running_generator
from deploycost.benchmarking.sampling import Sampler
from deploycost.benchmarking.search import PRECISIONS, capacity_of
from deploycost.environment import MachineFacts, now
from deploycost.experiment import LoadSpec
from deploycost.records import CurvePoint, Figure, LoadRecord, Slo
from deploycost.units import milliseconds, rate
from loadtests.result import ProbeResult, merged, quantile_ms

# Requests kept in flight per server thread to find what the server can do at most.
SATURATING_USERS = 4


@dataclass(frozen=True)
class LoadSubject:
    """What is tested: a variant's bundle, the texts to send, and the labels they should get, in the same order.

    Where the answers are numbers, written as text, they should come within `tolerance` of those expected.
    """

    variant: str
    bundle_folder: Path
    bundle_digest: str
    texts: tuple[str, ...]
    expected_labels: tuple[str, ...] | None
    mean_tokens: float | None
    fingerprint: str
    tolerance: float | None = None


@dataclass(frozen=True)
class _Task:
    """What is to be done, and where."""

    subject: LoadSubject
    spec: LoadSpec
    cores: CorePlan
    module: tuple[str, ...]
    seed: int
    progress: Callable[[str], None]


@dataclass(frozen=True)
class _Measured:
    """What the processes left behind when they had been stopped."""

    bench: Bench
    sampler: Sampler
    lone: ProbeResult
    saturation_rps: float
    points: list[CurvePoint]
    ceiling: ProbeResult


def measure(
    subject: LoadSubject,
    spec: LoadSpec,
    machine: MachineFacts,
    seed: int,
    progress: Callable[[str], None],
    module: Sequence[str] | None = None,
) -> LoadRecord:
    """What a variant carries on this machine under the objective of `spec`.

    Everything started is stopped again, also on an exception or Ctrl-C. Where no rate meets the objective the record
    says so with a capacity of 0. `module` is the endpoint to start, by default the one that serves the bundle.

    Raises:
        LoadTestFailed: the endpoint or the client died, hung, did not start, or never gave a good answer.
    """
    module = module or endpoint_module(subject.bundle_folder, spec.server_threads)
    task = _Task(subject, spec, plan_cores(spec.server_threads), tuple(module), seed, progress)
    watch = HostWatch(task.cores.server)
    with ExitStack() as stack:
        measured = _measure(stack, task)
    return _record(task, machine, measured, watch.finish())


def _measure(stack: ExitStack, task: _Task) -> _Measured:
    subject, spec, cores = task.subject, task.spec, task.cores
    slo = Slo(p95_ms=spec.slo_p95_ms, max_error_ratio=spec.max_error_ratio)
    generator = stack.enter_context(running_generator(subject.texts, cores.client))
    endpoint = stack.enter_context(running_endpoint(f"the endpoint of {subject.variant}", task.module, cores.server))
    sampler = stack.enter_context(Sampler(endpoint.child.pid, cores.client))
    bench = Bench(subject.variant, slo, PRECISIONS[spec.precision], generator, endpoint, task.seed, task.progress)
    lone = bench.closed(users=1)
    saturation_rps = bench.closed(users=SATURATING_USERS * spec.server_threads).achieved_rps
    points = search(bench, lone, saturation_rps)
    # The null server takes its place, on the same cores.
    endpoint.child.stop()
    ceiling = probe_ceiling(generator, cores, slo, capacity_of(points).value or saturation_rps)
    return _Measured(bench, sampler, lone, saturation_rps, points, ceiling)


def _record(task: _Task, machine: MachineFacts, measured: _Measured, host: HostState) -> LoadRecord:
    subject, threads = task.subject, task.spec.server_threads
    slo, capacity = measured.bench.slo, capacity_of(measured.points)
    decisive, at_capacity, busy = _at_the_edge(measured.bench, capacity)
    evidence = Evidence(
        slo=slo,
        cores=task.cores,
        decisive=decisive,
        at_capacity=at_capacity,
        ceiling=measured.ceiling,
        host=host,
        agreement=_agreement(subject, measured.lone),
    )
    return LoadRecord(
        fingerprint=subject.fingerprint,
        variant=subject.variant,
        slo=slo,
        capacity_rps=capacity,
        capacity_reason=_capacity_reason(capacity, measured),
        saturation_rps=measured.saturation_rps,
        curve=tuple(sorted(measured.points, key=lambda point: point.rate_rps)),
        memory_bytes=measured.sampler.memory_use(busy),
        startup_s=measured.bench.endpoint.startup_s,
        server_cores=threads,
        server_cpu_ratio=measured.sampler.cpu_ratio(busy, threads),
        client_cpu_ratio=max(result.client_cpu_ratio for result in at_capacity),
        mean_tokens=subject.mean_tokens,
        certificate=certify(evidence),
        environment=machine,
        bundle_digest=subject.bundle_digest,
        seed=task.seed,
        duration_s=host.duration_s,
        finished_at=now(),
    )


def _at_the_edge(bench: Bench, capacity: Figure) -> tuple[list[ProbeResult], list[ProbeResult], list[Period]]:
    """Probes from the capacity to the lowest failing rate, those at the capacity, and when the latter ran.

    Where no rate met the objective all open-loop probes are both.
    """
    probes = [(result, period) for result, period in bench.results if result.mode == "open"]
    low = capacity.value or 0.0
    high = capacity.high if capacity.value and capacity.high is not None else float("inf")
    decisive = [result for result, _ in probes if low <= result.rate_rps <= high]
    at_capacity = [(result, period) for result, period in probes if low in (0.0, result.rate_rps)]
    return decisive, [result for result, _ in at_capacity], [period for _, period in at_capacity]


def _capacity_reason(capacity: Figure, measured: _Measured) -> str:
    if capacity.value:
        return "" if capacity.high is not None else "no rate that was tried failed: this is a lower bound"
    alone_ms = quantile_ms(merged([measured.lone.service]), 0.5)
    slowest = min(measured.points, key=lambda point: point.rate_rps)
    return (
        f"no rate meets p95 <= {measured.bench.slo.p95_ms:g} ms: a lone request takes {milliseconds(alone_ms)} "
        f"at the median, and at {rate(slowest.rate_rps)} {slowest.reason}"
    )


def _agreement(subject: LoadSubject, result: ProbeResult) -> tuple[int, int] | None:
    expected = subject.expected_labels
    if expected is None:
        return None
    tolerance = subject.tolerance
    if tolerance is None:
        return sum(expected[text] == label for text, label in result.answers), len(result.answers)
    near = sum(abs(float(expected[text]) - float(number)) <= tolerance for text, number in result.answers)
    return near, len(result.answers)
