"""A fleet hour by hour: how many machines each hour of the week needs, how long they are billed, and what that costs.

Counts and hours are exact (whole numbers and fractions): a rounding error at a step is a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, cached_property
from math import ceil, floor, lcm

from deploycost.costing.fleet import exact
from deploycost.traffic_shape import HOURS_PER_WEEK
from deploycost.units import SECONDS_PER_HOUR
from deploycost.verdicts import Policy, Traffic


@dataclass(frozen=True)
class Purchase:
    """How machines are paid: by the hour, in whole granules with a minimum each time one starts.

    `always_on` machines are paid for every hour whether they run or not: reserved ones, and those of one's own. Of the
    machines a share of `interruption_ratio` is away at any time, so that more are rented.
    """

    usd_per_hour: Decimal
    granularity_s: int = SECONDS_PER_HOUR
    minimum_s: int = SECONDS_PER_HOUR
    always_on: bool = False
    interruption_ratio: Fraction = Fraction(0)

    def rented(self, needed: int) -> int:
        """Machines to rent so that so many are there."""
        return ceil(needed / (1 - self.interruption_ratio)) if self.interruption_ratio else needed


@dataclass(frozen=True)
class Schedule:
    """Machines rented: `base` in every hour, `peak` beside them hour by hour (one number where all hours are alike)."""

    base: int
    peak: tuple[int, ...]

    @property
    def by_hour(self) -> tuple[int, ...]:
        """All machines of each hour."""
        return tuple(self.base + more for more in self.peak)


@dataclass(frozen=True)
class HourlyFleet:
    """Machines of one type that carry one variant through the hours of a month.

    `need_per_request` says for each hour of the week, or for the peak alone, how many machines a request a month calls
    for there, as whole numbers over `denominator`. Machines that every hour needs are bought as `base` where it is
    given, all others as `peak`.
    """

    need_per_request: tuple[int, ...]
    denominator: int
    policy: Policy
    peak: Purchase
    base: Purchase | None = None

    def needed(self, requests_per_month: int) -> tuple[int, ...]:
        """Machines that must be there in each hour, at least one that serves, and the spares."""
        step, spares = self.policy.scale_step if self.policy.autoscale else 1, self.policy.spare_replicas
        by_level = {
            level: step * -(-max(1, -(-requests_per_month * level // self.denominator)) // step) + spares
            for level in self.levels
        }
        return tuple(by_level[level] for level in self.need_per_request)

    def schedule(self, requests_per_month: int) -> Schedule:
        """Machines rented in each hour."""
        needed = self.needed(requests_per_month)
        base = min(needed) if self.base else 0
        # Of 168 hours few differ.
        rented = {count: self.peak.rented(count - base) for count in set(needed)}
        peak = tuple(rented[count] for count in needed)
        if self.peak.always_on or not self.policy.autoscale:
            peak = (max(peak),) * len(peak)
        return Schedule(self.base.rented(base) if self.base else 0, peak)

    def replicas(self, requests_per_month: int) -> int:
        """The most machines rented at once."""
        return max(self.schedule(requests_per_month).by_hour)

    def billed_hours(self, requests_per_month: int) -> tuple[Fraction, Fraction]:
        """Machine-hours billed in a month: of the base and of the others."""
        return self._billed(self.schedule(requests_per_month))

    def monthly_usd(self, requests_per_month: int) -> Fraction:
        """The bill of a month, idle time included."""
        base_hours, peak_hours = self.billed_hours(requests_per_month)
        base_usd = base_hours * Fraction(self.base.usd_per_hour) if self.base else Fraction(0)
        return base_usd + peak_hours * Fraction(self.peak.usd_per_hour)

    def beginnings(self, most_machines: int) -> tuple[list[int], int]:
        """Volumes at which a machine more is needed in some hour, and up to which volume they are all told.

        That is as far as the busiest hour is served by `most_machines`.
        """
        searched_to = floor(Fraction(most_machines * self.denominator, max(self.levels)))
        begins = {
            machines * self.denominator // level + 1
            for level in self.levels
            if level
            for machines in range(1, most_machines + 1)
        }
        return sorted(begin for begin in begins if begin <= searched_to), searched_to

    def _billed(self, schedule: Schedule) -> tuple[Fraction, Fraction]:
        hours = self.policy.hours_per_month
        lead_s = exact(self.policy.cold_start_s)
        peak = weekly_hours(schedule.peak, lead_s, self.peak.granularity_s, self.peak.minimum_s)
        return Fraction(schedule.base * hours), peak * Fraction(hours, len(schedule.peak))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The different needs of hours."""
        return tuple(set(self.need_per_request))


