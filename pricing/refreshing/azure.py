"""Azure: the retail price service, which answers a region's machines page by page."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from urllib.parse import urlsplit

from pricing.errors import PriceError
from pricing.offer import TERM_HOURS, WHOLE_HOURS, Offer, PurchaseOption
from pricing.offer_rows import Machines
from pricing.refreshing.fetch import Fetcher
from pricing.refreshing.fetched import Fetched, Known, as_kind, money, no_such_region, required, shape_changed

BASE_URL = "https://prices.azure.com"
_PATH = "/api/retail/prices"
_RESERVED: dict[str, PurchaseOption] = {"1 Year": "reserved-1y", "3 Years": "reserved-3y"}
# What a product or meter name says when a price is not that of a plain Linux machine.
_NOT_LINUX = ("Windows", "Cloud Services", "Dedicated Host")
_NOT_ON_DEMAND = ("Low Priority",)
_SPOT = " Spot"
# A term's price is spread over its hours to a millionth of a dollar.
_CENTS = Decimal("0.000001")
# More pages than any region has: a service that never stops answering is broken.
_MOST_PAGES = 500

__all__ = ["BASE_URL", "fetch_azure"]


def fetch_azure(
    fetcher: Fetcher, region: str, base_url: str, known: Known, machines: Machines, today: datetime.date
) -> Fetched:
    """On-demand, spot and reserved prices of a region, for the machine types whose size is known.

    The service says nothing of sizes, so types that the price book does not know are left out.

    Raises:
        PriceError: the service cannot be reached, or changed its shape.
    """
    by_lower = {name.lower(): offer for name, offer in known.by_type.items()}
    offers: dict[tuple[str, str], Offer] = {}
    left_out: set[str] = set()
    item = None
    for item in _items(fetcher, region, base_url):
        priced = _price(item)
        if priced is None:
            continue
        instance_type, option, usd = priced
        template = by_lower.get(instance_type.lower())
        if template is None:
            left_out.add(instance_type)
            continue
        offer = _offer(template, option, usd, region, machines, today)
        other = offers.get((offer.instance_type, option))
        if other is None or offer.usd_per_hour < other.usd_per_hour:
            offers[offer.instance_type, option] = offer
    if item is None:
        raise no_such_region("azure", region)
    if not offers:
        raise shape_changed(f"no Linux machine has a price in {region}")
    return Fetched(tuple(offers[key] for key in sorted(offers)), tuple(sorted(left_out)))


def _items(fetcher: Fetcher, region: str, base_url: str) -> Iterator[object]:
    """All price items of a region's machines, page after page."""
    where = f"the Azure prices of {region}"
    query = f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}'"
    page = fetcher.json(base_url + _PATH, {"currencyCode": "USD", "$filter": query})
    for _ in range(_MOST_PAGES):
        yield from required(page, "Items", where, list)
        if not page.get("NextPageLink"):
            return
        following = required(page, "NextPageLink", where, str)
        if urlsplit(following).netloc != urlsplit(base_url).netloc:
            raise PriceError(f"{where} go on at another host ({urlsplit(following).netloc}); nothing was changed")
        page = fetcher.json(following)
    raise shape_changed(f"{where} have more than {_MOST_PAGES} pages")


def _price(item: object) -> tuple[str, PurchaseOption, Decimal] | None:
    """Instance type, purchase option and USD per hour of an item; None where it is not a plain Linux machine."""
    item = as_kind(item, dict, "an Azure price")
    where = f"the Azure price of {item.get('meterName', 'a meter')}"
    product, sku = required(item, "productName", where, str), required(item, "skuName", where, str)
    kind, instance_type = required(item, "type", where, str), required(item, "armSkuName", where, str)
    if not instance_type or any(word in product for word in _NOT_LINUX) or any(word in sku for word in _NOT_ON_DEMAND):
        return None
    if required(item, "currencyCode", where, str) != "USD" or required(item, "unitOfMeasure", where, str) != "1 Hour":
        return None
    usd = money(required(item, "retailPrice", where, object), where)
    if not usd:
        return None
    if kind == "Reservation":
        option = _RESERVED.get(required(item, "reservationTerm", where, str))
        return (instance_type, option, (usd / TERM_HOURS[option]).quantize(_CENTS)) if option else None
    if kind != "Consumption":
        return None
    return instance_type, "spot" if sku.endswith(_SPOT) else "on-demand", usd


def _offer(
    template: Offer, option: PurchaseOption, usd: Decimal, region: str, machines: Machines, today: datetime.date
) -> Offer:
    billing = machines.billing.get(("azure", option), WHOLE_HOURS)
    return replace(
        template,
        region=region,
        purchase_option=option,
        usd_per_hour=usd,
        source=f"Azure Retail Prices API, armRegionName {region}",
        as_of=today,
        note="the term's price over its hours" if option in TERM_HOURS else "",
        billing_granularity_s=billing.granularity_s,
        billing_minimum_s=billing.minimum_s,
        term_upfront_usd=Decimal(0),
    )
