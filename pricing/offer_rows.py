"""Reading price rows from files: the shipped ones, refreshed ones, and those of a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import cast

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

OFFER_COLUMNS = (
    "cloud", "region", "instance_type", "family", "vcpus", "memory_gib", "accelerator_name", "accelerator_count",
    "accelerator_memory_gib", "purchase_option", "usd_per_hour", "source", "as_of", "note",
)  # fmt: skip
# What the tables beside the rows say of a family or a cloud, a row may say of itself.
OFFER_OPTIONAL_COLUMNS = (
    "term_upfront_usd", "billing_granularity_s", "billing_minimum_s", "cpu_model", "vcpu_is", "architecture",
    "sustained_cpu_ratio",
)  # fmt: skip
_CPU_COLUMNS = ("family", "cpu_model", "architecture", "vcpu_is", "sustained_clock_mhz", "source")
_BURSTABLE_COLUMNS = ("cloud", "instance_type", "sustained_cpu_ratio", "source", "as_of", "note")
_BILLING_COLUMNS = ("cloud", "purchase_option", "granularity_s", "minimum_s", "source", "as_of", "note")


__all__ = ["OFFER_COLUMNS", "OFFER_OPTIONAL_COLUMNS", "Machines", "offer_of", "read_machines", "read_offers"]


@dataclass(frozen=True, slots=True)
class _Cpu:
    """What the machines of a family compute with."""

    model: str
    vcpu_is: VcpuKind
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class Machines:
    """What is known of machines beside their prices, by family, by (cloud, type) and by (cloud, purchase option)."""

    cpus: dict[str, _Cpu]
    sustained_cpu_ratios: dict[tuple[str, str], Decimal]
    billing: dict[tuple[str, str], Billing]


@cache
def read_machines(folder: Path = DATA_FOLDER) -> Machines:
    """What `cpus.csv`, `burstable.csv` and `billing.csv` of a folder say; the shipped ones unless told.

    Raises:
        PriceError: a file cannot be read, or all mistakes of the first one that has some.
    """
    return Machines(
        _read_cpus(folder / "cpus.csv"),
        _read_sustained_ratios(folder / "burstable.csv"),
        _read_billing(folder / "billing.csv"),
    )


def read_offers(path: Path, machines: Machines) -> list[Offer]:
    """The price rows of a CSV file, in its order.

    Raises:
        PriceError: the file cannot be read, or all its mistakes: duplicate rows, prices that are not positive, rows
            without source or date.
    """
    rows = read_rows(path, OFFER_COLUMNS, OFFER_OPTIONAL_COLUMNS)
    offers = [offer_of(row, machines) for row in rows]
    note_duplicates(rows, offers)
    refuse_mistakes(path, rows)
    return offers


def note_duplicates(rows: Sequence[Row], offers: Sequence[Offer]) -> None:
    """Notes a mistake on each row that prices what an earlier one does."""
    first_seen: dict[tuple[str, ...], int] = {}
    for row, offer in zip(rows, offers, strict=True):
        if offer.identity in first_seen:
            row.mistakes.append(f"{'/'.join(offer.identity)} is priced on line {first_seen[offer.identity]} already")
        first_seen.setdefault(offer.identity, row.line)


def offer_of(row: Row, machines: Machines) -> Offer:
    """The price row that a line says, its mistakes noted on the line."""
    cloud, instance_type, family = row.name("cloud"), row.name("instance_type"), row.name("family")
    if not family.startswith(f"{cloud}-"):
        row.mistakes.append(f"family {family!r} does not begin with '{cloud}-'")
    accelerator_count = row.number("accelerator_count", zero_allowed=True)
    if bool(row.text("accelerator_name")) != (accelerator_count > 0):
        row.mistakes.append("accelerator_name and accelerator_count disagree on whether there is an accelerator")
    purchase_option = cast(PurchaseOption, row.choice("purchase_option", PURCHASE_OPTIONS))
    vcpu_is, cpu_model, architecture = _cpu_of(row, machines.cpus.get(family))
    upfront = row.optional_number("term_upfront_usd") or Decimal(0)
    if upfront and purchase_option not in TERM_HOURS:
        row.mistakes.append(f"term_upfront_usd {upfront} is paid for no term: the row is {purchase_option}")
    billing = _billing_of(row, machines.billing.get((cloud, purchase_option), WHOLE_HOURS))
    sustained = machines.sustained_cpu_ratios.get((cloud, instance_type), Decimal(1))
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
        vcpu_is=vcpu_is,
        cpu_model=cpu_model,
        architecture=architecture,
        sustained_cpu_ratio=row.ratio("sustained_cpu_ratio") if row.text("sustained_cpu_ratio") else sustained,
        billing_granularity_s=billing.granularity_s,
        billing_minimum_s=billing.minimum_s,
        term_upfront_usd=upfront,
    )


def _cpu_of(row: Row, known: _Cpu | None) -> tuple[VcpuKind | None, str | None, Architecture | None]:
    """What the row says of its CPU, else what is known of its family, else None."""
    vcpu_is, architecture = row.text("vcpu_is"), row.text("architecture")
    return (
        cast(VcpuKind, row.choice("vcpu_is", VCPU_KINDS)) if vcpu_is else known and known.vcpu_is,
        row.text("cpu_model") or (known and known.model),
        cast(Architecture, row.choice("architecture", ARCHITECTURES)) if architecture else known and known.architecture,
    )


def _billing_of(row: Row, known: Billing) -> Billing:
    """How the row says that time is billed, else how its cloud does."""
    granularity, minimum = "billing_granularity_s", "billing_minimum_s"
    return Billing(
        row.whole(granularity) if row.text(granularity) else known.granularity_s,
        row.whole(minimum) if row.text(minimum) else known.minimum_s,
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
        ratios[identity] = row.ratio("sustained_cpu_ratio")
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