def plan_hours(
    capacity_rps: float, traffic: Traffic, policy: Policy, peak: Purchase, base: Purchase | None = None
) -> HourlyFleet:
    """The fleet of machines that each carry `capacity_rps` (above zero) and are given `utilisation_ratio` of it.

    Of a month's requests, hour h of the week gets weight / sum of weights x 168 / hours of the month. Without a shape
    of the week there is one hour, the peak: `peak_to_mean_ratio` times its share.
    """
    per_machine_hour = exact(capacity_rps) * exact(policy.utilisation_ratio) * SECONDS_PER_HOUR
    shares, denominator = hour_shares(traffic, policy.hours_per_month)
    # Fractions are slow: one denominator for all hours makes whole numbers of the rest.
    return HourlyFleet(
        need_per_request=tuple(share * per_machine_hour.denominator for share in shares),
        denominator=denominator * per_machine_hour.numerator,
        policy=policy,
        peak=peak,
        base=base,
    )


@cache
def _shares(weights: tuple[float, ...] | None, peak_to_mean_ratio: float, hours_per_month: int) -> list[Fraction]:
    if weights is None:
        return [exact(peak_to_mean_ratio) / hours_per_month]
    exact_weights = [exact(weight) for weight in weights]
    total = sum(exact_weights)
    return [weight / total * Fraction(HOURS_PER_WEEK, hours_per_month) for weight in exact_weights]


@cache
def _whole(shares: tuple[Fraction, ...]) -> tuple[tuple[int, ...], int]:
    denominator = lcm(*(share.denominator for share in shares))
    return tuple(int(share * denominator) for share in shares), denominator


def hour_shares(traffic: Traffic, hours_per_month: int) -> tuple[tuple[int, ...], int]:
    """The share of a month's requests that comes in each hour, or in the peak hour alone, over one denominator."""
    return _whole(tuple(_shares(traffic.hourly_weights, traffic.peak_to_mean_ratio, hours_per_month)))


def weekly_hours(counts: Sequence[int], lead_s: Fraction, granularity_s: int, minimum_s: int) -> Fraction:
    """Machine-hours billed in a week of these counts, hour by hour in a circle; the last started is stopped first.

    A machine is started `lead_s` before its hour and billed from then on, in whole granules and for the minimum; one
    that is paid until it is due again is kept.
    """
    if min(counts) == max(counts):
        return Fraction(sum(counts))
    whole_hours = int(lead_s // SECONDS_PER_HOUR)
    ahead = [
        max(counts[(hour + later) % len(counts)] for later in range(min(whole_hours, len(counts) - 1) + 1))
        for hour in range(len(counts))
    ]
    rest_s = lead_s % SECONDS_PER_HOUR
    if SECONDS_PER_HOUR % granularity_s == 0 and minimum_s <= SECONDS_PER_HOUR:
        starts = sum(max(0, count - ahead[hour - 1]) for hour, count in enumerate(ahead))
        return sum(ahead) + starts * Fraction(ceil(rest_s / granularity_s) * granularity_s, SECONDS_PER_HOUR)
    seconds, below = Fraction(0), 0
    for level in sorted(set(ahead) - {0}):
        runs = _runs([count >= level for count in ahead])
        each = sum(
            (
                min(
                    max(ceil((run * SECONDS_PER_HOUR + rest_s) / granularity_s) * granularity_s, minimum_s),
                    (run + gap) * SECONDS_PER_HOUR,
                )
                for run, gap in runs
            ),
            Fraction(0),
        )
        seconds += (level - below) * each
        below = level
    return seconds / SECONDS_PER_HOUR


def _runs(active: Sequence[bool]) -> list[tuple[int, int]]:
    """How long each run of active hours in the circle is, and how long the pause after it."""
    if all(active):
        return [(len(active), 0)]
    first = active.index(False)
    turned = [*active[first:], *active[:first]]  # begins with a pause, so that no run goes over the end
    runs: list[tuple[int, int]] = []
    for is_active, was_active in zip(turned, [False, *turned[:-1]], strict=True):
        if is_active:
            run = runs.pop()[0] if was_active else 0
            runs.append((run + 1, 0))
        elif runs:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
    if runs:
        runs[-1] = (runs[-1][0], runs[-1][1] + _first_pause(turned))
    return runs


def _first_pause(turned: Sequence[bool]) -> int:
    """Hours before the first active one."""
    return next((hour for hour, is_active in enumerate(turned) if is_active), len(turned))
