"""The price book: what a machine costs per hour, from which source, on which date."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from pricing.errors import PriceError
from pricing.table import DATA_FOLDER, Row, read_rows, refuse_mistakes

PurchaseOption = Literal["on-demand", "spot"]
VcpuKind = Literal["thread", "core"]
PURCHASE_OPTIONS: tuple[PurchaseOption, ...] = get_args(PurchaseOption)
Architecture = Literal["x86_64", "arm64"]
_ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
_VCPU_KINDS: tuple[VcpuKind, ...] = get_args(VcpuKind)

_OFFER_COLUMNS = (
    "cloud", "region", "instance_type", "family", "vcpus", "memory_gib", "accelerator_name", "accelerator_count",
    "accelerator_memory_gib", "purchase_option", "usd_per_hour", "source", "as_of", "note",
)  # fmt: skip
_CPU_COLUMNS = ("family", "cpu_model", "architecture", "vcpu_is", "sustained_clock_mhz", "source")
_BURSTABLE_COLUMNS = ("cloud", "instance_type", "sustained_cpu_ratio", "source", "as_of", "note")

__all__ = [
    "PURCHASE_OPTIONS",
    "Architecture",
    "Offer",
    "PriceBook",
    "PriceError",
    "PurchaseOption",
    "VcpuKind",
    "load_book",
]


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine for hire in one region under one purchase option: a price row, with its source and date.

    `accelerator_count` may be a share of a card (0.5); `accelerator_memory_gib` is that of one whole card.
    `vcpu_is`, `architecture` and `cpu_model` are None where unknown. `sustained_cpu_ratio` is the share of each vCPU
    that may be used without end: below 1 on burstable and shared-core machines.
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

    @property
    def key(self) -> str:
        """Names the row and its date, as in `aws/us-east-1/g4dn.xlarge/on-demand@2026-07-20`."""
        return f"{self.cloud}/{self.region}/{self.instance_type}/{self.purchase_option}@{self.as_of.isoformat()}"


@dataclass(frozen=True, slots=True)
class _Cpu:
    """What the machines of a family compute with."""

    model: str
    vcpu_is: VcpuKind
    architecture: Architecture


@dataclass(frozen=True)
class PriceBook:
    """All price rows that are known. A price that is not in it is unknown, never derived from another."""

    offers: tuple[Offer, ...]


@cache
def load_book(folder: Path = DATA_FOLDER) -> PriceBook:
    """The price book in a folder with `offers.csv`, `cpus.csv` and `burstable.csv`; the shipped one unless told.

    Raises:
        PriceError: a file cannot be read, or all mistakes of the first file that has some: duplicate rows, prices that
            are not positive, rows without source or date.
    """
    cpus = _read_cpus(folder / "cpus.csv")
    sustained = _read_sustained_ratios(folder / "burstable.csv")
    path = folder / "offers.csv"
    rows = read_rows(path, _OFFER_COLUMNS)
    offers = []
    first_seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        offer = _offer(row, cpus, sustained)
        identity = (offer.cloud, offer.region, offer.instance_type, offer.purchase_option)
        if identity in first_seen:
            row.mistakes.append(f"{'/'.join(identity)} is priced on line {first_seen[identity]} already")
        first_seen.setdefault(identity, row.line)
        offers.append(offer)
    refuse_mistakes(path, rows)
    return PriceBook(tuple(offers))


def _offer(row: Row, cpus: dict[str, _Cpu], sustained: dict[tuple[str, str], Decimal]) -> Offer:
    cloud, instance_type, family = row.name("cloud"), row.name("instance_type"), row.name("family")
    if not family.startswith(f"{cloud}-"):
        row.mistakes.append(f"family {family!r} does not begin with '{cloud}-'")
    accelerator_count = row.number("accelerator_count", zero_allowed=True)
    if bool(row.text("accelerator_name")) != (accelerator_count > 0):
        row.mistakes.append("accelerator_name and accelerator_count disagree on whether there is an accelerator")
    cpu = cpus.get(family)
    return Offer(
        cloud=cloud,
        region=row.name("region"),
        instance_type=instance_type,
        family=family,
        vcpus=row.number("vcpus"),
        memory_gib=row.number("memory_gib"),
        accelerator_name=row.text("accelerator_name") or None,
        accelerator_count=accelerator_count,
        accelerator_memory_gib=row.optional_number("accelerator_memory_gib"),
        purchase_option=cast(PurchaseOption, row.choice("purchase_option", PURCHASE_OPTIONS)),
        usd_per_hour=row.number("usd_per_hour"),
        source=row.name("source"),
        as_of=row.date("as_of"),
        note=row.text("note"),
        vcpu_is=cpu.vcpu_is if cpu else None,
        cpu_model=cpu.model if cpu else None,
        architecture=cpu.architecture if cpu else None,
        sustained_cpu_ratio=sustained.get((cloud, instance_type), Decimal(1)),
    )


def _read_cpus(path: Path) -> dict[str, _Cpu]:
    rows = read_rows(path, _CPU_COLUMNS)
    cpus: dict[str, _Cpu] = {}
    for row in rows:
        family = row.name("family")
        if family in cpus:
            row.mistakes.append(f"family {family!r} is described twice")
        row.name("source")
        cpus[family] = _Cpu(
            model=row.name("cpu_model"),
            vcpu_is=cast(VcpuKind, row.choice("vcpu_is", _VCPU_KINDS)),
            architecture=cast(Architecture, row.choice("architecture", _ARCHITECTURES)),
        )
    refuse_mistakes(path, rows)
    return cpus


def _read_sustained_ratios(path: Path) -> dict[tuple[str, str], Decimal]:
    rows = read_rows(path, _BURSTABLE_COLUMNS)
    ratios: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        identity = (row.name("cloud"), row.name("instance_type"))
        if identity in ratios:
            row.mistakes.append(f"{'/'.join(identity)} is described twice")
        row.name("source")
        row.date("as_of")
        ratios[identity] = row.number("sustained_cpu_ratio")
        if ratios[identity] > 1:
            row.mistakes.append(f"sustained_cpu_ratio {ratios[identity]} is above 1")
    refuse_mistakes(path, rows)
    return ratios
