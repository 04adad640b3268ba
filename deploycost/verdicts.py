"""What the money questions are answered with: quote sheet, recommendation, return. Reports read nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploycost.records import FORMAT_VERSION, Figure, LoadRecord, Quote, Record
from deploycost.units import HOURS_PER_MONTH

NotReached = Literal["not reached"]
NOT_REACHED: NotReached = "not reached"


class Traffic(Record):
    """The requests that must be served: how many a month, and how much busier than the mean the peak is."""

    requests_per_month: int = Field(ge=1)
    peak_to_mean_ratio: float = Field(default=3.0, ge=1)


class Policy(Record):
    """How machines are planned: their load at the peak, spares on top, and the hours that a month bills."""

    utilisation_ratio: float = Field(default=0.7, gt=0, le=1)
    spare_replicas: int = Field(default=1, ge=0)
    hours_per_month: int = Field(default=HOURS_PER_MONTH, ge=1)


class Capacity(Record):
    """What one variant carries on one machine for hire, and how that is known.

    `load` is the measurement it rests on and `server_copies` how many of the measured servers share the machine; both
    are None where nothing is known.
    """

    capacity_rps: Figure
    reason: str
    load: LoadRecord | None = None
    server_copies: int | None = None


class QuoteSheet(Record):
    """Variants on machines, cheapest first; what is unknown comes last."""

    format_version: int = FORMAT_VERSION
    quotes: tuple[Quote, ...]
    traffic: Traffic
    policy: Policy
    slo_p95_ms: float
    warnings: tuple[str, ...]


class Recommendation(Record):
    """What to deploy, why, and what came next.

    `distinguishable` says whether the first is surely cheaper than the second: None where that cannot be told.
    """

    format_version: int = FORMAT_VERSION
    quote: Quote
    reason: str
    runner_ups: tuple[Quote, ...]
    distinguishable: bool | None


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
