"""A user's own price files: where they lie, and how they are laid over the shipped rows.

`refreshed/*.csv` hold rows that were fetched from a cloud's price service, `own/*.csv` rows that a user added, and
`own/*.discounts.csv` what was negotiated. Nothing is ever written into the package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pricing.discounts import Discount, discounted, read_discounts
from pricing.offer import Offer
from pricing.offer_rows import read_machines, read_offers

FOLDER_VARIABLE = "DEPLOYCOST_PRICES_DIR"
REFRESHED, OWN = "refreshed", "own"
DISCOUNTS_SUFFIX = ".discounts.csv"

__all__ = ["DISCOUNTS_SUFFIX", "FOLDER_VARIABLE", "OWN", "REFRESHED", "laid_over", "layer_files", "prices_folder"]


def prices_folder() -> Path:
    """Where a user's price files lie: `DEPLOYCOST_PRICES_DIR`, else the place this system keeps such data in."""
    if told := os.environ.get(FOLDER_VARIABLE):
        return Path(told)
    from platformdirs import user_data_path

    return user_data_path("deploycost", appauthor=False) / "prices"


def layer_files(folder: Path) -> list[Path]:
    """The files of a user's folder from the lowest layer up: refreshed rows, own rows, discounts; each by name."""
    own = sorted((folder / OWN).glob("*.csv"))
    rows = [path for path in own if not path.name.endswith(DISCOUNTS_SUFFIX)]
    return [*sorted((folder / REFRESHED).glob("*.csv")), *rows, *(path for path in own if path not in rows)]


def laid_over(offers: Sequence[Offer], files: Sequence[Path]) -> tuple[Offer, ...]:
    """The rows with those of the files in place of what they price anew, and their discounts taken off.

    Nothing is taken off rows that a user added: what was negotiated is in their price.

    Raises:
        PriceError: a file cannot be read, or all mistakes of the first one that has some.
    """
    machines = read_machines()
    listed: dict[tuple[str, ...], Offer] = {offer.identity: offer for offer in offers}
    own: dict[tuple[str, ...], Offer] = {}
    discounts: list[Discount] = []
    for path in files:
        if path.name.endswith(DISCOUNTS_SUFFIX):
            discounts += read_discounts(path)
        else:
            layer = own if path.parent.name == OWN else listed
            layer |= {offer.identity: offer for offer in read_offers(path, machines)}
    reduced = {identity: discounted(offer, discounts) for identity, offer in listed.items()} if discounts else listed
    return tuple((reduced | own).values())
