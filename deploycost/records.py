"""What each stage leaves behind: the only thing stages know of one another."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError

from deploycost.environment import MachineFacts
from deploycost.errors import UserError
from deploycost.record_checks import FORMAT_VERSION, OLDEST_FORMAT_VERSION, backward_clocks, other_format
from serving.bundle import Task

Basis = Literal["measured", "projected", "assumed"]
# From the surest to the least sure: a figure made of several is as sure as its least sure part.
BASES: tuple[Basis, ...] = ("measured", "projected", "assumed")
# Exact in memory, a plain number in JSON: prices have few enough digits to come back as they were.
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


class Record(BaseModel):
    """A frozen fact on disk. Unknown fields are refused, so that a record of a newer format is never half-read."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Figure(Record):
    """A number with its interval and its basis. `value` None is unknown; `low`, `high` None is no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    basis: Basis = "measured"


UNKNOWN_FIGURE = Figure(value=None, basis="assumed")


def weakest(*bases: Basis) -> Basis:
    """The least sure of several bases."""
    return max(bases, key=BASES.index)


class Scores(Record):
    """Classification scores on one split, 0..1; F1, precision and recall are macro averages over classes."""

    accuracy: float
    macro_f1: float
    precision: float
    recall: float
    rows: int


class MultiLabelScores(Scores):
    """Scores where each label is judged for itself, 0..1.

    `accuracy` is that of whole answers: the share of texts that get exactly their labels, none missing, none too many.
    Macro averages are over labels, micro ones over all decisions.
    """

    micro_f1: float
    micro_precision: float
    micro_recall: float


class RegressionScores(Record):
    """How near a regression's numbers are to the true ones, on one split, in the unit of the number.

    `mse` is the mean squared error, `mae` the mean absolute one; the correlations, -1..1, are Pearson's and Spearman's,
    None where the true numbers or the model's are all the same. There is no accuracy to a number.
    """

    mse: float
    mae: float
    pearson: float | None
    spearman: float | None
    rows: int


# None where the texts have no labels: then nothing is known of how right the answers are.
AnyScores = MultiLabelScores | Scores | RegressionScores | None


def accuracy_of(scores: AnyScores) -> float | None:
    """The share of right answers, 0..1, or None where none is known: texts without labels, or numbers."""
    return scores.accuracy if isinstance(scores, Scores) else None


class EpochScores(Record):
    """What one epoch of training came to; its duration is of training alone, without the judging."""

    epoch: float
    train_loss: float | None
    scores: Scores
    duration_s: float


class TrainingMemory(Record):
    """Where the memory of training goes, in bytes, by the model in `deploycost.training_memory`.

    `workspace` is what the framework holds beside the tensors: allocator slack, kernels, batches.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.workspace


class RankDecision(Record):
    """One change of one matrix's rank in dynamic-rank training; `importance` is AdaLoRA's, summed over its ranks."""

    step: int
    layer: str
    importance: float
    rank_before: int
    rank_after: int
    reason: str


class UnstableStep(Record):
    """A training step that went astray and what was done: its update undone, or damped to the usual size."""

    step: int
    remedy: Literal["undone", "damped"]
    reason: str


class RankHistory(Record):
    """How dynamic-rank training spread its ranks: the budget, each decision, and where it ended."""

    memory_budget_bytes: int | None
    initial_total_rank: int
    final_total_rank: int
    decisions: tuple[RankDecision, ...]
    final_ranks: dict[str, int]


