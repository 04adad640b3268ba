"""What a kilowatt-hour emits where a cloud region draws it. A region that is not in the table is unknown."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from pricing.table import DATA_FOLDER, read_rows, refuse_mistakes

_COLUMNS = ("cloud", "region", "place", "grams_co2e_per_kwh", "source", "as_of", "note")

__all__ = ["GridIntensity", "grid_intensity", "load_grid"]


@dataclass(frozen=True, slots=True)
class GridIntensity:
    """Grams of CO2 equivalent per kWh of the grid a region stands on, before what its provider buys elsewhere."""

    cloud: str
    region: str
    place: str
    grams_co2e_per_kwh: Decimal
    source: str
    as_of: datetime.date
    note: str

    @property
    def key(self) -> str:
        """Names the row and its date, as in `gcp/us-central1@2025-12-31`."""
        return f"{self.cloud}/{self.region}@{self.as_of.isoformat()}"


@cache
def load_grid(path: Path = DATA_FOLDER / "grid.csv") -> dict[tuple[str, str], GridIntensity]:
    """Every known region by (cloud, region); the shipped table unless told.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _COLUMNS)
    grid: dict[tuple[str, str], GridIntensity] = {}
    for row in rows:
        cloud, region = row.name("cloud"), row.name("region")
        if (cloud, region) in grid:
            row.mistakes.append(f"{cloud}/{region} is described twice")
        grid[cloud, region] = GridIntensity(
            cloud=cloud,
            region=region,
            place=row.text("place"),
            grams_co2e_per_kwh=row.number("grams_co2e_per_kwh", zero_allowed=True),
            source=row.name("source"),
            as_of=row.date("as_of"),
            note=row.text("note"),
        )
    refuse_mistakes(path, rows)
    return grid


def grid_intensity(cloud: str, region: str) -> GridIntensity | None:
    """What is known of a region's grid; None where nothing is."""
    return load_grid().get((cloud, region))
