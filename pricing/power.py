"""What a rented machine draws, from published means per hardware thread and accelerator. Unknown parts are unknown."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import cast

from pricing.offer import Offer
from pricing.table import DATA_FOLDER, read_rows, refuse_mistakes

_COLUMNS = ("cloud", "part", "name", "watts_idle", "watts_load", "source", "as_of", "note")
_PUE_COLUMNS = ("cloud", "pue", "source", "as_of", "note")
_PARTS = ("cpu-thread", "accelerator")
_ANY_CLOUD = "any"
# CPU makers whose cores have one thread: a vCPU that is a core is one thread there, and two elsewhere.
_ONE_THREAD_PER_CORE = "arm64"

__all__ = ["MachinePower", "PartPower", "load_power", "load_pue", "power_of", "pue_of"]


@dataclass(frozen=True, slots=True)
class PartPower:
    """Watts of one part: of a CPU per hardware thread with its share of the server, of an accelerator per card."""

    cloud: str
    part: str
    name: str
    watts_idle: Decimal
    watts_load: Decimal
    source: str
    as_of: datetime.date
    note: str


@dataclass(frozen=True, slots=True)
class MachinePower:
    """Watts of a whole rented machine, before the building's share (PUE), with the sources it was summed from."""

    watts_idle: Decimal
    watts_load: Decimal
    sources: tuple[str, ...]

    def watts(self, load_ratio: Decimal) -> Decimal:
        """Watts at a share of full load (0 to 1), on the straight line between idle and load."""
        return self.watts_idle + (self.watts_load - self.watts_idle) * load_ratio


@cache
def load_power(path: Path = DATA_FOLDER / "power.csv") -> dict[tuple[str, str, str], PartPower]:
    """Every known part by (cloud, part, name); the shipped table unless told.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _COLUMNS)
    parts: dict[tuple[str, str, str], PartPower] = {}
    for row in rows:
        identity = (row.name("cloud"), row.choice("part", _PARTS), row.name("name"))
        if identity in parts:
            row.mistakes.append(f"{'/'.join(identity)} is described twice")
        watts_idle, watts_load = row.number("watts_idle"), row.number("watts_load")
        if watts_load < watts_idle:
            row.mistakes.append(f"watts_load {watts_load} is below watts_idle {watts_idle}")
        parts[identity] = PartPower(
            *identity, watts_idle, watts_load, row.name("source"), row.date("as_of"), row.text("note")
        )
    refuse_mistakes(path, rows)
    return parts


@cache
def load_pue(path: Path = DATA_FOLDER / "pue.csv") -> dict[str, Decimal]:
    """What a cloud's buildings draw for each watt of a machine, by cloud; the shipped table unless told.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _PUE_COLUMNS)
    pues: dict[str, Decimal] = {}
    for row in rows:
        cloud, pue = row.name("cloud"), row.number("pue")
        if cloud in pues:
            row.mistakes.append(f"{cloud} is described twice")
        if pue < 1:
            row.mistakes.append(f"pue {pue} is below 1")
        row.name("source")
        row.date("as_of")
        pues[cloud] = pue
    refuse_mistakes(path, rows)
    return pues


def pue_of(cloud: str) -> Decimal | None:
    """Watts of the building per watt of the machine; None where unknown."""
    return load_pue().get(cloud)


@cache
def power_of(offer: Offer) -> MachinePower | None:
    """What a machine for hire draws; None where its CPU or its accelerator is not in the table.

    A vCPU that is a core of a CPU with two threads per core counts as two. Where a family runs on one of several CPUs
    (`Skylake/Cascade Lake`), the mean of those in the table is taken.
    """
    known = load_power()
    cpus = [
        part
        for (cloud, kind, name), part in known.items()
        if cloud == offer.cloud and kind == "cpu-thread" and offer.cpu_model and name in offer.cpu_model
    ]
    accelerator = known.get((_ANY_CLOUD, "accelerator", offer.accelerator_name)) if offer.accelerator_name else None
    if not cpus or (offer.accelerator_name and accelerator is None):
        return None
    two_threads = offer.vcpu_is == "core" and offer.architecture != _ONE_THREAD_PER_CORE
    threads = offer.vcpus * (2 if two_threads else 1)
    idle = threads * cast(Decimal, sum(part.watts_idle for part in cpus)) / len(cpus)
    load = threads * cast(Decimal, sum(part.watts_load for part in cpus)) / len(cpus)
    if accelerator:
        idle += offer.accelerator_count * accelerator.watts_idle
        load += offer.accelerator_count * accelerator.watts_load
    parts = [*cpus, accelerator] if accelerator else cpus
    return MachinePower(idle, load, tuple(dict.fromkeys(part.source for part in parts)))