class TuningRecord(Record):
    """One base model fine-tuned by one method: `runs/NAME/METHOD/tuning.json`.

    Rates are over `training_s`, the time in epochs; `tokens_per_s` counts real tokens, no padding. Peaks are of the
    training process from the loading of the model to the last step: `peak_memory_bytes` resident memory by the kernel's
    mark, `peak_pss_bytes` sampled proportional memory, `peak_gpu_memory_bytes` by torch's allocator,
    `peak_gpu_nvml_bytes` by the driver; baselines are of right before. The memory that training takes, which
    `predicted_memory` is of, is `peak_memory_bytes - baseline_memory_bytes`, on a GPU `peak_gpu_memory_bytes`:
    proportional memory moves with what other processes share. Judging and checkpoints between steps are left out, but
    for what the heap keeps of them. `energy_joules` is of the counter named in `energy_source`, None where there is
    none. `resumed_at_steps` are the checkpoints it went on from after being stopped.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: str
    slug: str
    base_model: str
    label_names: tuple[str, ...]
    dataset: str
    dataset_fingerprint: str
    dataset_description: str
    dataset_generated: bool
    train_rows: int
    hyper_parameters: dict[str, Any]
    scores: Scores
    epochs: tuple[EpochScores, ...]
    final_loss: float
    training_s: float
    samples_per_s: float
    tokens_per_s: float
    step_ms_p50: float
    step_ms_p95: float
    resumed_at_steps: tuple[int, ...] = ()
    baseline_memory_bytes: int
    peak_memory_bytes: int
    baseline_pss_bytes: int | None
    peak_pss_bytes: int | None
    peak_gpu_memory_bytes: int | None
    peak_gpu_nvml_bytes: int | None
    predicted_memory: TrainingMemory | None
    energy_joules: float | None
    energy_source: str
    trainable_parameters: int
    head_parameters: int
    total_parameters: int
    mean_tokens: float
    ranks: RankHistory | None = None
    unstable_steps: tuple[UnstableStep, ...] = ()
    tracker: str = "none"
    machine: MachineFacts
    finished_at: str

    @property
    def task(self) -> Task:
        """What is trained here: a choice of one label."""
        return "single-label"


class BroughtRecord(Record):
    """One trained model that was brought, not tuned here: `runs/NAME/MODEL/brought.json`.

    It stands where a `TuningRecord` may stand. `digest` marks the content of all files it was read from; `notes` say
    what had to be settled, as how its labels were matched. `scores` are its own, before it became any artifact. What
    its training took is not known: those fields are there, and null.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: Literal["brought"] = "brought"
    slug: str
    source: str
    kind: Literal["classifier", "adapter", "onnx"]
    architecture: str
    digest: str
    base_model: str
    task: Task
    label_names: tuple[str, ...]
    dataset: str
    dataset_fingerprint: str
    dataset_description: str
    dataset_generated: bool
    notes: tuple[str, ...]
    max_tokens: int
    scores: AnyScores
    training_s: None = None
    peak_memory_bytes: None = None
    trainable_parameters: None = None
    total_parameters: int
    mean_tokens: float
    machine: MachineFacts
    finished_at: str


# What artifacts are made of: a model tuned here, or one that was brought.
ModelRecord = TuningRecord | BroughtRecord


class OperatorTime(Record):
    """Time of one group of operators in one phase of a training step, in milliseconds per step."""

    group: Literal["matmul", "attention", "quantisation", "optimiser", "other"]
    phase: Literal["forward", "backward", "update"]
    time_ms: float
    calls: float


class ProfileRecord(Record):
    """Where the time of training steps goes: `runs/NAME/METHOD/profile/profile.json`, its trace file beside it."""

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: str
    slug: str
    steps: int
    step_ms: float
    times: tuple[OperatorTime, ...]
    trace_file: str
    machine: MachineFacts
    finished_at: str


class Parity(Record):
    """How far an artifact's logits are from the trained model's, on the whole test split.

    `relative_error` is the root mean square of the difference over the standard deviation of the trained model's
    logits about each row's mean; `agreement_ratio` is the share of rows where both name the same label, and
    `agreement_high` the upper end of its 95 % interval: a few rows on the edge between two labels refuse nothing.
    Where each label is judged for itself, or the answer is a number, the spread is about each column's mean; rows
    agree that get the same labels, all of them, or numbers less than half that spread apart.
    """

    relative_error: float
    relative_error_limit: float
    agreement_ratio: float
    agreement_high: float
    agreement_limit: float

    @property
    def ok(self) -> bool:
        """Whether both figures are within their limits, as far as the rows can tell."""
        return self.relative_error <= self.relative_error_limit and self.agreement_high >= self.agreement_limit


