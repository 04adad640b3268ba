"""`deploycost prices`: the price book, as it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from deploycost.commands.output import show, show_json
from deploycost.errors import UserError
from deploycost.units import usd
from pricing.book import Offer, load_book
from pricing.errors import PriceError
from pricing.selection import select

_Cloud = Annotated[str, Parameter(help="Cloud (aws), family (aws-g4dn), instance type, a comma list, or all.")]
_Json = Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")]


def list_prices(
    cloud: _Cloud = "all", *, region: str | None = None, purchase_option: str = "on-demand", json: _Json = False
) -> int:
    """List the prices of machines, cheapest first.

    Example: deploycost prices list aws-g4dn --region eu-central-1
    """
    offers = _selected(cloud, region, purchase_option)
    if json:
        show_json({"offers": [_as_json(offer) for offer in offers]})
        return 0
    table = Table(caption=f"{len(offers)} prices, {purchase_option}; 'prices show' gives the source of one")
    for title in ("cloud", "region", "machine"):
        table.add_column(title, overflow="fold")
    for title in ("vCPU", "GiB", "accelerator", "$/hour", "as of"):
        table.add_column(title, justify="right")
    for offer in offers:
        accelerator = (
            f"{offer.accelerator_count.normalize():f}x {offer.accelerator_name}" if offer.accelerator_name else ""
        )
        sizes = (f"{offer.vcpus.normalize():f}", f"{offer.memory_gib.normalize():f}", accelerator)
        place = (offer.cloud, offer.region, offer.instance_type)
        table.add_row(*place, *sizes, usd(offer.usd_per_hour), offer.as_of.isoformat())
    show(table)
    return 0


def show_price(
    machine: _Cloud, *, region: str | None = None, purchase_option: str = "on-demand", json: _Json = False
) -> int:
    """Everything known of the prices of one machine, with their sources.

    Example: deploycost prices show aws-g4dn.xlarge
    """
    offers = _selected(machine, region, purchase_option)
    if json:
        show_json({"offers": [_as_json(offer) for offer in offers]})
        return 0
    for offer in offers:
        table = Table(title=offer.key, show_header=False, title_justify="left")
        for name, value in _as_json(offer).items():
            table.add_row(name, "unknown" if value is None else str(value))
        show(table)
    return 0


def _selected(cloud: str, region: str | None, purchase_option: str) -> list[Offer]:
    try:
        return select(load_book(), cloud, region, purchase_option)
    except PriceError as error:
        raise UserError(str(error)) from None


def _as_json(offer: Offer) -> dict[str, str | float | None]:
    return {
        name: value if value is None or isinstance(value, str) else float(value) if _is_number(value) else str(value)
        for name, value in asdict(offer).items()
    }


def _is_number(value: object) -> bool:
    from decimal import Decimal

    return isinstance(value, int | float | Decimal)
