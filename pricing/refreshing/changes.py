"""What a refresh changed, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from pricing.offer import Offer

__all__ = ["Change", "changes_between"]


@dataclass(frozen=True, slots=True)
class Change:
    """A price that came (`before` is None), went (`after` is None) or moved, in USD per hour with what is upfront."""

    cloud: str
    region: str
    instance_type: str
    purchase_option: str
    before: Decimal | None
    after: Decimal | None

    @property
    def kind(self) -> str:
        """added, removed or changed."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    @property
    def percent(self) -> Decimal | None:
        """How far the price moved, in percent of what it was; None where there was none, or is none."""
        if self.before is None or self.after is None:
            return None
        return (self.after - self.before) / self.before * 100


def changes_between(before: Iterable[Offer], after: Iterable[Offer]) -> tuple[Change, ...]:
    """The rows that differ in price: the largest moves first, then those that came, then those that went."""
    old = {offer.identity: offer.effective_usd_per_hour for offer in before}
    new = {offer.identity: offer.effective_usd_per_hour for offer in after}
    changes = [
        Change(*identity, old.get(identity), new.get(identity))
        for identity in sorted(old.keys() | new.keys())
        if old.get(identity) != new.get(identity)
    ]
    order = {"changed": 0, "added": 1, "removed": 2}
    return tuple(sorted(changes, key=lambda change: (order[change.kind], -abs(change.percent or 0))))
