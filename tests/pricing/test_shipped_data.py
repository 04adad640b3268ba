"""A sweep over every price row that ships."""

import csv
import datetime
import re
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from pricing.book import TERM_HOURS, Offer, PriceBook
from pricing.llm import load_llm_apis
from pricing.table import DATA_FOLDER

ROWS = 1853
OLDEST, NEWEST = datetime.date(2025, 11, 22), datetime.date(2026, 11, 22)
REQUIRED_FAMILIES = (
    "aws-g4dn", "aws-g5", "aws-g6", "aws-c6i", "aws-c7i", "aws-c7a", "aws-m7i", "aws-t3",
    "gcp-g2", "gcp-n1-t4", "gcp-c3", "gcp-n2d", "gcp-e2", "azure-ncast4v3", "azure-fsv2", "azure-dasv5",
)  # fmt: skip


def test_every_row_is_positive_dated_and_sourced(book: PriceBook) -> None:
    seen = 0
    for offer in book.offers:
        assert Decimal(0) < offer.usd_per_hour < Decimal(200), offer.key
        assert OLDEST <= offer.as_of <= NEWEST, offer.key
        assert len(offer.source) > 20, offer.key
        assert Decimal("0.5") <= offer.memory_gib <= 4096, offer.key
        assert Decimal(1) <= offer.vcpus <= 256, offer.key
        seen += 1
    assert seen == ROWS


def test_rows_by_cloud_and_purchase_option(book: PriceBook) -> None:
    assert Counter((offer.cloud, offer.purchase_option) for offer in book.offers) == {
        ("aws", "on-demand"): 382, ("aws", "spot"): 28,
        ("azure", "on-demand"): 187, ("azure", "spot"): 180,
        ("gcp", "on-demand"): 502, ("gcp", "spot"): 502,
        ("lambda", "on-demand"): 25,
        ("runpod", "on-demand"): 2, ("runpod", "spot"): 2,
        ("vast", "on-demand"): 43,
    }  # fmt: skip


def test_keys_are_unique(book: PriceBook) -> None:
    assert len({offer.key for offer in book.offers}) == ROWS


@pytest.mark.parametrize("family", REQUIRED_FAMILIES)
def test_the_families_that_quotes_promise_are_there(book: PriceBook, family: str) -> None:
    assert [offer for offer in book.offers if offer.family == family and offer.purchase_option == "on-demand"]


@pytest.mark.parametrize(("cloud", "regions"), [("aws", 5), ("gcp", 3), ("azure", 3)])
def test_the_large_clouds_have_several_regions(book: PriceBook, cloud: str, regions: int) -> None:
    assert len({offer.region for offer in book.offers if offer.cloud == cloud}) == regions


def test_two_regions_of_the_us_and_one_of_the_eu(book: PriceBook) -> None:
    regions: dict[str, set[str]] = defaultdict(set)
    for offer in book.offers:
        regions[offer.cloud].add(offer.region)
    assert regions["aws"] == {"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1"}
    assert regions["gcp"] == {"us-central1", "us-east4", "europe-west4"}
    assert regions["azure"] == {"eastus", "westus2", "westeurope"}


def test_how_time_is_billed_is_known_of_every_row(book: PriceBook) -> None:
    """From the table of billing, not from the whole hours that stand in where nobody said."""
    seen = Counter((offer.cloud, offer.billing_granularity_s, offer.billing_minimum_s) for offer in book.offers)
    assert seen == {
        ("aws", 1, 60): 410, ("azure", 60, 60): 367, ("gcp", 1, 60): 1004, ("lambda", 60, 60): 25,
        ("runpod", 1, 1): 4, ("vast", 1, 1): 43,
    }  # fmt: skip


