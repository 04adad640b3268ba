"""Which of some price rows a user wants to see, by size, chip and price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pricing.errors import PriceError, nearest_names
from pricing.offer import Offer

__all__ = ["Filters", "narrowed"]


@dataclass(frozen=True)
class Filters:
    """Limits on machines, each inclusive; None where there is none. `accelerator` is a name (T4), any, or none."""

    min_vcpus: Decimal | None = None
    max_vcpus: Decimal | None = None
    min_memory_gib: Decimal | None = None
    max_memory_gib: Decimal | None = None
    accelerator: str | None = None
    max_usd_per_hour: Decimal | None = None

    def lets(self, offer: Offer) -> bool:
        """Whether an offer is within all limits."""
        return (
            _within(offer.vcpus, self.min_vcpus, self.max_vcpus)
            and _within(offer.memory_gib, self.min_memory_gib, self.max_memory_gib)
            and _within(offer.effective_usd_per_hour, None, self.max_usd_per_hour)
            and self._lets_accelerator(offer.accelerator_name)
        )

    def _lets_accelerator(self, name: str | None) -> bool:
        wanted = (self.accelerator or "").lower()
        match wanted:
            case "":
                return True
            case "any":
                return name is not None
            case "none":
                return name is None
            case _:
                return name is not None and name.lower() == wanted


def narrowed(offers: Sequence[Offer], filters: Filters, known: Sequence[Offer]) -> list[Offer]:
    """The offers within the limits, in their order.

    Raises:
        PriceError: no machine of `known` has such an accelerator (with the nearest), or nothing is within the limits.
    """
    names = {offer.accelerator_name for offer in known if offer.accelerator_name} | {"any", "none"}
    if filters.accelerator and filters.accelerator.lower() not in {name.lower() for name in names}:
        hint = nearest_names(filters.accelerator, names)
        raise PriceError(f"unknown accelerator {filters.accelerator!r}{hint}; known: {', '.join(sorted(names))}")
    found = [offer for offer in offers if filters.lets(offer)]
    if offers and not found:
        raise PriceError(f"none of {len(offers)} prices is within these limits: widen them")
    return found


def _within(value: Decimal, least: Decimal | None, most: Decimal | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
