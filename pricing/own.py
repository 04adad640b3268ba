"""A user's own price rows and discounts: read with all their mistakes told at once, and kept beside the book."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pricing.atomic import write_atomically
from pricing.book import PriceBook
from pricing.discounts import (
    DISCOUNT_COLUMNS,
    DISCOUNT_OPTIONAL_COLUMNS,
    discounts_of,
    looks_like_discounts,
)
from pricing.errors import PriceError, nearest_names
from pricing.layers import DISCOUNTS_SUFFIX, OWN
from pricing.offer import Offer
from pricing.offer_rows import (
    OFFER_COLUMNS,
    OFFER_OPTIONAL_COLUMNS,
    note_duplicates,
    offer_of,
    read_machines,
    read_offers,
)
from pricing.table import Row, refuse_columns, refuse_mistakes

# What a user must say of a machine; the rest has a usual value.
_REQUIRED = ("cloud", "region", "instance_type", "vcpus", "memory_gib", "source", "as_of")
_PRICE, _UNIT, _CURRENCY = "usd_per_hour", "unit", "currency"
# A price without its unit in the column's name needs it beside it.
_BARE_PRICE = "price"
_USUAL = {"purchase_option": "on-demand", "accelerator_count": "0"}
_HOURS, _DOLLARS = ("hour", "h"), ("USD",)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What people leave out or mistake in names: us-east1 and us-east-1 are not two places of one cloud.
_SIGNS = re.compile(r"[^a-z0-9]+")
# USD per hour between which a machine for hire may cost: those that are shipped, some decades apart.
_LEAST_USD, _MOST_USD = Decimal("0.0001"), Decimal(10_000)

__all__ = ["Added", "add_file", "own_files", "remove_file"]


@dataclass(frozen=True)
class Added:
    """What a file brought: its name in the user's folder, and how many rows or discounts it holds."""

    name: str
    offers: int
    discounts: int
    replaced: bool


