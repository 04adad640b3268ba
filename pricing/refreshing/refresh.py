"""Fetching a cloud's rows region by region, and putting each region in place only when it came whole."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pricing.atomic import write_atomically
from pricing.book import load_book
from pricing.errors import PriceError, nearest_names
from pricing.layers import REFRESHED
from pricing.offer import Offer
from pricing.offer_rows import OFFER_COLUMNS, OFFER_OPTIONAL_COLUMNS, read_machines, read_offers
from pricing.refreshing import aws, azure, gcp
from pricing.refreshing.aws_spot import fetch_aws_spot, has_aws_credentials
from pricing.refreshing.changes import Change, changes_between
from pricing.refreshing.fetch import Fetcher, Progress
from pricing.refreshing.fetched import Fetched, Known
from pricing.table import DATA_FOLDER

# Where rows are fetched for unless told: two regions of the US and one of the EU, as the shipped rows have them.
REGIONS = {
    "aws": ("us-east-1", "us-west-2", "eu-central-1"),
    "gcp": ("us-central1", "us-east4", "europe-west4"),
    "azure": ("eastus", "westus2", "westeurope"),
}
_SPOT_FILE = "aws-spot"
_REGION = re.compile(r"[a-z0-9-]{1,40}")

__all__ = ["REGIONS", "Refreshed", "Services", "refresh", "refuse_unready"]


@dataclass(frozen=True)
class Services:
    """Where to ask and as whom: another base URL than the cloud's own, and the key of the GCP catalogue."""

    base_url: str | None = None
    gcp_key: str | None = None
    retries: int = 5
    backoff_s: float = 0.5


@dataclass(frozen=True)
class Refreshed:
    """What became of one file of rows. `error` is why nothing was changed; `unchanged` is when nothing was new."""

    cloud: str
    region: str
    what: str
    rows: int = 0
    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
    unchanged: bool = False
    error: str = ""


def refresh(
    cloud: str,
    regions: Sequence[str],
    folder: Path,
    services: Services,
    today: datetime.date,
    progress: Progress = lambda _what, _done, _total: None,
) -> Iterator[Refreshed]:
    """Fetches the rows of a cloud's regions into `folder`, one file each, and tells what became of each.

    A file is replaced whole or not at all. A region that fails is told with its reason, and the others go on.

    Raises:
        PriceError: the cloud is not one whose prices can be fetched, or its key is missing.
    """
    refuse_unready([cloud], regions, services)
    headers = {"X-Goog-Api-Key": services.gcp_key} if cloud == "gcp" and services.gcp_key else None
    with Fetcher(
        folder / "cache", progress, headers=headers, retries=services.retries, backoff_s=services.backoff_s
    ) as fetcher:
        work = _Refresh(folder, fetcher, services, today)
        yield from {"aws": work.aws, "gcp": work.gcp, "azure": work.azure}[cloud](regions or REGIONS[cloud])


def refuse_unready(clouds: Sequence[str], regions: Sequence[str], services: Services) -> None:
    """Says all that would stop a refresh of these clouds, before anything of any of them is fetched.

    Raises:
        PriceError: a cloud is not one whose prices can be fetched or wants a key, or a region's name is none.
    """
    mistakes = [
        f"cannot refresh {cloud!r}{nearest_names(cloud, REGIONS)}: "
        f"expected {', '.join(REGIONS)}; the rows of other clouds come with a release or with 'prices add'"
        for cloud in clouds
        if cloud not in REGIONS
    ]
    if "gcp" in clouds and not services.gcp_key:
        mistakes.append(
            "the GCP catalogue wants an API key: set DEPLOYCOST_GCP_API_KEY (a key of any project with the Cloud "
            "Billing API enabled)"
        )
    example = next((REGIONS[cloud][0] for cloud in clouds if cloud in REGIONS), REGIONS["aws"][0])
    mistakes += [
        f"{region!r} is not the name of a region: expected one such as {example}"
        for region in regions
        if not _REGION.fullmatch(region)
    ]
    if mistakes:
        raise PriceError("; ".join(mistakes))