def test_every_line_of_billing_is_dated_sourced_and_of_use(book: PriceBook) -> None:
    with (DATA_FOLDER / "billing.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    clouds = {offer.cloud for offer in book.offers}
    for row in rows:
        assert row["cloud"] in clouds
        assert row["source"].startswith("https://")
        if row["purchase_option"] in TERM_HOURS:
            # The minimum of a commitment is its term, in seconds.
            assert int(row["minimum_s"]) == TERM_HOURS[row["purchase_option"]] * 3600
            assert row["granularity_s"] == "3600"
        else:
            assert 1 <= int(row["granularity_s"]) <= int(row["minimum_s"]) <= 60


def test_nothing_is_reserved_because_no_dated_source_was_found(book: PriceBook) -> None:
    assert not [offer for offer in book.offers if offer.purchase_option in TERM_HOURS]
    assert all(offer.term_upfront_usd == 0 for offer in book.offers)


def test_spot_is_below_on_demand(book: PriceBook) -> None:
    on_demand = {
        (offer.cloud, offer.region, offer.instance_type): offer.usd_per_hour
        for offer in book.offers
        if offer.purchase_option == "on-demand"
    }
    spot = [offer for offer in book.offers if offer.purchase_option == "spot"]
    for offer in spot:
        assert offer.usd_per_hour < on_demand[offer.cloud, offer.region, offer.instance_type], offer.key
    assert len(spot) == 712


def test_more_machine_is_never_cheaper(book: PriceBook) -> None:
    """Within a family, region, accelerator and purchase option, on the three clouds with list prices.

    What a machine may use without end counts: a shared-core machine is smaller than its vCPUs say.
    """
    groups: dict[tuple[str, str, str, str | None], list[Offer]] = defaultdict(list)
    for offer in book.offers:
        if offer.cloud in ("aws", "gcp", "azure"):
            groups[offer.region, offer.family, offer.purchase_option, offer.accelerator_name].append(offer)
    compared = 0
    for offers in groups.values():
        for small in offers:
            for large in offers:
                if _size(small) != _size(large) and _fits_inside(small, large):
                    compared += 1
                    assert small.usd_per_hour <= large.usd_per_hour, f"{small.key} above {large.key}"
    assert compared > 3000


def _size(offer: Offer) -> tuple[Decimal, Decimal, Decimal]:
    return offer.vcpus * offer.sustained_cpu_ratio, offer.memory_gib, offer.accelerator_count


def _fits_inside(small: Offer, large: Offer) -> bool:
    return all(less <= more for less, more in zip(_size(small), _size(large), strict=True))


def test_every_burstable_row_is_a_machine_for_hire(book: PriceBook) -> None:
    with (DATA_FOLDER / "burstable.csv").open(encoding="utf-8", newline="") as file:
        described = {(row["cloud"], row["instance_type"]) for row in csv.DictReader(file)}
    shared = {(offer.cloud, offer.instance_type) for offer in book.offers if offer.sustained_cpu_ratio < 1}
    assert described == shared
    assert len(shared) == 26


def test_every_described_cpu_is_for_hire(book: PriceBook) -> None:
    with (DATA_FOLDER / "cpus.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["family"] for row in rows} <= {offer.family for offer in book.offers}
    assert all(re.fullmatch(r"(\d{4}(-\d{4})?)?", row["sustained_clock_mhz"]) for row in rows)
    assert len(rows) == 61


def test_an_undated_source_says_so(book: PriceBook) -> None:
    read_today = [offer for offer in book.offers if offer.as_of == NEWEST]
    assert len(read_today) == 43
    assert all("undated upstream" in offer.note for offer in read_today)


def test_llm_prices_are_plausible() -> None:
    apis = load_llm_apis()
    for api in apis:
        assert 0 <= api.input_usd_per_mtok < 100, api.key
        assert api.output_usd_per_mtok >= api.input_usd_per_mtok or api.mode != "chat", api.key
        for reduced in (api.cached_input_usd_per_mtok, api.batch_input_usd_per_mtok):
            assert reduced is None or reduced < api.input_usd_per_mtok, api.key
        assert api.batch_output_usd_per_mtok is None or api.batch_output_usd_per_mtok <= api.output_usd_per_mtok
        assert OLDEST <= api.as_of <= NEWEST
        assert api.source
    assert len(apis) == 18