class AccuracyDrop(Record):
    """Accuracy that an artifact gives up against the trained model on the same test rows, with its 95 % interval.

    `lost_rows` only the trained model gets right, `won_rows` only the artifact; `limit` is what may be given up.
    """

    value: float
    low: float
    high: float
    lost_rows: int
    won_rows: int
    limit: float

    @property
    def refused(self) -> bool:
        """Whether more than the limit is given up, as surely as the rows can tell."""
        return self.low > self.limit

    @property
    def flagged(self) -> bool:
        """Whether more than the limit seems to be given up, which chance may account for."""
        return not self.refused and self.value > self.limit


class VocabularyTrim(Record):
    """What cutting the embedding table to the task's words came to, on the test split.

    `unseen_texts` are those that are split into other tokens than before, for a word that no training text has; the
    accuracies are on these alone, of the trained model and of the artifact, None where there are none.
    """

    tokens_before: int
    tokens_kept: int
    saved_bytes: int
    unseen_texts: int
    unseen_agreement_ratio: float | None
    unseen_accuracy: float | None
    unseen_trained_accuracy: float | None
    mean_tokens_ratio: float


class ExportRecord(Record):
    """One servable artifact of one tuned model: `runs/NAME/METHOD/ARTIFACT/export.json`.

    Calibration errors are expected ones over 15 equal-width bins (Guo et al., 2017), of the artifact's scores and of
    the trained model's. `calibration` names the texts that a quantiser watched. `shared_bytes` of `size_bytes` are in
    files that another artifact of the method held already, kept on the disk once.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    variant: str
    method: str
    artifact: str
    engine: str
    precision: str
    scores: AnyScores
    parity: Parity
    size_bytes: int
    export_s: float
    bundle_digest: str
    mean_tokens: float
    machine: MachineFacts
    finished_at: str
    calibration_error: float | None = None
    trained_calibration_error: float | None = None
    accuracy_drop: AccuracyDrop | None = None
    calibration: str = ""
    shared_bytes: int = 0
    vocabulary: VocabularyTrim | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, 0..1; None where it is unknown or the answers are numbers."""
        return accuracy_of(self.scores)


class ExportRefusal(Record):
    """An artifact that was refused when it was last made: `refused.json` in the place of its `export.json`.

    `reason` is the line that was told; the figures are those it was judged by, None where it did not come to them.
    `model_fingerprint` names the model that it was made of.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    model_fingerprint: str
    variant: str
    artifact: str
    reason: str
    parity: Parity | None = None
    accuracy_drop: AccuracyDrop | None = None
    finished_at: str


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
    """Power and energy at the capacity, and by whom: a counter of the machine, or a stated assumption."""

    watts: Figure
    joules_per_request: Figure
    source: str


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
    """Whether a load test's verdict can be trusted, and why not."""

    certified: bool
    checks: tuple[Check, ...]


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


class LoadRecord(Record):
    """What one artifact carries on one machine: `runs/NAME/METHOD/ARTIFACT/load.json`.

    A capacity of 0 says that no rate meets the objective; `capacity_reason` says why. `saturation_rps` is what a
    closed loop drew from the server, without regard to latency. The CPU ratios are at the capacity: of the server's
    cores, of the client's one, and of each core of the machine, whoever used it. `startup_s` runs from the start of
    the process until it is ready, `first_answer_s` until it has given its first answer. `tried` are the settings that
    `tuned` ones were chosen from.

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
    seed: int
    duration_s: float
    finished_at: str

    def p95_at(self, rate_rps: float) -> float | None:
        """The 95th percentile latency measured at the probe nearest to `rate_rps` from above, or None."""
        points = sorted((p for p in self.curve if p.p95_ms is not None), key=lambda p: p.rate_rps)
        for point in points:
            if point.rate_rps >= rate_rps:
                return point.p95_ms
        return points[-1].p95_ms if points else None


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


class SoakRecord(Record):
    """One artifact under a rate for a while: `soak.json` beside its `load.json`.

    `missed_ratios` are the shares of requests that missed each objective, with 95 % intervals that allow for how alike
    neighbouring requests were. `held` says that none was above what is allowed, `surely` that no interval was.
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
    environment: MachineFacts
    finished_at: str


class Variant(Record):
    """All that is known of one variant; `load` is None until it was load-tested.

    `elsewhere` holds load tests of the same artifact that were made on other machines; `tuning` is of the model it was
    made of, which may have been brought.
    """

    tuning: ModelRecord
    export: ExportRecord
    load: LoadRecord | None = None
    elsewhere: tuple[LoadRecord, ...] = ()

    @property
    def name(self) -> str:
        """Method and artifact, as in `qlora-r8.onnx-int8`."""
        return self.export.variant


