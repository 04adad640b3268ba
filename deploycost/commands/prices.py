"""`deploycost prices`: the price book, as it is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from deploycost.commands.output import show, show_json
from deploycost.errors import UserError
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
    table = Table(
        caption=f"{len(offers)} prices, {purchase_option}; 'deploycost prices show MACHINE' gives the source of one",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in ("cloud", "region", "machine"):
        table.add_column(title, overflow="fold")
    for title in ("vCPU", "GiB", "accelerator", "$/hour", "as of"):
        table.add_column(title, justify="right", no_wrap=True)
    for offer in offers:
        count = f"{offer.accelerator_count.normalize():f}x" if offer.accelerator_name else ""
        sizes = (f"{offer.vcpus.normalize():f}", f"{offer.memory_gib.normalize():f}")
        table.add_row(
            offer.cloud,
            offer.region,
            offer.instance_type,
            *sizes,
            f"{count} {offer.accelerator_name or ''}".strip(),
            f"${offer.usd_per_hour.normalize():f}",
            offer.as_of.isoformat(),
        )
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
    return {name: _plain(value) for name, value in asdict(offer).items()}


def _plain(value: str | int | Decimal | date | None) -> str | float | None:
    if isinstance(value, int | Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value
