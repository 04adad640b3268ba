"""A soak: one rate for a while, to see whether the objectives hold where a quote plans to run a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from deploycost.benchmarking.bench import Bench, probe_ceiling
from deploycost.benchmarking.certificate import Evidence, certify
from deploycost.benchmarking.client import Client
from deploycost.benchmarking.cores import HostWatch
from deploycost.benchmarking.crossing import Prior
from deploycost.benchmarking.generator import running_generator
from deploycost.benchmarking.loadtest import LoadSubject, Server, agreement, slo_of
from deploycost.benchmarking.sampling import Sampler
from deploycost.benchmarking.search import PRECISIONS
from deploycost.benchmarking.settings import module_of
from deploycost.environment import MachineFacts, now
from deploycost.experiment import LoadSpec
from deploycost.records import CurvePoint, Figure, Miss, ServerSettings, SoakRecord
from deploycost.stats import minimum_samples, wilson_interval
from loadtests.result import merged, quantile_ms


@dataclass(frozen=True)
class Soak:
    """What is to be held: a rate, why this one, for how many seconds, with which settings of the server.

    Settings that are None are those of a service that was running.
    """

    rate_rps: float
    rate_reason: str
    duration_s: float
    settings: ServerSettings | None


def soak(
    subject: LoadSubject,
    spec: LoadSpec,
    asked: Soak,
    machine: MachineFacts,
    seed: int,
    progress: Callable[[str], None],
    server: Server | None = None,
    client: Client | None = None,
) -> SoakRecord:
    """Whether the endpoint held the objectives of `spec` at the rate; everything started is stopped again.

    Raises:
        LoadTestFailed: the endpoint or the client died, hung or did not start.
    """
    client, slo = client or Client(), slo_of(spec)
    settings = asked.settings or ServerSettings(threads=spec.server_threads)
    threads = settings.workers * settings.threads
    cores = client.cores(threads)
    module = server(settings) if server else module_of(subject.bundle_folder, settings)
    watch = HostWatch(cores.server)
    with ExitStack() as stack:
        generator = stack.enter_context(
            running_generator(subject.texts, cores.client, client.traffic, client.crew, progress)
        )
        endpoint = client.endpoint(stack, f"the endpoint of {subject.variant}", module, cores)
        sampler = None
        if (pid := endpoint.child.pid) is not None:
            sampler = stack.enter_context(Sampler(pid, cores.client))
        precision = PRECISIONS[spec.precision]
        # What is asked is how it goes for as long as was asked; a slow minute is part of the answer.
        bench = Bench(subject.variant, slo, precision, generator, endpoint, seed, progress, hasty=False)
        point = bench.probe(asked.rate_rps, asked.duration_s)
        endpoint.child.stop()
        ceiling = probe_ceiling(generator, cores, slo, asked.rate_rps)
    result, period = bench.results[-1]
    evidence = Evidence(
        slo=slo,
        cores=cores,
        decisive=[result],
        at_capacity=[result] if point.meets_slo else [],
        ceiling=ceiling,
        host=watch.finish(),
        agreement=None,
        loaded_agreement=agreement(subject, [result]),
        target=client.target,
    )
    return _record(subject, asked, machine, client, point, evidence).model_copy(
        update={
            "memory_bytes": sampler.memory_use([period]) if sampler else None,
            "server_cpu_ratio": sampler.cpu_ratio([period], threads) if sampler else None,
        }
    )


def _record(
    subject: LoadSubject, asked: Soak, machine: MachineFacts, client: Client, point: CurvePoint, evidence: Evidence
) -> SoakRecord:
    delays = merged(result.dispatch for result in evidence.decisive)
    ratios = {miss.objective: missed_ratio(miss) for miss in point.misses}
    return SoakRecord(
        variant=subject.variant,
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
        url=client.target.url if client.target else "",
        arrivals=client.traffic.arrivals,
        texts_per_request=client.traffic.texts_per_request,
        environment=machine,
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