class _Refresh:
    """One run of a refresh: where it writes, whom it asks, and what was known before."""

    def __init__(self, folder: Path, fetcher: Fetcher, services: Services, today: datetime.date) -> None:
        self._folder, self._fetcher, self._services, self._today = folder, fetcher, services, today
        # Only what was shipped says of what make machines are; a user's rows may be of other ones by the same name.
        self._before = load_book(DATA_FOLDER).offers
        self._machines = read_machines()

    def aws(self, regions: Sequence[str]) -> Iterator[Refreshed]:
        """What came of each region's prices, and of its spot prices where there are credentials."""
        known = Known.of(self._before, "aws")
        base_url = self._services.base_url or aws.BASE_URL
        try:
            urls = aws.regions_of_aws(self._fetcher, base_url)
        except PriceError as error:
            yield from (Refreshed("aws", region, "aws", error=str(error)) for region in regions)
            return
        with_spot = has_aws_credentials()
        for region in regions:
            if region not in urls:
                yield Refreshed("aws", region, "aws", error=_unknown_region(region, urls))
                continue
            path = self._path("aws", region)
            kept = _read_validators(path)
            yield self._put(
                "aws",
                region,
                partial(aws.fetch_aws, self._fetcher, region, urls[region], known, self._machines, self._today, kept),
            )
            if with_spot:
                yield self._put(
                    "aws",
                    region,
                    partial(fetch_aws_spot, region, known, self._machines, self._today, self._services.base_url),
                    what=_SPOT_FILE,
                )

    def azure(self, regions: Sequence[str]) -> Iterator[Refreshed]:
        """What came of each region's prices."""
        known = Known.of(self._before, "azure")
        base_url = self._services.base_url or azure.BASE_URL
        for region in regions:
            yield self._put(
                "azure",
                region,
                partial(azure.fetch_azure, self._fetcher, region, base_url, known, self._machines, self._today),
            )

    def gcp(self, regions: Sequence[str]) -> Iterator[Refreshed]:
        """What came of each region's prices, which are put together of those of parts."""
        known = Known.of(self._before, "gcp")
        base_url = self._services.base_url or gcp.BASE_URL
        try:
            found = gcp.fetch_gcp_parts(self._fetcher, regions, base_url)
        except PriceError as error:
            yield from (Refreshed("gcp", region, "gcp", error=str(error)) for region in regions)
            return
        for region in regions:
            yield self._put(
                "gcp", region, partial(gcp.gcp_machines, region, found[region], known, self._machines, self._today)
            )

    def _put(self, cloud: str, region: str, fetch: Callable[[], Fetched | None], what: str | None = None) -> Refreshed:
        """Fetches rows and puts them in place of the file's old ones."""
        what = what or cloud
        try:
            fetched = fetch()
        except PriceError as error:
            return Refreshed(cloud, region, what, error=str(error))
        path = self._path(what, region)
        if fetched is None:
            # The service says that these prices hold today too.
            rows = [replace(offer, as_of=self._today) for offer in read_offers(path, self._machines)]
            self._write(path, rows)
            return Refreshed(cloud, region, what, len(rows), unchanged=True)
        changes = changes_between(self._rows_before(path, cloud, region, fetched.offers), fetched.offers)
        self._write(path, fetched.offers)
        write_atomically(_validators_path(path), json.dumps(dict(fetched.validators)).encode())
        return Refreshed(cloud, region, what, len(fetched.offers), changes, fetched.left_out)

    def _rows_before(self, path: Path, cloud: str, region: str, fetched: Sequence[Offer]) -> list[Offer]:
        """What the last refresh brought; without one, what the book holds of the place and the purchase options."""
        if path.exists():
            return read_offers(path, self._machines)
        options = {offer.purchase_option for offer in fetched}
        return [
            offer
            for offer in self._before
            if (offer.cloud, offer.region) == (cloud, region) and offer.purchase_option in options
        ]

    def _write(self, path: Path, offers: Sequence[Offer]) -> None:
        """Puts rows in place once they were read back: a file that cannot be read would stop every quote."""
        write_atomically(path, _as_csv(offers), lambda written: read_offers(written, self._machines))

    def _path(self, what: str, region: str) -> Path:
        return self._folder / REFRESHED / f"{what}.{region}.csv"


def _as_csv(offers: Sequence[Offer]) -> bytes:
    """The rows as a CSV file that `read_offers` reads: None is an empty cell."""
    columns = (*OFFER_COLUMNS, *OFFER_OPTIONAL_COLUMNS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(getattr(offer, name)) for name in columns] for offer in offers)
    return text.getvalue().encode()


def _cell(value: Any) -> str:  # noqa: ANN401 - any field of an offer
    return "" if value is None else str(value)


def _validators_path(path: Path) -> Path:
    return path.with_suffix(".validators.json")


def _read_validators(path: Path) -> dict[str, str]:
    """What to ask with, so that an unchanged file is not fetched again; nothing where its rows are not there."""
    try:
        return json.loads(_validators_path(path).read_bytes()) if path.exists() else {}
    except (OSError, ValueError):
        return {}


def _unknown_region(region: str, known: dict[str, str]) -> str:
    return f"unknown region {region!r}{nearest_names(region, known)}; nothing was changed"
