"""What load tests leave behind: latencies at rates, what they took of the machine, and how far to trust them."""

from __future__ import annotations

from deploycost.environment import MachineFacts
from deploycost.records.base import Figure, Record
from deploycost.records.checks import FORMAT_VERSION


class Miss(Record):
    """How many requests of a probe missed one objective (`p95`, `errors`), of how many, and the share allowed.

    Requests of a queue are alike for a while: `design_effect` of them tell as much as one independent one.
    """

    objective: str
    missed: int
    requests: int
    allowed_ratio: float
    design_effect: float | None = None


class CurvePoint(Record):
    """One open-loop probe at a fixed arrival rate. A percentile with too few samples behind it is None.

    Latencies are schedule-relative: from the moment a request was due. `p95_low_ms` and `p95_high_ms` bracket the
    95th percentile, given the `effective_requests`: independent samples that tell as much as this queue's. `late`
    counts the answers beyond the limit of p95; `strain` is the largest of the shares in `misses` over what is allowed
    of each, so that above 1 the objective is not met.
    """

    rate_rps: float
    achieved_rps: float
    p50_ms: float | None
    p90_ms: float | None = None
    p95_ms: float | None
    p99_ms: float | None
    service_p50_ms: float | None = None
    p95_low_ms: float | None = None
    p95_high_ms: float | None = None
    late: int = 0
    strain: float = 0.0
    misses: tuple[Miss, ...] = ()
    effective_requests: float | None = None
    errors: int
    requests: int
    duration_s: float
    meets_slo: bool
    reason: str = ""


class ServerSettings(Record):
    """How an endpoint shares its work out: the flags of `deploycost serve` that bear the same names."""

    workers: int = 1
    threads: int = 1
    max_batch: int = 8
    batch_window_ms: float = 0.0

    @property
    def text(self) -> str:
        """The settings as flags."""
        return (
            f"--workers {self.workers} --threads {self.threads} "
            f"--max-batch {self.max_batch} --batch-window-ms {self.batch_window_ms:g}"
        )


class TriedSettings(Record):
    """Settings that a search tried: the median rate of its closed-loop rounds, and its capacity if it came so far."""

    settings: ServerSettings
    saturation_rps: float
    rounds: int
    p95_ms: float | None
    capacity_rps: Figure | None = None


class PowerUse(Record):
    """Power and energy at the capacity, and by whom: a counter of the machine, or a stated assumption.

    `idle_watts` is what the same counter told before the first request; None where there is no counter.
    """

    watts: Figure
    joules_per_request: Figure
    source: str
    idle_watts: Figure | None = None


class MemoryUse(Record):
    """Memory of the server's process tree, in bytes: proportional set size, or what it holds on a GPU."""

    idle: int
    at_capacity: int
    peak: int


class Check(Record):
    """One condition that a measurement must satisfy to be trusted."""

    name: str
    ok: bool
    value: float | None
    limit: float | None
    explanation: str = ""


class Certificate(Record):
    """Whether a load test's verdict can be trusted, and why not; `unseen` tells what could not be looked at."""

    certified: bool
    checks: tuple[Check, ...]
    unseen: tuple[str, ...] = ()


class Slo(Record):
    """The objectives that define a capacity, all of which must hold; a percentile that is None has no limit."""

    p95_ms: float
    max_error_ratio: float = 0.01
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None

    @property
    def limits(self) -> tuple[tuple[str, float, float], ...]:
        """Name, quantile and limit in milliseconds of each percentile that has a limit, the lowest first."""
        named = (("p50", 0.5, self.p50_ms), ("p90", 0.9, self.p90_ms), ("p95", 0.95, self.p95_ms))
        named = (*named, ("p99", 0.99, self.p99_ms))
        return tuple((name, quantile, limit) for name, quantile, limit in named if limit is not None)

    @property
    def text(self) -> str:
        """The limits of latency as people read them, as in `p95 <= 100 ms and p99 <= 300 ms`."""
        return " and ".join(f"{name} <= {limit:g} ms" for name, _, limit in self.limits)


# Of the rules by which load tests are made: raised when a change of ours makes earlier ones stale.
LOAD_RULES = 3
# Of records that do not tell by which they were made: by these or earlier ones.
_LOAD_RULES_UNTOLD = 2