def add_file(path: Path, folder: Path, book: PriceBook, today: datetime.date) -> Added:
    """Keeps a CSV or JSON file of price rows or of discounts in the user's folder; one of the same name is replaced.

    Rows have the columns of `offers.csv`, of which `family`, `purchase_option`, the accelerator and `note` may be left
    out; `price` with `unit` and `currency` stands for `usd_per_hour`. Clouds, regions and machines of `book` are
    known whatever their case, and kept as it spells them. Discounts are lines such as `aws-c7i,-12%`.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    name = path.name.split(".")[0]
    if not _NAME.fullmatch(name):
        raise PriceError(f"the name of {path} cannot be kept: expected letters, digits, '.', '_' and '-'")
    header, lines = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
    if looks_like_discounts(header):
        return _add_discounts(path, name, folder, header, lines, book)
    own = _own_identities(folder)
    known = _Known([offer for offer in book.offers if offer.identity not in own])
    return _add_offers(path, name, folder, header, lines, known, today)


def own_files(folder: Path) -> dict[str, list[Path]]:
    """The files that were added, by name."""
    files: dict[str, list[Path]] = {}
    for path in sorted((folder / OWN).glob("*.csv")):
        files.setdefault(path.name.split(".")[0], []).append(path)
    return files


def remove_file(name: str, folder: Path) -> int:
    """Removes what was added under a name, and returns how many files that were.

    Raises:
        PriceError: nothing has this name.
    """
    files = own_files(folder)
    if name not in files:
        known = ", ".join(files) or "none; 'deploycost prices add FILE' adds one"
        raise PriceError(f"no price file {name!r} was added{nearest_names(name, files)}; added: {known}")
    for path in files[name]:
        path.unlink()
    return len(files[name])


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The first line and the others with their numbers; comments (#) and empty lines left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                (number, [cell.strip() for cell in cells])
                for number, cells in enumerate(csv.reader(file, strict=True), start=1)
                if any(cells) and not cells[0].lstrip().startswith("#")
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PriceError(f"cannot read prices from {path}: {error}") from None
    if not lines:
        raise PriceError(f"{path} is empty: expected price rows, or discounts such as aws-c7i,-12%")
    header = lines[0][1]
    # Discounts may come without a first line that names their columns.
    return header, lines if looks_like_discounts(header) and header[0] != DISCOUNT_COLUMNS[0] else lines[1:]


def _read_json(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names and values of a list of objects, as if they were lines: the first object is line 1."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise PriceError(f"cannot read prices from {path}: {error}") from None
    if isinstance(document, Mapping):
        document = document.get("offers", document.get("discounts"))
    if not isinstance(document, list) or not document or not all(isinstance(entry, Mapping) for entry in document):
        raise PriceError(f"{path}: expected a list of objects, or one under 'offers' or 'discounts'")
    header = list(dict.fromkeys(name for entry in document for name in entry))
    return header, [(number, [_text(entry.get(name)) for name in header]) for number, entry in enumerate(document, 1)]


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return "" if value is None else str(value).strip()


def _rows(
    path: Path,
    header: Sequence[str],
    lines: Sequence[tuple[int, list[str]]],
    columns: Sequence[str],
    optional: Sequence[str],
) -> list[Row]:
    refuse_columns(path, header, columns, optional)
    rows = []
    for number, cells in lines:
        known = dict.fromkeys((*columns, *optional), "") | dict(zip(header, cells, strict=False))
        row = Row(known, number)
        if len(cells) != len(header):
            row.mistakes.append(f"has {len(cells)} cells where {len(header)} were expected")
        rows.append(row)
    return rows


def _add_discounts(
    path: Path,
    name: str,
    folder: Path,
    header: Sequence[str],
    lines: Sequence[tuple[int, list[str]]],
    book: PriceBook,
) -> Added:
    named = header[0] == DISCOUNT_COLUMNS[0]
    columns = header if named else (*DISCOUNT_COLUMNS, *DISCOUNT_OPTIONAL_COLUMNS)[: len(header)]
    rows = _rows(path, columns, lines, DISCOUNT_COLUMNS, DISCOUNT_OPTIONAL_COLUMNS)
    own = _own_identities(folder)
    names = {each for offer in book.offers for each in offer.names}
    listed = {each for offer in book.offers if offer.identity not in own for each in offer.names}
    discounts = discounts_of(rows, path.name)
    for row, discount in zip(rows, discounts, strict=True):
        if discount.machines and discount.machines not in names:
            row.mistakes.append(f"unknown machines {discount.machines!r}{nearest_names(discount.machines, names)}")
        elif discount.machines and discount.machines not in listed:
            row.mistakes.append(f"{discount.machines} has prices of your own only, and nothing is taken off those")
    refuse_mistakes(path, rows)
    cells = [
        (each.machines, f"-{(each.ratio * 100).normalize():f}%", each.purchase_option, each.source)
        for each in discounts
    ]
    target = folder / OWN / f"{name}{DISCOUNTS_SUFFIX}"
    replaced = target.exists()
    write_atomically(target, _csv((*DISCOUNT_COLUMNS, *DISCOUNT_OPTIONAL_COLUMNS), cells))
    return Added(name, 0, len(discounts), replaced)


class _Known:
    """How offers spell the regions and machines of each cloud, and which family each machine is of."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._spelled: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        self._families: dict[tuple[str, str], str] = {}
        for offer in offers:
            for column, name in (("region", offer.region), ("instance_type", offer.instance_type)):
                self._spelled[offer.cloud, column].setdefault(name.lower(), name)
            self._families.setdefault((offer.cloud, offer.instance_type), offer.family)
        for spelled in self._spelled.values():
            for lower, name in tuple(spelled.items()):
                spelled.setdefault(_SIGNS.sub("", lower), name)

    def spelled(self, row: Row, cloud: str, column: str) -> str:
        """The cell as the book spells it, case aside. One that only its signs tell from a known name is a mistake."""
        told = row.text(column)
        spelled = self._spelled.get((cloud, column), {})
        known = spelled.get(told.lower()) or spelled.get(_SIGNS.sub("", told.lower()), told)
        if known.lower() != told.lower():
            row.mistakes.append(f"{column} {told!r} is unknown (did you mean {known!r}?)")
        return known

    def family(self, cloud: str, instance_type: str) -> str:
        """That of a machine of the book; else the beginning of the type's name, as most clouds have it."""
        return self._families.get((cloud, instance_type), f"{cloud}-{instance_type.partition('.')[0].lower()}")


