"""AWS: the regional offer files of EC2, hundreds of megabytes of JSON each, read as they come in."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import urljoin

from pricing.errors import PriceError
from pricing.offer import WHOLE_HOURS, Offer, PurchaseOption
from pricing.offer_rows import Machines
from pricing.refreshing.fetch import Fetcher
from pricing.refreshing.fetched import Fetched, Known, as_kind, money, required, shape_changed

BASE_URL = "https://pricing.us-east-1.amazonaws.com"
_INDEX_PATH = "/offers/v1.0/aws/index.json"
# Plain Linux on shared hardware, paid when used.
_PLAIN_LINUX = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}
_TERMS: dict[str, PurchaseOption] = {"1yr": "reserved-1y", "3yr": "reserved-3y"}
# Standard reservations by what is paid upfront, best first: without, a row needs no second price.
_UPFRONT = ("No Upfront", "Partial Upfront")
_MEMORY = re.compile(r"([\d,.]+) GiB")

__all__ = ["BASE_URL", "fetch_aws", "regions_of_aws"]


@dataclass
class _Machine:
    """A machine type of the file, and the prices met for it so far."""

    instance_type: str
    vcpus: Decimal
    memory_gib: Decimal
    accelerators: Decimal
    usd_per_hour: dict[PurchaseOption, Decimal] = field(default_factory=dict)
    upfront_usd: dict[PurchaseOption, Decimal] = field(default_factory=dict)


def regions_of_aws(fetcher: Fetcher, base_url: str) -> dict[str, str]:
    """The URL of each region's offer file.

    Raises:
        PriceError: the service cannot be reached, or changed its shape.
    """
    index = fetcher.json(base_url + _INDEX_PATH)
    path = required(index, "offers.AmazonEC2.currentRegionIndexUrl", "the offer index", str)
    regions = required(fetcher.json(urljoin(base_url, path)), "regions", "the region index", dict)
    return {
        region: urljoin(base_url, required(entry, "currentVersionUrl", f"the region index at {region}", str))
        for region, entry in regions.items()
    }


def fetch_aws(
    fetcher: Fetcher,
    region: str,
    url: str,
    known: Known,
    machines: Machines,
    today: datetime.date,
    validators: Mapping[str, str],
) -> Fetched | None:
    """On-demand and reserved prices of a region, for the machine families that are known; None if nothing changed.

    Raises:
        PriceError: the file broke off or changed its shape.
    """
    with fetcher.file(f"aws {region}", url, validators) as download:
        if download.is_unchanged:
            return None
        offer_file = _read_offer_file(download.chunks(), region, {offer.family for offer in known.by_type.values()})
        offers, left_out = [], []
        for machine in sorted(offer_file.values(), key=lambda each: each.instance_type):
            template = _template(machine, known)
            if template is None:
                left_out.append(machine.instance_type)
                continue
            offers += _offers(machine, template, region, url, machines, today)
    if not offers:
        raise shape_changed(f"no Linux machine has a price in {url}")
    return Fetched(tuple(offers), tuple(left_out), download.validators)


def _read_offer_file(chunks: Iterable[bytes], region: str, families: set[str]) -> dict[str, _Machine]:
    """The machines of the families with their prices, by SKU, in one pass that keeps nothing else."""
    import ijson

    machines: dict[str, _Machine] = {}
    products, on_demand, reserved = ijson.sendable_list(), ijson.sendable_list(), ijson.sendable_list()
    parsers = [
        ijson.kvitems_coro(products, "products"),
        ijson.kvitems_coro(on_demand, "terms.OnDemand"),
        ijson.kvitems_coro(reserved, "terms.Reserved"),
    ]
    try:
        for chunk in chunks:
            for parser in parsers:
                parser.send(chunk)
            # Products come before the terms that price them.
            for sku, product in products:
                if (machine := _machine(sku, product, region, families)) is not None:
                    machines[sku] = machine
            for sku, terms in on_demand:
                if sku in machines:
                    _note_on_demand(machines[sku], sku, terms)
            for sku, terms in reserved:
                if sku in machines:
                    _note_reserved(machines[sku], sku, terms)
            for met in (products, on_demand, reserved):
                met.clear()
        for parser in parsers:
            parser.close()
    except ijson.JSONError:
        raise PriceError(
            f"the offer file of {region} broke off or is damaged; nothing was changed, try again"
        ) from None
    if not machines:
        raise shape_changed(f"no Linux machine is in the offer file of {region}")
    return machines


def _machine(sku: str, product: object, region: str, families: set[str]) -> _Machine | None:
    """The machine that a product is, if it is plain Linux of a wanted family in the region itself."""
    attributes = required(product, "attributes", f"product {sku}", dict)
    instance_type = attributes.get("instanceType")
    if not isinstance(instance_type, str) or f"aws-{instance_type.split('.')[0]}" not in families:
        return None
    where = f"product {sku} ({instance_type})"
    if any(required(attributes, name, where, str) != value for name, value in _PLAIN_LINUX.items()):
        return None
    if required(attributes, "regionCode", where, str) != region:
        return None
    memory = _MEMORY.fullmatch(required(attributes, "memory", where, str))
    if memory is None:
        raise shape_changed(f"memory {attributes['memory']!r} of {where} is not in GiB")
    return _Machine(
        instance_type=instance_type,
        vcpus=money(required(attributes, "vcpu", where, str), where),
        memory_gib=money(memory[1].replace(",", ""), where),
        accelerators=money(attributes.get("gpu", 0), where),
    )


def _note_on_demand(machine: _Machine, sku: str, terms: object) -> None:
    where = f"the on-demand term of {sku} ({machine.instance_type})"
    for term in as_kind(terms, dict, where).values():
        hourly, _ = _prices(term, where)
        if hourly:
            machine.usd_per_hour["on-demand"] = hourly


def _note_reserved(machine: _Machine, sku: str, terms: object) -> None:
    where = f"a reserved term of {sku} ({machine.instance_type})"
    best: dict[PurchaseOption, int] = {}
    for term in as_kind(terms, dict, where).values():
        attributes = required(term, "termAttributes", where, dict)
        option = _TERMS.get(required(attributes, "LeaseContractLength", where, str))
        upfront = required(attributes, "PurchaseOption", where, str)
        if option is None or upfront not in _UPFRONT or required(attributes, "OfferingClass", where, str) != "standard":
            continue
        rank = _UPFRONT.index(upfront)
        if rank < best.get(option, len(_UPFRONT)):
            best[option] = rank
            machine.usd_per_hour[option], machine.upfront_usd[option] = _prices(term, where)


def _prices(term: object, where: str) -> tuple[Decimal, Decimal]:
    """USD per hour and USD upfront of a term."""
    hourly = upfront = Decimal(0)
    for dimension in required(term, "priceDimensions", where, dict).values():
        usd = money(required(dimension, "pricePerUnit.USD", where, object), where)
        if dimension.get("unit") == "Quantity":
            upfront = usd
        else:
            hourly = usd
    return hourly, upfront


def _template(machine: _Machine, known: Known) -> Offer | None:
    """A known row that says what chips the machine has; None where its number of them is not known."""
    if (same := known.by_type.get(machine.instance_type)) is not None:
        return same
    kin = known.of_family(f"aws-{machine.instance_type.split('.')[0]}")
    if kin is None or (kin.accelerator_name and not machine.accelerators):
        return None
    return kin


def _offers(
    machine: _Machine, template: Offer, region: str, url: str, machines: Machines, today: datetime.date
) -> list[Offer]:
    same = template.instance_type == machine.instance_type
    accelerators = template.accelerator_count if same or not template.accelerator_name else machine.accelerators
    sustained = machines.sustained_cpu_ratios.get(("aws", machine.instance_type), template.sustained_cpu_ratio)
    offers = []
    for option, usd in machine.usd_per_hour.items():
        if not usd:
            continue
        billing = machines.billing.get(("aws", option), WHOLE_HOURS)
        offers.append(
            Offer(
                cloud="aws",
                region=region,
                instance_type=machine.instance_type,
                family=template.family,
                vcpus=machine.vcpus,
                memory_gib=machine.memory_gib,
                accelerator_name=template.accelerator_name,
                accelerator_count=accelerators,
                accelerator_memory_gib=template.accelerator_memory_gib,
                purchase_option=option,
                usd_per_hour=usd,
                source=f"AWS price list {url}",
                as_of=today,
                note="standard reservation" if option != "on-demand" else "",
                vcpu_is=template.vcpu_is,
                cpu_model=template.cpu_model,
                architecture=template.architecture,
                sustained_cpu_ratio=sustained,
                billing_granularity_s=billing.granularity_s,
                billing_minimum_s=billing.minimum_s,
                term_upfront_usd=machine.upfront_usd.get(option, Decimal(0)),
            )
        )
    return offers