class LoadRecord(Record):
    """What one artifact carries on one machine: `runs/NAME/METHOD/ARTIFACT/load.json`.

    A capacity of 0 says that no rate meets the objective; `capacity_reason` says why. `saturation_rps` is what a
    closed loop drew from the server, without regard to latency. The CPU ratios are at the capacity: of the server's
    cores, of the client's one, and of each core of the machine, whoever used it. `startup_s` runs from the start of
    the process until it is ready, `first_answer_s` until it has given its first answer. `tried` are the settings that
    `tuned` ones were chosen from. What was made by other `rules` than today's is stale: it may have found another
    capacity than a test would today.

    Where `url` is given it was a service that had been running there, of which there is no bundle (an empty
    `bundle_digest`), no settings or start-up time, and no memory, CPU or power unless its process was named. Rates
    count requests, each of `texts_per_request` texts.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    variant: str
    slo: Slo
    capacity_rps: Figure
    capacity_reason: str = ""
    saturation_rps: float | None = None
    curve: tuple[CurvePoint, ...]
    memory_bytes: MemoryUse | None = None
    gpu_memory_bytes: MemoryUse | None = None
    startup_s: float | None = None
    first_answer_s: float | None = None
    server: ServerSettings | None = ServerSettings()
    tuned: bool = False
    tried: tuple[TriedSettings, ...] = ()
    core_cpu_ratios: tuple[float, ...] = ()
    power: PowerUse | None = None
    server_cores: int
    server_cpu_ratio: float | None
    client_cpu_ratio: float | None
    mean_tokens: float | None
    certificate: Certificate
    environment: MachineFacts
    bundle_digest: str
    url: str = ""
    arrivals: str = "poisson"
    texts_per_request: int = 1
    rules: int = _LOAD_RULES_UNTOLD
    seed: int
    duration_s: float
    finished_at: str

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computed: the server took memory of it, or half precision was served, which is for GPUs alone.

        Of a service that runs elsewhere it is taken to, where there is one.
        """
        seen = self.gpu_memory_bytes is not None and self.gpu_memory_bytes.peak > 0
        return self.environment.gpu_model is not None and (seen or bool(self.url) or self.variant.endswith("-fp16"))

    def p95_at(self, rate_rps: float) -> float | None:
        """The 95th percentile latency measured at the probe nearest to `rate_rps` from above, or None."""
        points = sorted((p for p in self.curve if p.p95_ms is not None), key=lambda p: p.rate_rps)
        for point in points:
            if point.rate_rps >= rate_rps:
                return point.p95_ms
        return points[-1].p95_ms if points else None


class TuningDraft(Record):
    """A load test that seeks settings, as far as it came: `load-draft.json` until there is a `load.json` of it.

    `records` are of the settings whose capacity is found already.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    begun_at: str
    tried: tuple[TriedSettings, ...] = ()
    records: tuple[LoadRecord, ...] = ()


class LoadFailure(Record):
    """A load test that ended without a capacity, why, and the probes until then: `load-failure.json` in its place.

    An earlier `load.json` beside it is as it was.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    variant: str
    slo: Slo
    reason: str
    curve: tuple[CurvePoint, ...]
    environment: MachineFacts
    finished_at: str


class SoakFailure(Record):
    """A rate that could not be held to its end, because the endpoint or the client failed, or somebody stopped it, and
    what was seen until then: `soak-failure.json` beside an earlier `soak.json`, which is as it was.

    `point` is None where the probe left nothing.
    """

    format_version: int = FORMAT_VERSION
    variant: str
    slo: Slo
    rate_rps: float
    rate_reason: str
    duration_s: float
    reason: str
    point: CurvePoint | None
    environment: MachineFacts
    finished_at: str


class SoakRecord(Record):
    """One artifact under a rate for a while: `soak.json` beside its `load.json`.

    `missed_ratios` are the shares of requests that missed each objective, with 95 % intervals that allow for how alike
    neighbouring requests were. `held` says that none was above what is allowed, `surely` that no interval was. Where
    `url` is given it was a service that had been running there, as in a `LoadRecord`.
    """

    format_version: int = FORMAT_VERSION
    variant: str
    slo: Slo
    rate_rps: float
    rate_reason: str
    point: CurvePoint
    missed_ratios: dict[str, Figure]
    held: bool
    surely: bool
    server: ServerSettings | None
    dispatch_p99_ms: float | None
    calibration_drift_ratio: float
    certificate: Certificate | None = None
    memory_bytes: MemoryUse | None = None
    server_cpu_ratio: float | None = None
    url: str = ""
    arrivals: str = "poisson"
    texts_per_request: int = 1
    environment: MachineFacts
    finished_at: str
