"""A soak: one rate for a while, to see whether the objectives hold where a quote plans to run a server."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from deploycost.benchmarking.bench import Bench, Period, probe_ceiling
from deploycost.benchmarking.certificate import Evidence, certify
from deploycost.benchmarking.cores import CorePlan, HostWatch
from deploycost.benchmarking.crossing import Prior
from deploycost.benchmarking.loadtest import agreement
from deploycost.benchmarking.sampling import Sampler
from deploycost.benchmarking.search import PRECISIONS
from deploycost.benchmarking.task import Task
from deploycost.environment import now
from deploycost.records import CurvePoint, Figure, Miss, ServerSettings, SoakRecord
from deploycost.stats import minimum_samples, wilson_interval
from loadtests.result import ProbeResult, merged, quantile_ms


@dataclass(frozen=True)
class Soak:
    """What is to be held: a rate, why this one, for how many seconds, with which settings of the server.

    Settings that are None are those of a service that was running.
    """

    rate_rps: float
    rate_reason: str
    duration_s: float
    settings: ServerSettings | None


@dataclass(frozen=True)
class _Held:
    """What the processes left behind when they had been stopped: the probe, when it ran, and what came of it."""

    point: CurvePoint
    result: ProbeResult
    period: Period
    sampler: Sampler | None
    ceiling: ProbeResult


def soak(task: Task, asked: Soak) -> SoakRecord:
    """Whether the endpoint held the objectives of the task at the rate; everything started is stopped again.

    The task's notes are given what was seen of it, also where the endpoint died.

    Raises:
        LoadTestFailed: the endpoint or the client died, hung or did not start.
    """
    settings = asked.settings or ServerSettings(threads=task.spec.server_threads)
    cores = task.cores(settings)
    watch = HostWatch(cores.server)
    with ExitStack() as stack:
        held = _hold(stack, task, asked, settings, cores)
    evidence = Evidence(
        slo=task.slo,
        cores=cores,
        decisive=[held.result],
        at_capacity=[held.result] if held.point.meets_slo else [],
        ceiling=held.ceiling,
        host=watch.finish(),
        agreement=None,
        loaded_agreement=agreement(task.subject, [held.result]),
        target=task.client.target,
    )
    return _record(task, asked, settings, held, evidence)


def _hold(stack: ExitStack, task: Task, asked: Soak, settings: ServerSettings, cores: CorePlan) -> _Held:
    generator = stack.enter_context(task.generator(cores))
    endpoint = task.client.endpoint(stack, task.name, task.module(settings), cores)
    sampler = None
    if (pid := endpoint.child.pid) is not None:
        sampler = stack.enter_context(Sampler(pid, cores.client))
    bench = Bench(
        task.subject.variant,
        task.slo,
        PRECISIONS[task.spec.precision],
        generator,
        endpoint,
        task.seed,
        task.progress,
        task.notes.keep,
        # What is asked is how it goes for as long as was asked; a slow minute is part of the answer.
        hasty=False,
    )
    point = bench.probe(asked.rate_rps, asked.duration_s)
    # The null server takes its place, on the same cores.
    endpoint.child.stop()
    ceiling = probe_ceiling(generator, cores, task.slo, asked.rate_rps)
    return _Held(point, *bench.results[-1], sampler, ceiling)


def _record(task: Task, asked: Soak, settings: ServerSettings, held: _Held, evidence: Evidence) -> SoakRecord:
    point, client, sampler = held.point, task.client, held.sampler
    delays = merged([held.result.dispatch])
    ratios = {miss.objective: missed_ratio(miss) for miss in point.misses}
    return SoakRecord(
        variant=task.subject.variant,
        slo=evidence.slo,
        rate_rps=asked.rate_rps,
        rate_reason=asked.rate_reason,
        point=point,
        missed_ratios=ratios,
        held=point.meets_slo,
        surely=point.meets_slo and all((ratios[m.objective].high or 0) <= m.allowed_ratio for m in point.misses),
        server=asked.settings,
        dispatch_p99_ms=quantile_ms(delays, 0.99) if delays.get_total_count() >= minimum_samples(0.99) else None,
        calibration_drift_ratio=evidence.host.drift_ratio,
        certificate=certify(evidence),
        memory_bytes=sampler.memory_use([held.period]) if sampler else None,
        server_cpu_ratio=sampler.cpu_ratio([held.period], settings.workers * settings.threads) if sampler else None,
        url=client.target.url if client.target else "",
        arrivals=client.traffic.arrivals,
        texts_per_request=client.traffic.texts_per_request,
        environment=task.machine,
        finished_at=now(),
    )


def missed_ratio(miss: Miss) -> Figure:
    """The share that missed an objective, with Wilson's interval for as many requests as were independent.

    Where nothing was missed nothing tells how alike neighbours are: they are taken to be as in a usual queue.
    """
    if not miss.requests:
        return Figure(value=None)
    ratio = miss.missed / miss.requests
    independent = max(1, round(miss.requests / (miss.design_effect or Prior().design_effect)))
    low, high = wilson_interval(ratio * independent, independent)
    return Figure(value=ratio, low=low, high=high)
