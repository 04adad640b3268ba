"""What a price service said of one region, and reading its records without trusting their shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from pricing.errors import PriceError, nearest_names
from pricing.grid import load_grid
from pricing.offer import Offer
from pricing.table import positive_number

T = TypeVar("T")
_KINDS: dict[type, str] = {dict: "object", list: "list", str: "text"}

__all__ = ["Fetched", "Known", "as_kind", "money", "no_such_region", "required", "shape_changed"]


@dataclass(frozen=True)
class Fetched:
    """The rows of one region, and the machine types that were left out because their size or chip is unknown.

    `validators` are for the next time; empty where the service gives none.
    """

    offers: tuple[Offer, ...]
    left_out: tuple[str, ...] = ()
    validators: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What the price book knows of a cloud's machines beside prices: a row of each type, whatever its region."""

    by_type: Mapping[str, Offer]

    @classmethod
    def of(cls, offers: Iterable[Offer], cloud: str) -> Known:
        """A row of each of the cloud's machine types; on demand where there is one."""
        mine = [offer for offer in offers if offer.cloud == cloud]
        by_type = {offer.instance_type: offer for offer in mine}
        by_type |= {offer.instance_type: offer for offer in mine if offer.purchase_option == "on-demand"}
        return cls(by_type)

    def of_family(self, family: str) -> Offer | None:
        """Any known machine of a family."""
        return next((offer for offer in self.by_type.values() if offer.family == family), None)


def required(record: object, path: str, where: str, kind: type[T]) -> T:
    """The part of a record at a dotted path, which must be of this kind.

    Raises:
        PriceError: it is not there, or another thing: the service changed its shape.
    """
    part = record
    for name in path.split("."):
        if not isinstance(part, Mapping) or name not in part:
            raise shape_changed(f"{path!r} is missing in {where}")
        part = part[name]
    return as_kind(part, kind, f"{path!r} in {where}")


def as_kind(part: object, kind: type[T], what: str) -> T:
    """The part itself, which must be of this kind.

    Raises:
        PriceError: it is another thing: the service changed its shape.
    """
    if not isinstance(part, kind):
        raise shape_changed(f"{what} is no {_KINDS.get(kind, kind.__name__)}")
    return part


def money(value: object, where: str) -> Decimal:
    """A price, zero or more.

    Raises:
        PriceError: it is not a number: the service changed its shape.
    """
    number = None if isinstance(value, bool) else positive_number(str(value), zero_allowed=True)
    if number is None:
        raise shape_changed(f"{value!r} is not a price in {where}")
    return number


def no_such_region(cloud: str, region: str) -> PriceError:
    """One line for a region of which the service knows nothing, with the nearest ones that are known here."""
    known = [name for of_cloud, name in load_grid() if of_cloud == cloud and name != region]
    return PriceError(f"{cloud} has no price in region {region!r}{nearest_names(region, known)}; nothing was changed")


def shape_changed(what: str) -> PriceError:
    """One line for a service that answers otherwise than its clients expect."""
    return PriceError(f"{what}: the price service changed its shape; the old rows stay")
