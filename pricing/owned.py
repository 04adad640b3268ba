"""What a machine of one's own costs per hour: what was paid for it, what it draws, and where it stands."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import cast

from pricing.errors import PriceError, nearest_names
from pricing.offer import ARCHITECTURES, Architecture
from pricing.table import DATA_FOLDER, Row, read_rows, refuse_mistakes

HOURS_PER_YEAR = Decimal(8760)
_COLUMNS = (
    "name", "description", "purchase_usd", "years", "residual_ratio", "watts_idle", "watts_load", "cores", "memory_gib",
    "architecture", "energy_usd_per_kwh", "pue", "space_usd_per_month", "source", "as_of", "note",
)  # fmt: skip

__all__ = ["HOURS_PER_YEAR", "OwnedMachine", "find_owned", "load_owned"]


@dataclass(frozen=True, slots=True)
class OwnedMachine:
    """A machine that was bought: its price is spread evenly over its years, less what it still sells for at the end.

    `residual_ratio` is that share of the purchase price. Watts are drawn at the wall by the whole machine; `pue` is
    what the building draws for each watt of it (1 under a desk). What is assumed is said in `note`.
    """

    name: str
    description: str
    purchase_usd: Decimal
    years: Decimal
    residual_ratio: Decimal
    watts_idle: Decimal
    watts_load: Decimal
    cores: int
    memory_gib: Decimal
    architecture: Architecture
    energy_usd_per_kwh: Decimal
    pue: Decimal
    space_usd_per_month: Decimal
    source: str
    as_of: datetime.date
    note: str

    @property
    def key(self) -> str:
        """Names the row and its date, as in `owned/raspberry-pi-5-8gb@2026-04-26`."""
        return f"owned/{self.name}@{self.as_of.isoformat()}"

    def watts(self, load_ratio: Decimal) -> Decimal:
        """Watts at the wall at a share of full load (0 to 1), on the straight line between idle and load."""
        return self.watts_idle + (self.watts_load - self.watts_idle) * load_ratio

    def hourly_usd(self, load_ratio: Decimal = Decimal(1)) -> Decimal:
        """USD of one hour of owning and running it, every hour of its years, at a share of full load.

        purchase x (1 - residual) / (years x 8760) + watts / 1000 x PUE x USD per kWh + space x 12 / 8760.
        """
        depreciation = self.purchase_usd * (1 - self.residual_ratio) / (self.years * HOURS_PER_YEAR)
        energy = self.watts(load_ratio) / 1000 * self.pue * self.energy_usd_per_kwh
        return depreciation + energy + self.space_usd_per_month * 12 / HOURS_PER_YEAR


@cache
def load_owned(path: Path = DATA_FOLDER / "owned.csv") -> tuple[OwnedMachine, ...]:
    """All machines of a file, in its order; the shipped examples unless told. One's own file has the same columns.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _COLUMNS)
    machines: dict[str, OwnedMachine] = {}
    for row in rows:
        machine = _machine(row)
        if machine.name in machines:
            row.mistakes.append(f"{machine.name} is described twice")
        machines[machine.name] = machine
    refuse_mistakes(path, rows)
    return tuple(machines.values())


def find_owned(name: str, machines: Sequence[OwnedMachine] | None = None) -> OwnedMachine:
    """The machine of that name; case does not matter.

    Raises:
        PriceError: there is none, with the nearest ones.
    """
    by_name = {machine.name.lower(): machine for machine in (load_owned() if machines is None else machines)}
    if (machine := by_name.get(name.strip().lower())) is not None:
        return machine
    raise PriceError(
        f"unknown machine of one's own {name!r}{nearest_names(name, by_name)}; known: {', '.join(by_name)}"
    )


def _machine(row: Row) -> OwnedMachine:
    watts_idle, watts_load = row.number("watts_idle", zero_allowed=True), row.number("watts_load")
    if watts_load < watts_idle:
        row.mistakes.append(f"watts_load {watts_load} is below watts_idle {watts_idle}")
    pue = row.number("pue")
    if pue < 1:
        row.mistakes.append(f"pue {pue} is below 1")
    residual_ratio = row.number("residual_ratio", zero_allowed=True)
    if residual_ratio > 1:
        row.mistakes.append(f"residual_ratio {residual_ratio} is above 1")
    return OwnedMachine(
        name=row.name("name"),
        description=row.text("description"),
        purchase_usd=row.number("purchase_usd", zero_allowed=True),
        years=row.number("years"),
        residual_ratio=residual_ratio,
        watts_idle=watts_idle,
        watts_load=watts_load,
        cores=row.whole("cores"),
        memory_gib=row.number("memory_gib"),
        architecture=cast(Architecture, row.choice("architecture", ARCHITECTURES)),
        energy_usd_per_kwh=row.number("energy_usd_per_kwh", zero_allowed=True),
        pue=pue,
        space_usd_per_month=row.number("space_usd_per_month", zero_allowed=True),
        source=row.name("source"),
        as_of=row.date("as_of"),
        note=row.text("note"),
    )
