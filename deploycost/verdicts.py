"""What questions are answered with: quote sheet, recommendation, return, advice. Reports read nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, field_validator

from deploycost.records import FORMAT_VERSION, Figure, LoadRecord, Quote, Record, TrainingMemory, Usd
from deploycost.traffic_shape import HOURS_PER_WEEK
from deploycost.units import GIB, HOURS_PER_MONTH

NotReached = Literal["not reached"]
NOT_REACHED: NotReached = "not reached"

# What a slim Linux with its agents keeps for itself, before the server starts.
OS_RESERVE_BYTES = GIB // 2


class Traffic(Record):
    """The requests that must be served: how many a month, and when.

    `hourly_weights` is the shape of the week, 168 relative weights from Monday 0 h on, `shape` what it is called.
    Without one, only the peak is known: `peak_to_mean_ratio` times the mean rate. With one the peak is that of its
    busiest hour.
    """

    requests_per_month: int = Field(ge=1)
    peak_to_mean_ratio: float = Field(default=3.0, ge=1)
    shape: str = ""
    hourly_weights: tuple[float, ...] | None = None

    @field_validator("hourly_weights")
    @classmethod
    def _a_week(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and (len(weights) != HOURS_PER_WEEK or not sum(weights) or min(weights) < 0):
            raise ValueError(f"expected {HOURS_PER_WEEK} weights, none negative and not all zero")
        return weights


class Policy(Record):
    """How machines are planned and paid: load at the peak, spares, hours billed, and what is added to the bill.

    `autoscale` follows the hours of the traffic in steps of `scale_step` machines, each started `cold_start_s` before
    its hour and billed from then on. `mix` names the purchase options of the machines that every hour needs (`base`)
    and of the others (`peak`). Of spot machines a share of `spot_interruption_ratio` is taken to be away at any time.
    On a serverless service a share of `cold_start_ratio` of requests waits for an instance to start.
    Storage is of each machine, egress of each answer. With `horizon_months` what making a variant cost once is spread
    over so many months.
    """

    utilisation_ratio: float = Field(default=0.7, gt=0, le=1)
    spare_replicas: int = Field(default=1, ge=0)
    hours_per_month: int = Field(default=HOURS_PER_MONTH, ge=1)
    autoscale: bool = False
    scale_step: int = Field(default=1, ge=1)
    cold_start_s: float = Field(default=0.0, ge=0)
    mix: dict[Literal["base", "peak"], str] = Field(default_factory=dict)
    spot_interruption_ratio: float = Field(default=0.0, ge=0, lt=1)
    cold_start_ratio: float = Field(default=0.01, ge=0, le=1)
    storage_gib: float = Field(default=0.0, ge=0)
    storage_usd_per_gib_month: Usd = Field(default=Decimal(0), ge=0)
    response_bytes: int = Field(default=0, ge=0)
    egress_usd_per_gib: Usd = Field(default=Decimal(0), ge=0)
    horizon_months: int | None = Field(default=None, ge=1)


class Capacity(Record):
    """What one variant carries on one machine for hire, and how that is known.

    `load` is the measurement it rests on and `server_copies` how many of the measured servers share the machine; both
    are None where nothing is known. `p95_ms` is the latency to expect at the planned load, where it was not measured.
    """

    capacity_rps: Figure
    reason: str
    load: LoadRecord | None = None
    server_copies: int | None = None
    p95_ms: Figure | None = None

    @property
    def own_load(self) -> LoadRecord | None:
        """The measurement, if it was made on this very machine."""
        return self.load if self.capacity_rps.basis == "measured" else None


class UnknownQuotes(Record):
    """Quotes without a price for one reason: how many, and on which machines (the first few)."""

    reason: str
    quotes: int
    machines: tuple[str, ...]
    machine_count: int


class QuoteSheet(Record):
    """Variants on machines, cheapest first unless `sort` says otherwise; what is unknown comes last.

    Of a great many quotes only those worth showing are made: `left_out` counts the others that have a price,
    `unknown` tells of those that have none. `refused` are those that the limits asked for kept out.
    """

    format_version: int = FORMAT_VERSION
    quotes: tuple[Quote, ...]
    traffic: Traffic
    policy: Policy
    slo_p95_ms: float
    sort: str = "planned"
    left_out: int = 0
    refused: int = 0
    unknown: tuple[UnknownQuotes, ...] = ()
    warnings: tuple[str, ...]


class BreakEven(Record):
    """From how many requests a month the candidate's bill is below the baseline's, counted in whole replicas.

    `requests_per_month` is the smallest such volume. Bills rise in steps, so the baseline may be cheaper again above:
    `stays_cheaper` says whether it never is, `cheaper_for_good_from` from where on. Searched up to
    `searched_to_requests_per_month`. None: unknown, because a capacity is, or not reached.
    """

    requests_per_month: int | NotReached | None
    stays_cheaper: bool | None
    cheaper_for_good_from: int | NotReached | None
    searched_to_requests_per_month: int


class Crossover(Record):
    """From how many requests a month one row of a sheet is cheaper than another."""

    row: str
    other: str
    crossing: BreakEven


class Recommendation(Record):
    """What to deploy, why, and what came next.

    `distinguishable` says whether the first is surely cheaper than the second: None where that cannot be told.
    """

    format_version: int = FORMAT_VERSION
    quote: Quote
    reason: str
    runner_ups: tuple[Quote, ...]
    distinguishable: bool | None


class Return(Record):
    """What moving from a baseline to a candidate costs once and saves each month.

    `payback_months` is the one-off cost over the monthly saving; `npv_usd` the present value of the savings of
    `horizon_months`, paid at each month's end, less the one-off cost; `roi_ratio` the undiscounted gain over the
    horizon per dollar of one-off cost, None where there is no such cost.
    """

    candidate: str
    baseline: str
    baseline_kind: Literal["variant", "llm-api"]
    one_off_usd: Figure
    candidate_monthly_usd: Figure
    baseline_monthly_usd: Figure
    monthly_saving_usd: Figure
    payback_months: float | NotReached | None
    horizon_months: int
    annual_discount_ratio: float
    npv_usd: Figure
    roi_ratio: float | None
    break_even: BreakEven
    notes: tuple[str, ...]


class ArtifactFacts(Record):
    """One row of the table of artifacts: what it is, what it takes, and what this machine lacks for it, if anything."""

    artifact: str
    engine: str
    precision: str
    summary: str
    packages: tuple[str, ...]
    needs: str
    calibrated: bool
    from_network: bool
    usual: bool
    fast: bool
    missing: str


class MethodFacts(Record):
    """One row of the table of methods: what it trains, with which settings, and what that takes on a base model.

    `flags` are the method's own with the values they have, empty where nothing is set. `prompt_learning_rate` is of
    virtual tokens, `singular_value_learning_rate` of those of allocated ranks; None where there are none.
    """

    method: str
    summary: str
    serving_cost: str
    flags: dict[str, str]
    batch_size: int
    learning_rate: float
    prompt_learning_rate: float | None
    singular_value_learning_rate: float | None
    bits: int | None
    trainable_parameters: int
    head_parameters: int
    predicted_memory: TrainingMemory


class MethodOutlook(Record):
    """What can be said of one method before it is trained.

    `memory_bytes` is the peak of training over what the process holds before the model is loaded, with these
    `batch_size` and `gradient_checkpointing`, which are `adapted` where those asked for do not fit.
    `accuracy_drop` is the accuracy of full fine-tuning less the method's, `training_speed_ratio` its samples per
    second over those of full, `serving_cost_ratio` the work of one request over that of full: 1 where what was
    trained is folded into the weights. Each `..._source` says where its figure comes from; `accuracy_differences` in
    what that was not the very training asked for; `training_machine` on what the speeds were measured.
    """

    method: str
    slug: str
    trainable_parameters: int
    batch_size: int
    gradient_checkpointing: bool
    adapted: bool
    fits: bool
    memory_bytes: Figure
    memory_source: str
    accuracy_drop: Figure
    accuracy_source: str
    accuracy_differences: tuple[str, ...] = ()
    training_speed_ratio: Figure
    training_source: str
    training_machine: str | None = None
    serving_cost_ratio: Figure
    serving_source: str

    @property
    def has_evidence(self) -> bool:
        """Whether its accuracy against full was ever measured."""
        return self.accuracy_drop.value is not None


class MethodAdvice(Record):
    """Which method to fine-tune with under a memory budget: the choice with its reasons, or why there is none.

    `doubts` are what may turn out otherwise, `evidence` the studies whose figures were used.
    """

    format_version: int = FORMAT_VERSION
    base_model: str
    dataset: str | None
    device: str
    memory_budget_bytes: int
    max_accuracy_drop: float
    outlooks: tuple[MethodOutlook, ...]
    choice: str | None
    reason: str
    doubts: tuple[str, ...]
    evidence: tuple[str, ...]

    @property
    def chosen(self) -> MethodOutlook | None:
        """The outlook of the method that was chosen."""
        return next((outlook for outlook in self.outlooks if outlook.slug == self.choice), None)
