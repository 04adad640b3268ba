"""GCP: the billing catalogue, which prices cores, memory and accelerators apart. A machine is their sum."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from pricing.offer import WHOLE_HOURS, Offer, PurchaseOption
from pricing.offer_rows import Machines
from pricing.refreshing.fetch import Fetcher
from pricing.refreshing.fetched import Fetched, Known, money, no_such_region, required, shape_changed

BASE_URL = "https://cloudbilling.googleapis.com"
# Compute Engine among the catalogue's services.
_PATH = "/v1/services/6F81-5844-456A/skus"
_PAGE_SIZE = "5000"
_MOST_PAGES = 500
_NANO = Decimal("1e-9")

_OPTIONS: dict[str, PurchaseOption] = {
    "OnDemand": "on-demand", "Preemptible": "spot", "Commit1Yr": "reserved-1y", "Commit3Yr": "reserved-3y",
}  # fmt: skip
# As in `C3 Instance Core running in Iowa`, `Spot Preemptible N2D AMD Instance Ram running in …`,
# `N1 Predefined Instance Core running in …` and `Commitment v1: E2 Cpu in Iowa for 1 Year`.
_RUNNING = re.compile(
    r"(?:Spot Preemptible |Preemptible )?(?P<series>[A-Z]\d[A-Z]?)(?: Predefined)?(?: AMD| Arm)?(?: Instance)?"
    r" (?P<part>Core|Ram) running in .*"
)
_COMPUTE_OPTIMIZED = re.compile(
    r"(?:Spot Preemptible |Preemptible )?Compute optimized (?P<part>Core|Ram) running in .*"
)
_COMMITTED = re.compile(r"Commitment v1: (?P<series>[A-Z]\d[A-Z]?)(?: AMD| Arm)? (?P<part>Cpu|Core|Ram) in .*")
_ACCELERATOR = re.compile(
    r"(?:Spot Preemptible |Preemptible |Commitment v1: )?Nvidia (?:Tesla )?(?P<name>[A-Z]+\d+)(?: (?P<memory>\d+)GB)?"
    r"(?: GPU)?(?: attached to Spot Preemptible VMs)? (?:running )?in .*"
)
_CORE, _RAM = "core", "ram"
_PARTS = {"Core": _CORE, "Cpu": _CORE, "Ram": _RAM}
_HOUR = "h"
_UNITS = {_RAM: "GiBy.h"}
# What the catalogue calls the cards that the price book names more closely.
_CARDS = {"A100-40GB": "A100", "H100-SXM": "H100-80GB"}
# Built of parts that the catalogue does not name by their series.
_NOT_SUMMED = ("a3-megagpu-",)

# (series or accelerator, part, purchase option) -> USD per hour of one core, GiB or card.
Parts = dict[tuple[str, str, PurchaseOption], Decimal]

__all__ = ["BASE_URL", "Parts", "fetch_gcp_parts", "gcp_machines"]


def fetch_gcp_parts(fetcher: Fetcher, regions: Sequence[str], base_url: str) -> dict[str, Parts]:
    """What the parts of machines cost in each of the regions: the catalogue is one for all, and fetched once.

    Raises:
        PriceError: the service cannot be reached, or changed its shape.
    """
    found: dict[str, Parts] = {region: {} for region in regions}
    for sku in _skus(fetcher, base_url):
        there = required(sku, "serviceRegions", "a SKU of the catalogue", list)
        for region, usd in found.items():
            if region in there:
                _note(usd, sku)
    return found


def gcp_machines(region: str, usd: Parts, known: Known, machines: Machines, today: datetime.date) -> Fetched:
    """Prices of a region for the machine types that are known. A type of which a part has no price is left out.

    Raises:
        PriceError: nothing has a price in this region.
    """
    if not usd:
        raise no_such_region("gcp", region)
    offers, left_out = [], set()
    for template in known.by_type.values():
        totals: dict[PurchaseOption, Decimal | None] = {
            option: _total(template, option, usd) for option in _OPTIONS.values()
        }
        if not any(totals.values()):
            left_out.add(template.instance_type)
        offers += [
            _offer(template, option, total, region, machines, today) for option, total in totals.items() if total
        ]
    if not offers:
        raise shape_changed(f"no machine has a price in {region}")
    return Fetched(tuple(sorted(offers, key=lambda offer: offer.identity)), tuple(sorted(left_out)))


def _skus(fetcher: Fetcher, base_url: str) -> Iterator[object]:
    """All SKUs of the catalogue, page after page."""
    where = "the GCP catalogue"
    asked = {"pageSize": _PAGE_SIZE, "currencyCode": "USD"}
    for _ in range(_MOST_PAGES):
        page = fetcher.json(base_url + _PATH, asked)
        yield from required(page, "skus", where, list)
        if not page.get("nextPageToken"):
            return
        asked = {**asked, "pageToken": required(page, "nextPageToken", where, str)}
    raise shape_changed(f"{where} has more than {_MOST_PAGES} pages")


def _note(usd: Parts, sku: object) -> None:
    """Notes what a SKU prices, if it is a core, memory or an accelerator of a machine."""
    description = required(sku, "description", "a SKU of the catalogue", str)
    where = f"the SKU {description!r}"
    option = _OPTIONS.get(required(sku, "category.usageType", where, str))
    if option is None or required(sku, "category.resourceFamily", where, str) != "Compute":
        return
    part = _part_of(description)
    if part is None:
        return
    pricing = required(sku, "pricingInfo", where, list)
    if not pricing:
        raise shape_changed(f"'pricingInfo' is empty in {where}")
    expression = required(pricing[0], "pricingExpression", where, dict)
    series, kind = part
    unit = _UNITS.get(kind, _HOUR)
    if expression.get("usageUnit", unit) != unit:
        raise shape_changed(f"{where} is priced by {expression['usageUnit']!r}, not by {unit!r}")
    tiers = required(expression, "tieredRates", where, list)
    if not tiers:
        raise shape_changed(f"'tieredRates' is empty in {where}")
    price = required(tiers[-1], "unitPrice", where, dict)
    units, nanos = required(price, "units", where, object), required(price, "nanos", where, object)
    value = money(units, where) + money(nanos, where) * _NANO
    if value:
        usd[series, kind, option] = value


def _part_of(description: str) -> tuple[str, str] | None:
    """(series, core or ram) or (accelerator, "") that a SKU prices; None for custom, sole-tenant and other SKUs."""
    for pattern in (_RUNNING, _COMMITTED):
        if match := pattern.fullmatch(description):
            return match["series"].lower(), _PARTS[match["part"]]
    if match := _COMPUTE_OPTIMIZED.fullmatch(description):
        return "c2", _PARTS[match["part"]]
    if match := _ACCELERATOR.fullmatch(description):
        return match["name"] + (f"-{match['memory']}GB" if match["memory"] else ""), ""
    return None


def _total(machine: Offer, option: PurchaseOption, usd: Parts) -> Decimal | None:
    """USD per hour of a machine: cores x core + GiB x memory + cards x card; None where a part has no price.

    Of a shared-core machine the share of its vCPUs that it owns is billed.
    """
    if machine.instance_type.startswith(_NOT_SUMMED):
        return None
    series = machine.instance_type.split("-")[0]
    core, memory = usd.get((series, _CORE, option)), usd.get((series, _RAM, option))
    if core is None or memory is None:
        return None
    total = machine.vcpus * machine.sustained_cpu_ratio * core + machine.memory_gib * memory
    if machine.accelerator_name:
        card = usd.get((_CARDS.get(machine.accelerator_name, machine.accelerator_name), "", option))
        if card is None:
            return None
        total += machine.accelerator_count * card
    return total


def _offer(
    template: Offer, option: PurchaseOption, usd: Decimal, region: str, machines: Machines, today: datetime.date
) -> Offer:
    billing = machines.billing.get(("gcp", option), WHOLE_HOURS)
    return replace(
        template,
        region=region,
        purchase_option=option,
        usd_per_hour=usd,
        source="GCP Cloud Billing catalogue, service 6F81-5844-456A",
        as_of=today,
        note="cores, memory and accelerators summed; no disk",
        billing_granularity_s=billing.granularity_s,
        billing_minimum_s=billing.minimum_s,
        term_upfront_usd=Decimal(0),
    )
