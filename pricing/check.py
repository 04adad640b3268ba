"""How old the price rows are, and what is missing among them."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pricing.offer import PURCHASE_OPTIONS, Offer

__all__ = ["Age", "Gap", "ages", "gaps"]


@dataclass(frozen=True, slots=True)
class Age:
    """The dates of a cloud's rows under one purchase option, and how many are older than was allowed."""

    cloud: str
    purchase_option: str
    rows: int
    oldest: datetime.date
    newest: datetime.date
    median_days: float
    stale: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What no price is known of: `what` says it in words, `families` names the machines, where it is of some only."""

    cloud: str
    what: str
    families: tuple[str, ...] = ()


def ages(offers: Sequence[Offer], today: datetime.date, max_age_days: int) -> list[Age]:
    """The ages of the rows by cloud and purchase option, in this order."""
    groups: dict[tuple[str, int], list[Offer]] = defaultdict(list)
    for offer in offers:
        groups[offer.cloud, PURCHASE_OPTIONS.index(offer.purchase_option)].append(offer)
    found = []
    for (cloud, option), rows in sorted(groups.items()):
        dates = [offer.as_of for offer in rows]
        days = [(today - date).days for date in dates]
        stale = sum(age > max_age_days for age in days)
        found.append(
            Age(cloud, PURCHASE_OPTIONS[option], len(rows), min(dates), max(dates), float(median(days)), stale)
        )
    return found


def gaps(offers: Sequence[Offer]) -> list[Gap]:
    """What is unknown: purchase options of a cloud, and regions and spot prices of some of its families."""
    found: list[Gap] = []
    for cloud in sorted({offer.cloud for offer in offers}):
        mine = [offer for offer in offers if offer.cloud == cloud]
        there = {offer.purchase_option for offer in mine}
        if options := [option for option in PURCHASE_OPTIONS if option not in there]:
            found.append(Gap(cloud, f"no {', '.join(options)} prices"))
        families = {offer.family for offer in mine}
        if "spot" in there:
            without = families - {offer.family for offer in mine if offer.purchase_option == "spot"}
            if without:
                found.append(Gap(cloud, "no spot prices", tuple(sorted(without))))
        for region in _regions(mine):
            without = families - {offer.family for offer in mine if offer.region == region}
            if without:
                found.append(Gap(cloud, f"no prices in {region}", tuple(sorted(without))))
    return found


def _regions(offers: Sequence[Offer]) -> list[str]:
    """The regions in which a cloud has one price list for all. A market of hosts, where places differ, has none."""
    by_region: dict[str, set[str]] = defaultdict(set)
    for offer in offers:
        by_region[offer.region].add(offer.family)
    most = max(len(families) for families in by_region.values())
    is_market = len(by_region) > 1 and most < len({offer.family for offer in offers}) / 2
    return [] if is_market else sorted(by_region)
