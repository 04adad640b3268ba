"""One load test from start to record: starts the endpoint and the client, finds the capacity, stops both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from deploycost.benchmarking.bench import (
    Bench,
    Period,
    precise_enough,
    probe_ceiling,
    search,
    search_start,
    time_first_answer,
)
from deploycost.benchmarking.certificate import Evidence, certify
from deploycost.benchmarking.client import Client
from deploycost.benchmarking.cores import CorePlan, HostState, HostWatch
from deploycost.benchmarking.endpoint import running_endpoint
from deploycost.benchmarking.generator import Generator
from deploycost.benchmarking.meters import assumed_power, gpu_meter, measured_power, package_meter
from deploycost.benchmarking.sampling import Meters, Sampler
from deploycost.benchmarking.search import PRECISIONS, Start, capacity_of, patient
from deploycost.benchmarking.settings import Saturation, candidates, carries_more, propose
from deploycost.benchmarking.task import LoadSubject, Notes, Server, Task
from deploycost.benchmarking.verdict import QUANTILE
from deploycost.environment import MachineFacts, now
from deploycost.experiment import LoadSpec
from deploycost.records import LOAD_RULES, CurvePoint, Figure, LoadRecord, PowerUse, ServerSettings, TuningDraft
from deploycost.stats import minimum_samples
from deploycost.units import milliseconds, rate
from loadtests.result import ProbeResult, merged, quantile_ms

# Requests kept in flight per server thread to find what the server can do at most.
SATURATING_USERS = 4
# As many as give batches company.
TUNING_USERS = 16
# Probes so near above the capacity still tell how the server behaves at it.
EDGE_ROOM = 1.02


@dataclass(frozen=True)
class _Measured:
    """What the processes left behind when they had been stopped."""

    bench: Bench
    sampler: Sampler | None
    first_answer_s: float | None
    lone: ProbeResult
    start: Start
    saturation_rps: float
    points: list[CurvePoint]
    ceiling: ProbeResult


def measure(
    subject: LoadSubject,
    spec: LoadSpec,
    machine: MachineFacts,
    seed: int,
    progress: Callable[[str], None],
    server: Server | None = None,
    notes: Notes | None = None,
    client: Client | None = None,
) -> LoadRecord:
    """What a variant carries on this machine under the objectives of `spec`.

    Everything started is stopped again, also on an exception or Ctrl-C. Where no rate meets the objectives the record
    says so with a capacity of 0. `server` says which endpoint to start for some settings, by default the one that
    serves the bundle. For a `client` with a target none is started, and what is not known of a service that was running
    is None in the record.

    Raises:
        LoadTestFailed: the endpoint or the client died, hung, did not start, or never gave a good answer.
    """
    task = Task(subject, spec, machine, seed, progress, server, notes or Notes(), client or Client())
    return (
        _tuned(task)
        if spec.tune and task.client.target is None
        else _measure_with(task, ServerSettings(threads=spec.server_threads))
    )


def _tuned(task: Task) -> LoadRecord:
    """The record of the settings that carry the most: of the best of a search, or of the default."""
    tries, name = candidates(task.spec.server_threads), task.subject.variant
    draft = task.notes.draft or TuningDraft(fingerprint=task.subject.fingerprint, begun_at=now())
    if draft.tried:
        task.progress(f"{name}: settings were tried before, which is kept")
    else:
        with task.generator(task.cores(tries[0])) as generator:
            tried = propose(tries, partial(_saturated, task, generator), task.slo.p95_ms)
        draft = draft.model_copy(update={"tried": tried})
        task.notes.leave(draft)
    best = next(each.settings for each in draft.tried if each.settings != tries[0])
    for number, each in enumerate((tries[0], best), 1):
        if any(record.server == each for record in draft.records):
            continue
        task.progress(f"{name}: capacity {number} of 2, with {each.text}{' (the default)' if number == 1 else ''}")
        draft = draft.model_copy(update={"records": (*draft.records, _measure_with(task, each))})
        task.notes.leave(draft)
    found = {record.server: record for record in draft.records}
    chosen = best if carries_more(found[best].capacity_rps, found[tries[0]].capacity_rps) else tries[0]
    told = tuple(
        each.model_copy(update={"capacity_rps": found[each.settings].capacity_rps}) if each.settings in found else each
        for each in draft.tried
    )
    task.progress(f"{name}: chosen: {chosen.text}" + (", which no other surely beats" if chosen == tries[0] else ""))
    return found[chosen].model_copy(update={"tuned": True, "tried": told})


def _saturated(task: Task, generator: Generator, settings: ServerSettings) -> Saturation:
    """What the endpoint does with these settings under as many users as the objective leaves room for."""
    cores = task.cores(settings)
    with running_endpoint(task.name, task.module(settings), cores.server) as endpoint:
        bench = Bench(
            task.subject.variant,
            task.slo,
            PRECISIONS[task.spec.precision],
            generator,
            endpoint,
            task.seed,
            task.progress,
        )
        result = bench.closed(users=TUNING_USERS * task.spec.server_threads)
    latency = merged([result.latency])
    p95_ms = quantile_ms(latency, QUANTILE) if result.answered >= minimum_samples(QUANTILE) else None
    task.progress(f"{task.subject.variant}: {settings.text}: {rate(result.achieved_rps)}, p95 {milliseconds(p95_ms)}")
    return Saturation(result.achieved_rps, p95_ms)


def _measure_with(task: Task, settings: ServerSettings) -> LoadRecord:
    cores = task.cores(settings)
    watch = HostWatch(cores.server)
    with ExitStack() as stack:
        measured = _measure(stack, task, settings, cores)
    return _record(task, settings, cores, measured, watch.finish())


def _measure(stack: ExitStack, task: Task, settings: ServerSettings, cores: CorePlan) -> _Measured:
    subject, spec, slo = task.subject, task.spec, task.slo
    generator = stack.enter_context(task.generator(cores))
    endpoint = task.client.endpoint(stack, task.name, task.module(settings), cores)
    sampler = None
    if (pid := endpoint.child.pid) is not None:
        meters = Meters(package=package_meter(), gpu=gpu_meter())
        sampler = stack.enter_context(Sampler(pid, cores.client, meters))
    precision = precise_enough(PRECISIONS[spec.precision], slo)
    bench = Bench(subject.variant, slo, precision, generator, endpoint, task.seed, task.progress, task.notes.keep)
    # A service that was running has answered others before.
    first_answer_s = time_first_answer(endpoint, subject.texts[0]) if task.client.target is None else None
    if sampler:
        sampler.watch_idle()
    lone = bench.closed(users=1)
    users = SATURATING_USERS * settings.workers * settings.threads
    saturation_rps = bench.closed(users=users).achieved_rps
    start = search_start(lone, saturation_rps, slo)
    bench.precision = patient(precision, start)
    points = search(bench, start, saturation_rps, lone_ms=quantile_ms(merged([lone.service]), 0.5))
    # The null server takes its place, on the same cores.
    endpoint.child.stop()
    capacity_rps = capacity_of(points, start.prior, precision.doubt_ratio).value or saturation_rps
    ceiling = probe_ceiling(generator, cores, slo, capacity_rps)
    return _Measured(bench, sampler, first_answer_s, lone, start, saturation_rps, points, ceiling)


def _record(task: Task, settings: ServerSettings, cores: CorePlan, measured: _Measured, host: HostState) -> LoadRecord:
    subject, threads = task.subject, settings.workers * settings.threads
    slo, capacity = (
        measured.bench.slo,
        capacity_of(measured.points, measured.start.prior, measured.bench.precision.doubt_ratio),
    )
    decisive, at_capacity, busy = _at_the_edge(measured.bench, capacity)
    evidence = Evidence(
        slo=slo,
        cores=cores,
        decisive=decisive,
        at_capacity=at_capacity,
        ceiling=measured.ceiling,
        host=host,
        agreement=agreement(subject, [measured.lone]),
        loaded_agreement=agreement(subject, [each for each, _ in measured.bench.results if each is not measured.lone]),
        target=task.client.target,
    )
    sampler = measured.sampler
    return LoadRecord(
        fingerprint=subject.fingerprint,
        variant=subject.variant,
        slo=slo,
        capacity_rps=capacity,
        capacity_reason=_capacity_reason(capacity, measured),
        saturation_rps=measured.saturation_rps,
        curve=tuple(sorted(measured.points, key=lambda point: point.rate_rps)),
        memory_bytes=sampler.memory_use(busy) if sampler else None,
        gpu_memory_bytes=sampler.gpu_memory_use(busy) if sampler else None,
        startup_s=measured.bench.endpoint.startup_s,
        first_answer_s=measured.first_answer_s,
        server=settings if task.client.target is None else None,
        core_cpu_ratios=sampler.core_cpu_ratios(busy) if sampler else (),
        power=_power(task, sampler, busy, threads, at_capacity) if sampler else None,
        server_cores=threads,
        server_cpu_ratio=sampler.cpu_ratio(busy, threads) if sampler else None,
        client_cpu_ratio=max(result.client_cpu_ratio for result in at_capacity),
        mean_tokens=subject.mean_tokens,
        certificate=certify(evidence),
        environment=task.machine,
        bundle_digest=subject.bundle_digest,
        url=task.client.target.url if task.client.target else "",
        arrivals=task.client.traffic.arrivals,
        texts_per_request=task.client.traffic.texts_per_request,
        rules=LOAD_RULES,
        seed=task.seed,
        duration_s=host.duration_s,
        finished_at=now(),
    )


def _power(
    task: Task, sampler: Sampler, busy: list[Period], cores: int, at_capacity: Sequence[ProbeResult]
) -> PowerUse:
    answers_per_s = fmean(result.achieved_rps for result in at_capacity)
    counted = sampler.watts(busy)
    if counted is not None:
        idle = sampler.idle_watts()
        # Of other counters than at work it would be no part of that.
        return measured_power(*counted, answers_per_s, idle[0] if idle and idle[1] == counted[1] else None)
    ratio = sampler.cpu_ratio(busy, cores)
    return assumed_power(task.machine.cpu_model, cores * (1.0 if ratio is None else ratio), answers_per_s)


def _at_the_edge(bench: Bench, capacity: Figure) -> tuple[list[ProbeResult], list[ProbeResult], list[Period]]:
    """Probes within the interval of the capacity, those at or below its value there, and when the latter ran.

    The nearest probe below the value stands in where none is within. Where no rate met the objectives all open-loop
    probes are both.
    """
    probes = [(result, period) for result, period in bench.results if result.mode == "open"]
    value = capacity.value or 0.0
    if not value:
        return [result for result, _ in probes], [result for result, _ in probes], [period for _, period in probes]
    carried = [pair for pair in probes if pair[0].rate_rps <= value * EDGE_ROOM and not pair[0].gave_up] or probes
    nearest = max(result.rate_rps for result, _ in carried)
    low = min(capacity.low or value, nearest / EDGE_ROOM)
    high = capacity.high if capacity.high is not None else float("inf")
    decisive = [result for result, _ in probes if low <= result.rate_rps <= high]
    at_capacity = [pair for pair in carried if pair[0].rate_rps >= low]
    return decisive, [result for result, _ in at_capacity], [period for _, period in at_capacity]


def _capacity_reason(capacity: Figure, measured: _Measured) -> str:
    if capacity.value:
        return "" if capacity.high is not None else "no rate that was tried failed: this is a lower bound"
    alone_ms = quantile_ms(merged([measured.lone.service]), 0.5)
    slowest = min(measured.points, key=lambda point: point.rate_rps)
    return (
        f"no rate meets {measured.bench.slo.text}: a lone request takes {milliseconds(alone_ms)} "
        f"at the median, and at {rate(slowest.rate_rps)} {slowest.reason}"
    )


def agreement(subject: LoadSubject, results: Sequence[ProbeResult]) -> tuple[int, int] | None:
    """How many answers are as expected, of how many; None where nothing is known to expect."""
    expected = subject.expected_labels
    if expected is None:
        return None
    answers = [pair for result in results for pair in result.answers]
    tolerance = subject.tolerance
    if tolerance is None:
        return sum(expected[text] == label for text, label in answers), len(answers)
    near = sum(abs(float(expected[text]) - float(number)) <= tolerance for text, number in answers)
    return near, len(answers)
