"""Whole replicas: how many machines a month's requests need, and what they cost.

Counts are exact (fractions), because a rounding error at a step is a machine. Money is Decimal.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil, floor

from deploycost.units import SECONDS_PER_HOUR
from deploycost.verdicts import Policy, Traffic

MILLION = 1_000_000


@dataclass(frozen=True)
class Fleet:
    """Machines of one type that carry one variant: a staircase of bills over requests per month.

    `requests_per_replica` is what one machine may be given in a month so that it stays within the planning utilisation
    at the peak; `usd_per_replica` what it costs in a month.
    """

    requests_per_replica: Fraction
    usd_per_replica: Decimal
    spare_replicas: int

    def replicas(self, requests_per_month: int) -> int:
        """Machines that serve, at least one, and the spares."""
        return max(1, ceil(requests_per_month / self.requests_per_replica)) + self.spare_replicas

    def monthly_usd(self, requests_per_month: int) -> Decimal:
        """The bill of a month, idle time included."""
        return self.replicas(requests_per_month) * self.usd_per_replica

    def planned_usd_per_million(self, requests_per_month: int) -> Decimal:
        """The bill of a month per million requests actually served."""
        return self.monthly_usd(requests_per_month) * MILLION / requests_per_month

    def step_end(self, serving: int) -> int:
        """The most requests a month that `serving` machines carry, spares aside."""
        return floor(serving * self.requests_per_replica)


def plan_fleet(capacity_rps: float, usd_per_hour: Decimal, traffic: Traffic, policy: Policy) -> Fleet:
    """The fleet of machines that each carry `capacity_rps` (above zero) for `usd_per_hour`.

    The peak is the mean rate of a month times `peak_to_mean_ratio`; of its capacity, a machine is given
    `utilisation_ratio` at the peak.
    """
    seconds = _seconds_at_capacity(policy.hours_per_month, policy.utilisation_ratio, traffic.peak_to_mean_ratio)
    return Fleet(
        requests_per_replica=exact(capacity_rps) * seconds,
        usd_per_replica=usd_per_hour * policy.hours_per_month,
        spare_replicas=policy.spare_replicas,
    )


@cache
def _seconds_at_capacity(hours_per_month: int, utilisation_ratio: float, peak_to_mean_ratio: float) -> Fraction:
    """The seconds a month that a machine would take at its capacity for what it is given; the same for all machines."""
    return hours_per_month * SECONDS_PER_HOUR * exact(utilisation_ratio) / exact(peak_to_mean_ratio)


def floor_usd_per_million(capacity_rps: float, usd_per_hour: Decimal) -> Decimal:
    """The price of a million requests on a machine that is never idle: 1e6 x USD/h / (3600 x capacity)."""
    return usd_per_hour * MILLION / (SECONDS_PER_HOUR * Decimal(str(capacity_rps)))


def exact(number: float) -> Fraction:
    """The number as it is written: 0.7 is seven tenths, not the binary fraction next to it."""
    return Fraction(Decimal(str(number)))
