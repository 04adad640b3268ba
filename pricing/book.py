"""The price book: what a machine costs per hour, from which source, on which date."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import cast

from pricing.errors import PriceError
from pricing.offer import (
    ARCHITECTURES,
    PURCHASE_OPTIONS,
    TERM_HOURS,
    VCPU_KINDS,
    WHOLE_HOURS,
    Architecture,
    Billing,
    Offer,
    PurchaseOption,
    VcpuKind,
)
from pricing.table import DATA_FOLDER, Row, read_rows, refuse_mistakes

_OFFER_COLUMNS = (
    "cloud", "region", "instance_type", "family", "vcpus", "memory_gib", "accelerator_name", "accelerator_count",
    "accelerator_memory_gib", "purchase_option", "usd_per_hour", "source", "as_of", "note",
)  # fmt: skip
_CPU_COLUMNS = ("family", "cpu_model", "architecture", "vcpu_is", "sustained_clock_mhz", "source")
_BURSTABLE_COLUMNS = ("cloud", "instance_type", "sustained_cpu_ratio", "source", "as_of", "note")
_BILLING_COLUMNS = ("cloud", "purchase_option", "granularity_s", "minimum_s", "source", "as_of", "note")

__all__ = [
    "PURCHASE_OPTIONS",
    "TERM_HOURS",
    "Architecture",
    "Billing",
    "Offer",
    "PriceBook",
    "PriceError",
    "PurchaseOption",
    "VcpuKind",
    "load_book",
]


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
    """The price book in a folder with `offers.csv`, `cpus.csv`, `burstable.csv` and `billing.csv`; the shipped
    one unless told.

    Raises:
        PriceError: a file cannot be read, or all mistakes of the first file that has some: duplicate rows, prices that
            are not positive, rows without source or date.
    """
    cpus = _read_cpus(folder / "cpus.csv")
    sustained = _read_sustained_ratios(folder / "burstable.csv")
    billing = _read_billing(folder / "billing.csv")
    path = folder / "offers.csv"
    rows = read_rows(path, _OFFER_COLUMNS)
    offers = []
    first_seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        offer = _offer(row, cpus, sustained, billing)
        identity = (offer.cloud, offer.region, offer.instance_type, offer.purchase_option)
        if identity in first_seen:
            row.mistakes.append(f"{'/'.join(identity)} is priced on line {first_seen[identity]} already")
        first_seen.setdefault(identity, row.line)
        offers.append(offer)
    refuse_mistakes(path, rows)
    return PriceBook(tuple(offers))


def _offer(
    row: Row,
    cpus: dict[str, _Cpu],
    sustained: dict[tuple[str, str], Decimal],
    billing: dict[tuple[str, str], Billing],
) -> Offer:
    cloud, instance_type, family = row.name("cloud"), row.name("instance_type"), row.name("family")
    if not family.startswith(f"{cloud}-"):
        row.mistakes.append(f"family {family!r} does not begin with '{cloud}-'")
    accelerator_count = row.number("accelerator_count", zero_allowed=True)
    if bool(row.text("accelerator_name")) != (accelerator_count > 0):
        row.mistakes.append("accelerator_name and accelerator_count disagree on whether there is an accelerator")
    cpu = cpus.get(family)
    purchase_option = cast(PurchaseOption, row.choice("purchase_option", PURCHASE_OPTIONS))
    billed = billing.get((cloud, purchase_option), WHOLE_HOURS)
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
        purchase_option=purchase_option,
        usd_per_hour=row.number("usd_per_hour"),
        source=row.name("source"),
        as_of=row.date("as_of"),
        note=row.text("note"),
        vcpu_is=cpu.vcpu_is if cpu else None,
        cpu_model=cpu.model if cpu else None,
        architecture=cpu.architecture if cpu else None,
        sustained_cpu_ratio=sustained.get((cloud, instance_type), Decimal(1)),
        billing_granularity_s=billed.granularity_s,
        billing_minimum_s=billed.minimum_s,
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
            vcpu_is=cast(VcpuKind, row.choice("vcpu_is", VCPU_KINDS)),
            architecture=cast(Architecture, row.choice("architecture", ARCHITECTURES)),
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


def _read_billing(path: Path) -> dict[tuple[str, str], Billing]:
    rows = read_rows(path, _BILLING_COLUMNS)
    billing: dict[tuple[str, str], Billing] = {}
    for row in rows:
        identity = (row.name("cloud"), row.choice("purchase_option", PURCHASE_OPTIONS))
        if identity in billing:
            row.mistakes.append(f"{'/'.join(identity)} is described twice")
        row.name("source")
        row.date("as_of")
        billing[identity] = Billing(row.whole("granularity_s"), row.whole("minimum_s"))
    refuse_mistakes(path, rows)
    return billing