def _own_identities(folder: Path) -> set[tuple[str, ...]]:
    """What the rows that were added price."""
    paths = [path for paths in own_files(folder).values() for path in paths]
    rows = [path for path in paths if not path.name.endswith(DISCOUNTS_SUFFIX)]
    return {offer.identity for path in rows for offer in read_offers(path, read_machines())}


def _add_offers(
    path: Path,
    name: str,
    folder: Path,
    header: Sequence[str],
    lines: Sequence[tuple[int, list[str]]],
    known: _Known,
    today: datetime.date,
) -> Added:
    price = _PRICE if _PRICE in header else _BARE_PRICE
    optional = {*OFFER_COLUMNS, *OFFER_OPTIONAL_COLUMNS, _UNIT, _CURRENCY, _BARE_PRICE} - {*_REQUIRED, price}
    rows = _rows(path, header, lines, (*_REQUIRED, price), sorted(optional))
    machines = read_machines()
    offers: list[Offer] = []
    kept: list[Row] = []
    for row in rows:
        cells = _completed(row, price, known)
        completed = Row(cells, row.line)
        completed.mistakes += row.mistakes
        offers.append(offer_of(completed, machines))
        _note_implausible(completed, offers[-1], today)
        kept.append(completed)
    note_duplicates(kept, offers)
    refuse_mistakes(path, kept)
    columns = (*OFFER_COLUMNS, *OFFER_OPTIONAL_COLUMNS)
    target = folder / OWN / f"{name}.csv"
    replaced = target.exists()
    write_atomically(target, _csv(columns, [[row.text(column) for column in columns] for row in kept]))
    return Added(name, len(offers), 0, replaced)


def _note_implausible(row: Row, offer: Offer, today: datetime.date) -> None:
    """Notes a price that was not yet, and one that no machine has."""
    if offer.as_of > today:
        row.mistakes.append(f"as_of {offer.as_of.isoformat()} is in the future")
    if not _LEAST_USD <= offer.usd_per_hour <= _MOST_USD:
        row.mistakes.append(f"usd_per_hour {offer.usd_per_hour} is not between {_LEAST_USD} and {_MOST_USD:,}")


def _completed(row: Row, price: str, known: _Known) -> dict[str, str]:
    """The cells of a full price row: names as the book spells them, what was left out as usual, the price's unit."""
    cells = {column: row.text(column) for column in (*_REQUIRED, *OFFER_OPTIONAL_COLUMNS)}
    for column in OFFER_COLUMNS:
        cells[column] = row.text(column) or _USUAL.get(column, "")
    cells[_PRICE] = row.text(price)
    cells["cloud"] = cloud = cells["cloud"].lower()
    for column in ("region", "instance_type"):
        cells[column] = known.spelled(row, cloud, column)
    cells["family"] = cells["family"].lower() or known.family(cloud, cells["instance_type"])
    unit, currency = row.text(_UNIT), row.text(_CURRENCY)
    if unit not in _HOURS and (unit or price == _BARE_PRICE):
        row.mistakes.append(f"unit {unit!r} is not hour" if unit else "price has no unit: expected hour")
    if currency not in _DOLLARS and (currency or price == _BARE_PRICE):
        row.mistakes.append(
            f"currency {currency!r} is not USD: convert it" if currency else "price has no currency: expected USD"
        )
    if row.text("accelerator_name") and not row.text("accelerator_count"):
        cells["accelerator_count"] = "1"
    return cells


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
