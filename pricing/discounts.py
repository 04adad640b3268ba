"""What a user negotiated: a share off the list price of a cloud, a family or a machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import cast

from pricing.offer import PURCHASE_OPTIONS, Offer, PurchaseOption
from pricing.table import Row, read_rows, refuse_mistakes

DISCOUNT_COLUMNS = ("machines", "discount")
DISCOUNT_OPTIONAL_COLUMNS = ("purchase_option", "source")
# As in -12% or -7.5 %: a minus, so that nobody takes it for the share that is left to pay.
_PERCENT_OFF = re.compile(r"-\s*(\d{1,2}(?:\.\d+)?)\s*%")

__all__ = [
    "DISCOUNT_COLUMNS",
    "DISCOUNT_OPTIONAL_COLUMNS",
    "Discount",
    "discounted",
    "looks_like_discounts",
    "read_discounts",
]


@dataclass(frozen=True, slots=True)
class Discount:
    """A share (0 to 1) off the price of the machines that a name means, under one purchase option."""

    machines: str
    ratio: Decimal
    purchase_option: PurchaseOption
    source: str

    def covers(self, offer: Offer) -> bool:
        """Whether the name is the offer's cloud, family or instance type; case does not matter."""
        return self.purchase_option == offer.purchase_option and self.machines in offer.names

    def narrowness(self, offer: Offer) -> int:
        """How narrowly the name means the offer: 2 by its instance type, 1 by its family, 0 by its cloud."""
        _, family, machine, short_family, instance_type = offer.names
        if self.machines in (machine, instance_type):
            return 2
        return 1 if self.machines in (family, short_family) else 0


def looks_like_discounts(header: Sequence[str]) -> bool:
    """Whether a file with this first line holds discounts: it says so, or has a percentage, though a mistaken one."""
    cells = [cell.strip() for cell in header]
    return cells[:2] == [*DISCOUNT_COLUMNS] or (len(cells) > 1 and cells[1].endswith("%"))


def read_discounts(path: Path) -> list[Discount]:
    """The discounts of a CSV file.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, DISCOUNT_COLUMNS, DISCOUNT_OPTIONAL_COLUMNS)
    discounts = discounts_of(rows, path.name)
    refuse_mistakes(path, rows)
    return discounts


def discounts_of(rows: Sequence[Row], file_name: str) -> list[Discount]:
    """The discounts that lines say, their mistakes noted on the lines."""
    discounts: list[Discount] = []
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        discount = _discount(row, file_name)
        first = seen.setdefault((discount.machines, discount.purchase_option), row.line)
        if first != row.line:
            row.mistakes.append(f"{discount.machines} has a discount on line {first} already")
        discounts.append(discount)
    return discounts


def discounted(offer: Offer, discounts: Sequence[Discount]) -> Offer:
    """The offer with the discount taken off its price that names it most narrowly, and said in its source.

    Of several that are as narrow, the last.
    """
    covering = [discount for discount in discounts if discount.covers(offer)]
    if not covering:
        return offer
    discount = max(reversed(covering), key=lambda each: each.narrowness(offer))
    left = 1 - discount.ratio
    return replace(
        offer,
        usd_per_hour=offer.usd_per_hour * left,
        term_upfront_usd=offer.term_upfront_usd * left,
        source=f"{offer.source}; less {(discount.ratio * 100).normalize():f} % ({discount.source})",
    )


def _discount(row: Row, file_name: str) -> Discount:
    text = row.text("discount")
    match = _PERCENT_OFF.fullmatch(text)
    if not match or Decimal(match[1]) == 0:
        row.mistakes.append(f"discount {text!r} is not a share off the price such as -12%")
    option = row.choice("purchase_option", PURCHASE_OPTIONS) if row.text("purchase_option") else "on-demand"
    return Discount(
        machines=row.name("machines").lower(),
        ratio=Decimal(match[1]) / 100 if match else Decimal(0),
        purchase_option=cast(PurchaseOption, option),
        source=row.text("source") or file_name,
    )
