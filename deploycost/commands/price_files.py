"""`deploycost prices refresh`, `add` and `remove`: what changes a user's own price files, never the shipped ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table

from deploycost.commands.output import say, show, show_json
from deploycost.commands.prices import usd_text
from deploycost.errors import UserError
from pricing.book import load_book
from pricing.errors import PriceError
from pricing.layers import prices_folder

if TYPE_CHECKING:
    from pricing.refreshing.changes import Change
    from pricing.refreshing.fetch import Progress
    from pricing.refreshing.refresh import Refreshed

_Json = Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")]
_BASE_URL_VARIABLE = "DEPLOYCOST_PRICES_URL"
_GCP_KEY_VARIABLE = "DEPLOYCOST_GCP_API_KEY"
# How many changes a table shows; JSON has all.
_CHANGES_SHOWN = 20


def refresh_prices(
    *,
    cloud: Annotated[str, Parameter(help="aws, gcp, azure, or several between commas.")],
    region: Annotated[
        tuple[str, ...],
        Parameter(help="Regions to fetch, between commas or one by one. Default: two of the US and one of the EU."),
    ] = (),
    base_url: Annotated[
        str | None, Parameter(help=f"Ask here instead of the cloud, as {_BASE_URL_VARIABLE} says too.")
    ] = None,
    gcp_key: Annotated[
        str | None, Parameter(help=f"Key of the GCP catalogue. Better: {_GCP_KEY_VARIABLE} in the environment.")
    ] = None,
    all: Annotated[bool, Parameter(negative="", help="Show every change, not only the largest.")] = False,
    json: _Json = False,
) -> int:
    """Fetch today's prices of a cloud into your own price files, and tell what changed.

    Exit code 1 when a region could not be fetched: its old rows stay.

    Example: deploycost prices refresh --cloud azure --region eastus --region westeurope
    """
    from pricing.refreshing.refresh import Services, refresh, refuse_unready

    services = Services(
        (base_url or os.environ.get(_BASE_URL_VARIABLE) or "").rstrip("/") or None,
        gcp_key or os.environ.get(_GCP_KEY_VARIABLE) or None,
    )
    clouds = list(dict.fromkeys(name.strip() for name in cloud.split(",")))
    if gcp_key and "gcp" not in clouds:
        raise UserError("--gcp-key is of no use without gcp in --cloud: leave it out")
    regions = [name.strip() for each in region for name in each.split(",")]
    outcomes: list[Refreshed] = []
    try:
        refuse_unready(clouds, regions, services)
        with _progress() as progress:
            for name in clouds:
                for outcome in refresh(name, regions, prices_folder(), services, date.today(), progress):
                    outcomes.append(outcome)
                    say(_told(outcome))
    except PriceError as error:
        raise UserError(str(error)) from None
    failed = any(outcome.error for outcome in outcomes)
    if json:
        show_json({"refreshed": [_as_json(outcome) for outcome in outcomes]})
        return 1 if failed else 0
    changes = [change for outcome in outcomes for change in outcome.changes]
    if changes:
        show(_changes_table(changes, len(changes) if all else _CHANGES_SHOWN))
    return 1 if failed else 0


def add_prices(
    file: Annotated[Path, Parameter(help="CSV or JSON of price rows, or of discounts such as aws-c7i,-12%.")],
    *,
    json: _Json = False,
) -> int:
    """Keep price rows or negotiated discounts of your own; they lie over the shipped ones.

    Example: deploycost prices add our-contract.csv
    """
    from pricing.own import add_file

    try:
        added = add_file(file, prices_folder(), load_book(), date.today())
    except PriceError as error:
        raise UserError(str(error)) from None
    if json:
        show_json({"added": asdict(added)})
        return 0
    what = f"{added.discounts} discounts" if added.discounts else f"{added.offers} prices"
    done = "replaced" if added.replaced else "added"
    say(f"{added.name}: {what} {done}; 'deploycost prices remove {added.name}' takes them out")
    return 0


def remove_prices(
    name: Annotated[str, Parameter(help="Name of the file that was added, without its ending.")], *, json: _Json = False
) -> int:
    """Forget price rows or discounts that were added; the shipped prices count again.

    Example: deploycost prices remove our-contract
    """
    from pricing.own import remove_file

    try:
        files = remove_file(name, prices_folder())
    except PriceError as error:
        raise UserError(str(error)) from None
    if json:
        show_json({"removed": name, "files": files})
        return 0
    say(f"{name}: removed")
    return 0


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error for each file on its way; nothing where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _told(outcome: Refreshed) -> str:
    where = f"{outcome.what} {outcome.region}"
    if outcome.error:
        return f"{where}: {outcome.error}"
    if outcome.unchanged:
        return f"{where}: not modified since the last refresh; {outcome.rows} prices hold today too"
    kinds = [change.kind for change in outcome.changes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("added", "removed", "changed"))
    left = f"; {len(outcome.left_out)} machine types of unknown make were left out" if outcome.left_out else ""
    return f"{where}: {outcome.rows} prices; {counts}{left}"


def _changes_table(changes: Sequence[Change], shown: int) -> Table:
    caption = f"{len(changes)} changes"
    if len(changes) > shown:
        caption = f"the first {shown} of {caption}: --all shows every one"
    if any(change.kind == "removed" for change in changes):
        caption += "; removed is what the service no longer lists: its older price stays"
    table = Table(caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("region", "machine", "option", ""):
        table.add_column(title, overflow="fold")
    for title in ("before", "after", "change"):
        table.add_column(title, justify="right", no_wrap=True)
    for change in changes[:shown]:
        amounts = ("" if usd is None else usd_text(usd) for usd in (change.before, change.after))
        percent = "" if change.percent is None else f"{change.percent:+.1f} %"
        table.add_row(change.region, change.instance_type, change.purchase_option, change.kind, *amounts, percent)
    return table


def _as_json(outcome: Refreshed) -> dict[str, Any]:
    changes = [
        {
            "kind": change.kind,
            "instance_type": change.instance_type,
            "purchase_option": change.purchase_option,
            "usd_per_hour_before": None if change.before is None else float(change.before),
            "usd_per_hour_after": None if change.after is None else float(change.after),
            "percent": None if change.percent is None else float(change.percent),
        }
        for change in outcome.changes
    ]
    return asdict(outcome) | {"changes": changes, "left_out": list(outcome.left_out)}
