"""The price book: what a machine costs per hour, from which source, on which date.

It has three layers. The shipped rows lie at the bottom, so that a quote needs no network; rows that `prices refresh`
fetched lie over them; a user's own rows and negotiated discounts lie on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pricing.errors import PriceError
from pricing.layers import laid_over, layer_files, prices_folder
from pricing.offer import (
    PURCHASE_OPTIONS,
    TERM_HOURS,
    Architecture,
    Billing,
    Offer,
    PurchaseOption,
    VcpuKind,
)
from pricing.offer_rows import read_machines, read_offers
from pricing.table import DATA_FOLDER

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


@dataclass(frozen=True)
class PriceBook:
    """All price rows that are known. A price that is not in it is unknown, never derived from another."""

    offers: tuple[Offer, ...]


def load_book(folder: Path | None = None) -> PriceBook:
    """The shipped rows under the refreshed and the user's; or the rows of a folder, and nothing else.

    A folder holds `offers.csv`, `cpus.csv`, `burstable.csv` and `billing.csv`.

    Raises:
        PriceError: a file cannot be read, or all mistakes of the first file that has some: duplicate rows, prices that
            are not positive, rows without source or date.
    """
    if folder is not None:
        return _only(folder)
    files = layer_files(prices_folder())
    return _layered(tuple((path, path.stat().st_mtime_ns) for path in files))


@cache
def _only(folder: Path) -> PriceBook:
    return PriceBook(tuple(read_offers(folder / "offers.csv", read_machines(folder))))


@cache
def _layered(files: tuple[tuple[Path, int], ...]) -> PriceBook:
    """`files` with the times they were written at: a file that changed is read anew."""
    offers = _only(DATA_FOLDER).offers
    return PriceBook(laid_over(offers, [path for path, _ in files])) if files else _only(DATA_FOLDER)
