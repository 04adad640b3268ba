"""One price row: a machine for hire in one region under one purchase option, with its source and date."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

PurchaseOption = Literal["on-demand", "spot", "reserved-1y", "reserved-3y"]
PURCHASE_OPTIONS: tuple[PurchaseOption, ...] = get_args(PurchaseOption)
VcpuKind = Literal["thread", "core"]
VCPU_KINDS: tuple[VcpuKind, ...] = get_args(VcpuKind)
Architecture = Literal["x86_64", "arm64"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
# Hours of a commitment. A year is 365 days to every provider that sells one.
TERM_HOURS: dict[PurchaseOption, int] = {"reserved-1y": 8760, "reserved-3y": 26_280}

__all__ = [
    "ARCHITECTURES",
    "PURCHASE_OPTIONS",
    "TERM_HOURS",
    "VCPU_KINDS",
    "WHOLE_HOURS",
    "Architecture",
    "Billing",
    "Offer",
    "PurchaseOption",
    "VcpuKind",
]


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine for hire in one region under one purchase option: a price row, with its source and date.

    `accelerator_count` may be a share of a card (0.5); `accelerator_memory_gib` is that of one whole card.
    `vcpu_is`, `architecture` and `cpu_model` are None where unknown. `sustained_cpu_ratio` is the share of each vCPU
    that may be used without end: below 1 on burstable and shared-core machines. Time is billed in whole
    `billing_granularity_s`, and at least `billing_minimum_s` of it each time a machine is started (the whole term of a
    reservation); whole hours where nobody said. `term_upfront_usd` is paid once per term, beside `usd_per_hour`.
    """

    cloud: str
    region: str
    instance_type: str
    family: str
    vcpus: Decimal
    memory_gib: Decimal
    accelerator_name: str | None
    accelerator_count: Decimal
    accelerator_memory_gib: Decimal | None
    purchase_option: PurchaseOption
    usd_per_hour: Decimal
    source: str
    as_of: datetime.date
    note: str
    vcpu_is: VcpuKind | None
    cpu_model: str | None
    architecture: Architecture | None
    sustained_cpu_ratio: Decimal
    billing_granularity_s: int = 3600
    billing_minimum_s: int = 3600
    term_upfront_usd: Decimal = Decimal(0)

    @property
    def names(self) -> tuple[str, ...]:
        """What one may call the machine or its kin, in lower case: cloud, family and instance type, short or long."""
        cloud, instance_type = self.cloud, self.instance_type.lower()
        return cloud, self.family, f"{cloud}-{instance_type}", self.family.removeprefix(f"{cloud}-"), instance_type

    @property
    def effective_usd_per_hour(self) -> Decimal:
        """USD per hour with what is paid upfront spread over the hours of the term."""
        hours = TERM_HOURS.get(self.purchase_option)
        return self.usd_per_hour + self.term_upfront_usd / hours if hours else self.usd_per_hour

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What a price is of: cloud, region, instance type and purchase option."""
        return self.cloud, self.region, self.instance_type, self.purchase_option

    @property
    def key(self) -> str:
        """Names the row and its date, as in `aws/us-east-1/g4dn.xlarge/on-demand@2026-07-20`."""
        return f"{self.cloud}/{self.region}/{self.instance_type}/{self.purchase_option}@{self.as_of.isoformat()}"


@dataclass(frozen=True, slots=True)
class Billing:
    """How a cloud counts time under a purchase option: seconds that it rounds up to, and the least it bills."""

    granularity_s: int
    minimum_s: int


WHOLE_HOURS = Billing(3600, 3600)
