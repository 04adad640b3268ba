"""What costing leaves behind: a price of predictions, and of what it is made up."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from deploycost.records.base import UNKNOWN_FIGURE, Figure, Record, Usd


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
    `training_monthly_usd` is the share of making the variant that is in the bill, `free_monthly_usd` what was taken off
    because a service gives it each month. `pareto` says whether no other quote
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
    free_monthly_usd: Usd = Decimal(0)
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

    @property
    def doubted(self) -> bool:
        """Whether the load test that the capacity rests on is not certified; no doubt of one that there is not."""
        return self.measured_capacity_rps.value is not None and not self.certified