class Service(Record):
    """A service of the user's own, known by its load tests alone: what it answers was never judged here."""

    name: str
    elsewhere: tuple[LoadRecord, ...]
    load: None = None


# What a quote can be made for.
Subject = Variant | Service


class UsdPerMillion(Record):
    """Price of a million predictions: at saturation, as planned, and as planned per correct one."""

    floor: Figure
    planned: Figure
    per_correct: Figure


class FleetPart(Record):
    """The machines of a quote that are bought alike: the most at once, their billed hours a month, their price row.

    Time is billed in whole `granularity_s`, and at least `minimum_s` each time a machine starts.
    """

    part: Literal["base", "peak"]
    purchase_option: str
    usd_per_hour: Usd
    granularity_s: int
    minimum_s: int
    replicas: int
    hours_per_month: float
    price_source: str
    price_date: str


class Quote(Record):
    """One variant on one machine or service. It pins the price row it used.

    `measured_capacity_rps` is what `capacity_rps` rests on: the same where it was measured on this very machine.
    `replicas` are the most at once, `replicas_by_hour` those of each hour of the week from Monday 0 h where the traffic
    has a shape, `fleet_hours` the machine-hours billed in a month. `parts` are the machines by how they are bought;
    where in several ways, `usd_per_hour` is what an hour costs on the mean. `usd_per_request` is what a request costs
    beside the hours: egress, the power that load adds to a machine of one's own, all of an API's price. A service or an
    API is paid by the request: its `usd_per_hour` is that of one instance at work, 0 where there is none.
    `training_monthly_usd` is the share of making the variant that is in the bill. `pareto` says whether no other quote
    of the sheet is at least as good in cost, p95 latency and accuracy and better in one; None where one of them is not
    known, or where it cannot be deployed.
    """

    variant: str
    kind: Literal["machine", "owned", "serverless", "api"] = "machine"
    cloud: str
    region: str
    instance_type: str
    purchase_option: str
    usd_per_hour: Usd
    capacity_rps: Figure
    capacity_reason: str
    measured_capacity_rps: Figure
    certified: bool
    replicas: int | None
    replicas_by_hour: tuple[int, ...] | None = None
    fleet_hours: float | None = None
    parts: tuple[FleetPart, ...] = ()
    usd_per_million: UsdPerMillion
    usd_per_request: Usd = Decimal(0)
    monthly_usd: Figure
    training_monthly_usd: float | None = None
    p95_ms: Figure
    accuracy: Figure
    fits_memory: bool | None
    memory_reason: str = ""
    meets_slo: bool | None
    energy_kwh_per_million: Figure = UNKNOWN_FIGURE
    grams_co2e_per_million: Figure = UNKNOWN_FIGURE
    energy_reason: str = ""
    pareto: bool | None = None
    price_source: str
    price_date: str


RecordType = TypeVar("RecordType", bound=Record)


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """The record in a JSON file.

    Raises:
        UserError: the file cannot be read, is damaged, is of another format version, or tells of a clock that ran
            backwards.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    version = other_format(text)
    if version is not None:
        readable = " to ".join(str(each) for each in dict.fromkeys((OLDEST_FORMAT_VERSION, FORMAT_VERSION)))
        raise UserError(
            f"{path} is a record of format {version}, and this deploycost reads format {readable}: "
            + ("take a newer deploycost" if version > FORMAT_VERSION else "run the command again to make it anew")
        )
    try:
        record = kind.model_validate_json(text)
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole file" for item in error.errors()}))
        raise UserError(
            f"{path} is not a {kind.__name__} of format {FORMAT_VERSION} (see {places}); "
            "delete it and run the command again to make it anew"
        ) from None
    backwards = backward_clocks(record)
    if backwards:
        raise UserError(
            f"{path}: a clock ran backwards ({'; '.join(backwards)}); set the clock right and measure again"
        )
    return record


def write_record(record: Record) -> str:
    """The record as the JSON that `read_record` takes."""
    return record.model_dump_json(indent=2) + "\n"
