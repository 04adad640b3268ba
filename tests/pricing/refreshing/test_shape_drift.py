"""Whatever part of an answer turns into whatever else, the clients end in rows or in one line, never in a traceback."""

import copy
import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from pricing.book import PriceBook
from pricing.errors import PriceError
from pricing.offer_rows import read_machines
from pricing.refreshing.aws import fetch_aws, regions_of_aws
from pricing.refreshing.azure import fetch_azure
from pricing.refreshing.fetch import Fetcher
from pricing.refreshing.fetched import Known
from pricing.refreshing.gcp import fetch_gcp_parts, gcp_machines
from tests.pricing.refreshing.test_aws import offer_file
from tests.pricing.refreshing.test_azure import item, page
from tests.pricing.refreshing.test_gcp import SKUS

TODAY = datetime.date(2026, 11, 28)
OTHER_THINGS = (None, True, 7, -1.5, "x", "", [], [7], {}, {"x": 7})


class Said:
    """A fetcher of which only the transport is missing: it says one document, whatever it is asked for."""

    def __init__(self, document: Any) -> None:
        self.document = document

    def json(self, url: str, params: Any = None) -> Any:
        return self.document

    @contextmanager
    def file(self, what: str, url: str, validators: Any) -> Iterator[Any]:
        yield SimpleNamespace(is_unchanged=False, validators={}, chunks=lambda: [json.dumps(self.document).encode()])


def _drifted(document: Any) -> Iterator[Any]:
    """The document with each of its parts in turn missing, or another thing."""
    for path in list(_paths(document)):
        for other in OTHER_THINGS:
            changed = copy.deepcopy(document)
            part = changed
            for step in path[:-1]:
                part = part[step]
            part[path[-1]] = other
            yield changed
        changed = copy.deepcopy(document)
        part = changed
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]
        yield changed
    yield from OTHER_THINGS


def _paths(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    for step in steps:
        yield (*path, step)
        yield from _paths(part[step], (*path, step))


def _sweep(document: Any, read: Callable[[Fetcher], object]) -> tuple[int, int]:
    """How many changed documents were read nevertheless, and how many were refused in one line."""
    fine = refused = lines = 0
    for changed in _drifted(document):
        try:
            read(cast(Fetcher, Said(changed)))
        except PriceError as error:
            refused += 1
            lines = max(lines, len(str(error).splitlines()))
        else:
            fine += 1
    assert lines <= 1
    return fine, refused


def test_azure(book: PriceBook) -> None:
    known, machines = Known.of(book.offers, "azure"), read_machines()
    document = page(item(), item(price=600, type="Reservation", reservationTerm="1 Year"))
    fine, refused = _sweep(document, lambda said: fetch_azure(said, "eastus", "http://h", known, machines, TODAY))
    assert refused > 100
    assert fine > 50


def test_gcp(book: PriceBook) -> None:
    known, machines = Known.of(book.offers, "gcp"), read_machines()

    def read(said: Fetcher) -> None:
        parts = fetch_gcp_parts(said, ["us-central1"], "http://h")
        gcp_machines("us-central1", parts["us-central1"], known, machines, TODAY)

    fine, refused = _sweep({"skus": list(SKUS[6:8])}, read)
    assert refused > 100
    assert fine > 10


def test_aws(book: PriceBook) -> None:
    known, machines = Known.of(book.offers, "aws"), read_machines()
    whole = offer_file()
    document = {
        "products": {"B": whole["products"]["B"]},
        "terms": {name: {"B": whole["terms"][name]["B"]} for name in ("OnDemand", "Reserved")},
    }
    fine, refused = _sweep(document, lambda said: fetch_aws(said, "us-east-1", "http://h", known, machines, TODAY, {}))
    assert refused > 100
    assert fine > 50

    index = {"offers": {"AmazonEC2": {"currentRegionIndexUrl": "/x"}}, "regions": {"r": {"currentVersionUrl": "/y"}}}
    fine, refused = _sweep(index, lambda said: regions_of_aws(said, "http://h"))
    assert refused > 30
