"""What a month costs, as a function of its requests: a fleet's staircase, a price per request, or a metered service."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Protocol

from deploycost.costing.hourly import HourlyFleet
from pricing.serverless import ServerlessRate

_MIB_PER_GIB = 1024
_MS_PER_S = 1000


class Bill(Protocol):
    """A month's bill. Between the volumes that `beginnings` tells it is a straight line."""

    def monthly_usd(self, requests_per_month: int) -> Fraction:
        """The bill of a month of so many requests."""
        ...

    def beginnings(self, most_machines: int) -> tuple[list[int], int | None]:
        """Volumes at which a straight piece begins, and up to which they are all told (None: without end)."""
        ...


@dataclass(frozen=True)
class FleetBill:
    """Machines, and what each request and each month cost beside them."""

    fleet: HourlyFleet
    usd_per_request: Fraction = Fraction(0)
    fixed_usd: Fraction = Fraction(0)

    def monthly_usd(self, requests_per_month: int) -> Fraction:
        """The machines' bill, that of the requests, and what is fixed."""
        return self.fleet.monthly_usd(requests_per_month) + requests_per_month * self.usd_per_request + self.fixed_usd

    def beginnings(self, most_machines: int) -> tuple[list[int], int | None]:
        """The steps of the fleet."""
        return self.fleet.beginnings(most_machines)


@dataclass(frozen=True)
class RequestBill:
    """A price per request, and what is fixed."""

    usd_per_request: Fraction
    fixed_usd: Fraction = Fraction(0)

    def monthly_usd(self, requests_per_month: int) -> Fraction:
        """In proportion to the requests."""
        return requests_per_month * self.usd_per_request + self.fixed_usd

    def beginnings(self, most_machines: int) -> tuple[list[int], int | None]:
        """One straight line."""
        return [], None


@dataclass(frozen=True)
class MeteredBill:
    """A serverless service: seconds of memory and CPU for each request, a fee, tiers, and what is free each month.

    `billed_s` are the seconds paid for one request, cold starts included; `egress_usd` what its answer's way out costs.
    """

    rate: ServerlessRate
    memory_mib: int
    vcpus: Fraction
    billed_s: Fraction
    egress_usd: Fraction = Fraction(0)
    fixed_usd: Fraction = Fraction(0)

    def monthly_usd(self, requests_per_month: int) -> Fraction:
        """Memory tier by tier, CPU and fee, after what is free."""
        return (
            _tiered(self._gib_s * requests_per_month, self.rate)
            + max(self.billed_s * self.vcpus * requests_per_month - exactly(self.rate.free_vcpu_seconds), Fraction(0))
            * exactly(self.rate.usd_per_vcpu_second)
            + max(requests_per_month - exactly(self.rate.free_requests), Fraction(0))
            * exactly(self.rate.usd_per_million_requests)
            / 1_000_000
            + requests_per_month * self.egress_usd
            + self.fixed_usd
        )

    def list_usd_per_request(self) -> Fraction:
        """The price of one request in the first tier, when nothing is free."""
        return (
            self._gib_s * exactly(self.rate.usd_per_gib_second[0][1])
            + self.billed_s * self.vcpus * exactly(self.rate.usd_per_vcpu_second)
            + exactly(self.rate.usd_per_million_requests) / 1_000_000
            + self.egress_usd
        )

    def beginnings(self, most_machines: int) -> tuple[list[int], int | None]:
        """Where what is free ends, and where each tier does."""
        free = exactly(self.rate.free_gib_seconds)
        ends = [free, *(free + exactly(end) for end, _ in self.rate.usd_per_gib_second if end is not None)]
        turns = [end / self._gib_s for end in ends]
        if self.rate.usd_per_vcpu_second:
            turns.append(exactly(self.rate.free_vcpu_seconds) / (self.billed_s * self.vcpus))
        turns.append(exactly(self.rate.free_requests))
        # Within the request at which a tier ends, the line bends: it is a piece of its own.
        return sorted({begin for turn in turns for begin in (floor(turn), floor(turn) + 1) if begin >= 1}), None

    @property
    def _gib_s(self) -> Fraction:
        return self.billed_s * self.memory_mib / _MIB_PER_GIB


def billed_seconds(duration_ms: Fraction, rate: ServerlessRate) -> Fraction:
    """What a request of that duration is billed for: whole granules, and the minimum."""
    granules = ceil(duration_ms / rate.rounding_ms) * rate.rounding_ms
    return Fraction(max(granules, rate.minimum_ms), _MS_PER_S)


def exactly(amount: Decimal) -> Fraction:
    """The amount as a fraction."""
    return Fraction(amount)


def _tiered(gib_seconds: Fraction, rate: ServerlessRate) -> Fraction:
    paid, total, start = max(gib_seconds - exactly(rate.free_gib_seconds), Fraction(0)), Fraction(0), Fraction(0)
    for end, usd in rate.usd_per_gib_second:
        within = (paid if end is None else min(paid, exactly(end))) - start
        if within <= 0:
            break
        total += within * exactly(usd)
        start += within
    return total
