"""Whether a load test can be trusted: what could have spoilt it, measured, each with the limit it had to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycost.benchmarking.cores import CorePlan, HostState
from deploycost.benchmarking.endpoint import Target
from deploycost.benchmarking.verdict import QUANTILE
from deploycost.records import Certificate, Check, Slo
from deploycost.stats import minimum_samples, wilson_interval
from loadtests.result import ProbeResult, merged, quantile_ms

# The client's own part in a latency, as a share of the objective.
MOST_CLIENT_SHARE = 0.1
MOST_CLIENT_CPU_RATIO = 0.8
LEAST_CEILING_RATIO = 0.95
MOST_STEAL_RATIO = 0.05
MOST_DRIFT_RATIO = 0.15
# Of the requests in flight, or of one request where fewer than one are.
MOST_LITTLE_RESIDUAL = 0.2
# By how much of the objective the median latency may grow from the first to the second half of a probe.
MOST_GROWTH_RATIO = 0.5
LEAST_AGREEMENT_RATIO = 0.99
# Under load texts are computed together, and a quantised model scales its activations by all of them: a few labels on
# the edge between two may change.
LEAST_LOADED_AGREEMENT_RATIO = 0.95


@dataclass(frozen=True)
class Evidence:
    """What a certificate is made from.

    `decisive` are the probes from the capacity to the lowest failing rate, never none. `at_capacity` are those at the
    capacity, none where a rate was not held: what it did to the server is the answer then. `ceiling` is a probe of a
    server that does nothing, above the capacity; `agreement` counts equal labels and compared ones of requests one at a
    time, `loaded_agreement` of all others; None without labels to expect.
    `target` is the service that was running, where none was started.
    """

    slo: Slo
    cores: CorePlan
    decisive: Sequence[ProbeResult]
    at_capacity: Sequence[ProbeResult]
    ceiling: ProbeResult
    host: HostState
    agreement: tuple[int, int] | None
    loaded_agreement: tuple[int, int] | None = None
    target: Target | None = None


def certify(evidence: Evidence) -> Certificate:
    """The certificate: certified if every check is ok."""
    checks = [
        _dispatch(evidence),
        _at_most(
            "client_cpu",
            max(result.client_cpu_ratio for result in evidence.decisive),
            MOST_CLIENT_CPU_RATIO,
            "share of one core that the client used",
        ),
        _ceiling(evidence),
        *(_at_capacity(evidence) if evidence.at_capacity else ()),
        _at_most(
            "calibration_drift",
            evidence.host.drift_ratio,
            MOST_DRIFT_RATIO,
            "change of the time that a fixed piece of work takes, after the test against before",
        ),
        _pinning(evidence.cores, elsewhere=evidence.target is not None and evidence.target.elsewhere),
    ]
    if (stolen := evidence.host.steal_ratio) is not None:
        checks.append(_at_most("steal_time", stolen, MOST_STEAL_RATIO, "share of CPU time that the host took away"))
    if evidence.agreement is not None:
        checks.append(_parity("output_parity", *evidence.agreement, LEAST_AGREEMENT_RATIO))
    if evidence.loaded_agreement is not None:
        checks.append(_parity("output_parity_under_load", *evidence.loaded_agreement, LEAST_LOADED_AGREEMENT_RATIO))
    return Certificate(certified=all(check.ok for check in checks), checks=tuple(checks), unseen=_unseen(evidence))


def _at_capacity(evidence: Evidence) -> tuple[Check, ...]:
    return (
        _errors(evidence),
        _at_most(
            "littles_law",
            max(_little_residual(result) for result in evidence.at_capacity),
            MOST_LITTLE_RESIDUAL,
            "requests in flight against rate x latency, relative difference",
        ),
        _at_most(
            "stationarity",
            max(_growth_ms(result) for result in evidence.at_capacity) / evidence.slo.p95_ms,
            MOST_GROWTH_RATIO,
            "growth of the median latency within a probe, as a share of the objective",
        ),
    )


def _unseen(evidence: Evidence) -> tuple[str, ...]:
    target, told = evidence.target, []
    if target is not None and target.elsewhere:
        told.append("memory, CPU, power and speed of the server's machine: it is another one")
    elif target is not None and target.pid is None:
        told.append("memory, CPU and power of the server: name its process with --pid")
    if target is not None:
        told.append("its settings and how long it takes to start: it was running before")
    if evidence.agreement is None and evidence.loaded_agreement is None:
        told.append("whether its answers are right: no labels are known to compare them with")
    return tuple(told)


def _at_most(name: str, value: float, limit: float, explanation: str) -> Check:
    return Check(name=name, ok=value <= limit, value=value, limit=limit, explanation=explanation)


def _dispatch(evidence: Evidence) -> Check:
    delays = merged(result.dispatch for result in evidence.decisive)
    limit = MOST_CLIENT_SHARE * evidence.slo.p95_ms
    if delays.get_total_count() < minimum_samples(0.99):
        text = f"only {delays.get_total_count()} requests; p99 needs {minimum_samples(0.99)}, so this is the longest"
        value = delays.get_max_value() / 1000
        return Check(name="dispatch_delay_p99_ms", ok=value <= limit, value=value, limit=limit, explanation=text)
    return _at_most("dispatch_delay_p99_ms", quantile_ms(delays, 0.99), limit, "how late the client sent requests")


def _ceiling(evidence: Evidence) -> Check:
    result, limit = evidence.ceiling, MOST_CLIENT_SHARE * evidence.slo.p95_ms
    p95_ms = quantile_ms(merged([result.latency]), QUANTILE)
    offered = result.achieved_rps >= LEAST_CEILING_RATIO * result.rate_rps and not result.gave_up
    return Check(
        name="null_server_p95_ms",
        ok=offered and p95_ms <= limit,
        value=p95_ms,
        limit=limit,
        explanation=f"latency of a server that does nothing, offered {result.rate_rps:.3g}/s, "
        f"answered {result.achieved_rps:.3g}/s",
    )


def _errors(evidence: Evidence) -> Check:
    failed = sum(result.failed for result in evidence.at_capacity)
    requests = sum(result.requests for result in evidence.at_capacity)
    most = wilson_interval(failed, requests)[1]
    text = f"{failed} of {requests} requests failed; with 95 % confidence at most {100 * most:.2g} % would"
    return _at_most("error_ratio", failed / max(1, requests), evidence.slo.max_error_ratio, text)


def _little_residual(result: ProbeResult) -> float:
    """Little's law, L = rate x mean time in the system (Little, 1961): off where requests are lost or pile up."""
    mean_s = merged([result.latency]).get_mean_value() / 1e6
    return abs(result.mean_in_flight - result.achieved_rps * mean_s) / max(1.0, result.mean_in_flight)


def _growth_ms(result: ProbeResult) -> float:
    medians = [value for value in result.medians_ms if value is not None]
    half = len(medians) // 2
    if half == 0:
        return 0.0
    return sum(medians[-half:]) / half - sum(medians[:half]) / half


def _pinning(cores: CorePlan, *, elsewhere: bool) -> Check:
    if elsewhere:
        text = "the server runs on another machine; cores that both use"
        return Check(name="pinned_apart", ok=True, value=0, limit=0, explanation=text)
    if not cores.server:
        return Check(
            name="pinned_apart",
            ok=False,
            value=None,
            limit=0,
            explanation="the server was not pinned to cores of its own",
        )
    shared = len(set(cores.server) & set(cores.client))
    text = f"server on cores {_listed(cores.server)}, client on {_listed(cores.client)}; cores they share"
    return _at_most("pinned_apart", shared, 0, text)


def _parity(name: str, agreed: int, compared: int, least: float) -> Check:
    ratio = agreed / compared if compared else 0.0
    text = f"{agreed} of {compared} labels over HTTP are those expected"
    return Check(name=name, ok=ratio >= least, value=ratio, limit=least, explanation=text)


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))
