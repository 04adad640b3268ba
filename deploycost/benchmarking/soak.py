"""A soak: one rate for a while, to see whether the objectives hold where a quote plans to run a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from deploycost.benchmarking.bench import Bench
from deploycost.benchmarking.cores import HostWatch, plan_cores
from deploycost.benchmarking.crossing import Prior
from deploycost.benchmarking.endpoint import running_endpoint
from deploycost.benchmarking.generator import running_generator
from deploycost.benchmarking.loadtest import Client, LoadSubject, Server, slo_of
from deploycost.benchmarking.search import PRECISIONS
from deploycost.benchmarking.settings import module_of
from deploycost.environment import MachineFacts, now
from deploycost.experiment import LoadSpec
from deploycost.records import Figure, Miss, ServerSettings, SoakRecord
from deploycost.stats import minimum_samples, wilson_interval
from loadtests.result import merged, quantile_ms


@dataclass(frozen=True)
class Soak:
    """What is to be held: a rate, why this one, for how many seconds, with which settings of the server."""

    rate_rps: float
    rate_reason: str
    duration_s: float
    settings: ServerSettings


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
    client, settings, slo = client or Client(), asked.settings, slo_of(spec)
    cores = plan_cores(settings.workers * settings.threads, client.crew.workers)
    module = tuple(server(settings) if server else module_of(subject.bundle_folder, settings))
    watch = HostWatch(cores.server)
    with ExitStack() as stack:
        generator = stack.enter_context(
            running_generator(subject.texts, cores.client, client.traffic, client.crew, progress)
        )
        name = f"the endpoint of {subject.variant}"
        endpoint = stack.enter_context(running_endpoint(name, module, cores.server))
        precision = PRECISIONS[spec.precision]
        # What is asked is how it goes for as long as was asked; a slow minute is part of the answer.
        bench = Bench(subject.variant, slo, precision, generator, endpoint, seed, progress, hasty=False)
        point = bench.probe(asked.rate_rps, asked.duration_s)
    delays = merged([bench.results[-1][0].dispatch])
    ratios = {miss.objective: missed_ratio(miss) for miss in point.misses}
    return SoakRecord(
        variant=subject.variant,
        slo=slo,
        rate_rps=asked.rate_rps,
        rate_reason=asked.rate_reason,
        point=point,
        missed_ratios=ratios,
        held=point.meets_slo,
        surely=point.meets_slo and all((ratios[m.objective].high or 0) <= m.allowed_ratio for m in point.misses),
        server=settings,
        dispatch_p99_ms=quantile_ms(delays, 0.99) if delays.get_total_count() >= minimum_samples(0.99) else None,
        calibration_drift_ratio=watch.finish().drift_ratio,
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
