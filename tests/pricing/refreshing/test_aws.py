import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pricing.book import Offer, load_book
from pricing.refreshing.refresh import Refreshed
from tests.pricing.refreshing.conftest import Answer, PriceService

FILE = "/offers/v1.0/aws/AmazonEC2/20261127/us-east-1/index.json"
Fetch = Callable[..., list[Refreshed]]


def product(instance_type: str, region: str = "us-east-1", **changes: str) -> dict[str, Any]:
    attributes = {
        "instanceType": instance_type, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used", "vcpu": "4", "memory": "16 GiB",
    }  # fmt: skip
    return {"productFamily": "Compute Instance", "attributes": attributes | changes}


def term(usd: str, upfront: str | None = None, **attributes: str) -> dict[str, Any]:
    dimensions = {"H": {"unit": "Hrs", "pricePerUnit": {"USD": usd}}}
    if upfront:
        dimensions["Q"] = {"unit": "Quantity", "pricePerUnit": {"USD": upfront}}
    return {"priceDimensions": dimensions, "termAttributes": attributes}


def reserved(years: int, usd: str, how: str, kind: str = "standard", upfront: str | None = None) -> dict[str, Any]:
    return term(usd, upfront, LeaseContractLength=f"{years}yr", PurchaseOption=how, OfferingClass=kind)


def offer_file() -> dict[str, Any]:
    return {
        "products": {
            "A": product("g4dn.xlarge", gpu="1"),
            "B": product("c7i.large", vcpu="2", memory="4 GiB"),
            "C": product("c7i.large", operatingSystem="Windows"),
            "D": product("c7i.large", region="us-east-1-bos-1"),
            "E": product("x9.large"),
            "F": {"productFamily": "IP Address", "attributes": {"group": "Address"}},
            "G": product("g4dn.3xlarge", gpu="1", vcpu="12", memory="1,048 GiB"),
            "I": product("inf2.3xlarge"),
        },
        "terms": {
            "OnDemand": {
                "A": {"A.1": term("0.5260000000")}, "B": {"B.1": term("0.1000000000")}, "C": {"C.1": term("9")},
                "D": {"D.1": term("9")}, "E": {"E.1": term("9")}, "F": {"F.1": term("9")}, "G": {"G.1": term("1.5")},
                "I": {"I.1": term("9")},
            },
            "Reserved": {
                "B": {
                    "B.2": reserved(1, "0.0700000000", "No Upfront"),
                    "B.3": reserved(1, "0.0350000000", "Partial Upfront", upfront="300"),
                    "B.4": reserved(1, "0.0100000000", "No Upfront", kind="convertible"),
                    "B.5": reserved(3, "0.0200000000", "Partial Upfront", upfront="526"),
                    "B.6": reserved(3, "0.0000000000", "All Upfront", upfront="1000"),
                },
            },
        },
    }  # fmt: skip


def serve(service: PriceService, *files: Answer | dict[str, Any], regions: tuple[str, ...] = ("us-east-1",)) -> None:
    service.on(
        "/offers/v1.0/aws/index.json",
        {"offers": {"AmazonEC2": {"currentRegionIndexUrl": "/offers/v1.0/aws/AmazonEC2/current/region_index.json"}}},
    )
    service.on(
        "/offers/v1.0/aws/AmazonEC2/current/region_index.json",
        {"regions": {region: {"currentVersionUrl": FILE.replace("us-east-1", region)} for region in regions}},
    )
    service.on(FILE, *files)


def refreshed_rows() -> dict[tuple[str, str], Offer]:
    mine = (offer for offer in load_book().offers if offer.source.startswith("AWS price list"))
    return {(offer.instance_type, offer.purchase_option): offer for offer in mine}


def test_plain_linux_machines_of_known_families_are_priced(service: PriceService, fetch: Fetch) -> None:
    serve(service, offer_file())
    (outcome,) = fetch("aws", "us-east-1")
    assert outcome.error == ""
    rows = refreshed_rows()
    assert {key: offer.usd_per_hour for key, offer in rows.items()} == {
        ("g4dn.xlarge", "on-demand"): Decimal("0.526"), ("g4dn.3xlarge", "on-demand"): Decimal("1.5"),
        ("c7i.large", "on-demand"): Decimal("0.1"), ("c7i.large", "reserved-1y"): Decimal("0.07"),
        ("c7i.large", "reserved-3y"): Decimal("0.02"),
    }  # fmt: skip
    # 526 USD over 3 years of 8,760 hours.
    assert rows["c7i.large", "reserved-3y"].term_upfront_usd == 526
    assert rows["c7i.large", "reserved-3y"].effective_usd_per_hour == Decimal("0.02") + Decimal(526) / 26_280
    assert rows["c7i.large", "reserved-1y"].billing_minimum_s == 365 * 86_400
    larger = rows["g4dn.3xlarge", "on-demand"]
    assert (larger.vcpus, larger.memory_gib, larger.accelerator_name, larger.accelerator_count) == (12, 1048, "T4", 1)
    assert larger.as_of == datetime.date(2026, 11, 28)
    assert larger.cpu_model == "Xeon Cascade Lake 8259CL"
    # How many chips an inf2.3xlarge has, the file does not say.
    assert outcome.left_out == ("inf2.3xlarge",)


def test_the_differences_are_told_and_other_rows_stay(service: PriceService, fetch: Fetch) -> None:
    before = {offer.identity: offer for offer in load_book().offers}
    serve(service, offer_file())
    (outcome,) = fetch("aws", "us-east-1")
    by_kind = {(change.kind, change.instance_type, change.purchase_option): change for change in outcome.changes}
    was = before["aws", "us-east-1", "c7i.large", "on-demand"].usd_per_hour
    assert was == Decimal("0.08925")
    moved = by_kind["changed", "c7i.large", "on-demand"]
    assert moved.percent is not None
    assert round(moved.percent, 2) == Decimal("12.04")
    assert by_kind["added", "c7i.large", "reserved-1y"].after == Decimal("0.07")
    assert by_kind["removed", "c7i.xlarge", "on-demand"].after is None
    assert ("changed", "g4dn.xlarge", "on-demand") not in by_kind
    after = {offer.identity: offer for offer in load_book().offers}
    assert before.keys() <= after.keys()
    assert after["aws", "us-east-1", "c7i.xlarge", "on-demand"] == before["aws", "us-east-1", "c7i.xlarge", "on-demand"]


def test_a_file_that_has_not_changed_is_not_fetched_again(service: PriceService, fetch: Fetch) -> None:
    serve(service, Answer(offer_file(), headers={"ETag": '"v1"'}, compressed=True))
    fetch("aws", "us-east-1", today=datetime.date(2026, 11, 1))
    (outcome,) = fetch("aws", "us-east-1")
    assert (outcome.unchanged, outcome.rows, outcome.error) == (True, 5, "")
    assert service.asked[-1][2]["If-None-Match"] == '"v1"'
    # Its prices hold today too.
    assert refreshed_rows()["c7i.large", "on-demand"].as_of == datetime.date(2026, 11, 28)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_breaks_off_changes_nothing(service: PriceService, fetch: Fetch, compressed: bool) -> None:
    serve(service, offer_file(), Answer(offer_file(), sent_ratio=0.6, compressed=compressed))
    fetch("aws", "us-east-1")
    before = load_book().offers
    (outcome,) = fetch("aws", "us-east-1")
    assert "broke off" in outcome.error
    assert "\n" not in outcome.error
    assert load_book().offers == before


def test_a_file_whose_json_ends_early_changes_nothing(service: PriceService, fetch: Fetch) -> None:
    body = json.dumps(offer_file()).encode()
    serve(service, Answer(body[: len(body) // 2]))
    (outcome,) = fetch("aws", "us-east-1")
    assert outcome.error == "the offer file of us-east-1 broke off or is damaged; nothing was changed, try again"
    assert not refreshed_rows()


def _without(file: dict[str, Any], *path: str) -> dict[str, Any]:
    part = file
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return file


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            _without(offer_file(), "products", "B", "attributes", "tenancy"),
            "'tenancy' is missing in product B (c7i.large)",
        ),
        (_without(offer_file(), "products", "B", "attributes"), "'attributes' is missing in product B"),
        (
            _without(offer_file(), "terms", "OnDemand", "B", "B.1", "priceDimensions", "H", "pricePerUnit", "USD"),
            "'pricePerUnit.USD' is missing in the on-demand term of B (c7i.large)",
        ),
        (
            _without(offer_file(), "terms", "Reserved", "B", "B.2", "termAttributes", "OfferingClass"),
            "'OfferingClass' is missing in a reserved term of B (c7i.large)",
        ),
        (offer_file() | {"products": {"A": product("g4dn.xlarge", memory="16 GB")}}, "memory '16 GB' of product A"),
        (offer_file() | {"products": {"B": product("c7i.large", vcpu="two")}}, "'two' is not a price in product B"),
        (offer_file() | {"products": {}}, "no Linux machine is in the offer file of us-east-1"),
        (offer_file() | {"terms": {}}, "no Linux machine has a price in"),
    ],
)
def test_a_changed_shape_is_one_line_and_the_old_rows_stay(
    service: PriceService, fetch: Fetch, file: dict[str, Any], expected: str
) -> None:
    serve(service, file)
    (outcome,) = fetch("aws", "us-east-1")
    assert expected in outcome.error
    assert outcome.error.endswith("the price service changed its shape; the old rows stay")
    assert "\n" not in outcome.error
    assert not refreshed_rows()


def test_an_unknown_region_is_told_and_the_others_go_on(service: PriceService, fetch: Fetch) -> None:
    serve(service, offer_file())
    wrong, right = fetch("aws", "us-est-1", "us-east-1")
    assert wrong.error == "unknown region 'us-est-1' (did you mean 'us-east-1'?); nothing was changed"
    assert right.rows == 5


def test_an_index_of_another_shape_is_told_for_each_region(service: PriceService, fetch: Fetch) -> None:
    service.on("/offers/v1.0/aws/index.json", {"offers": {}})
    outcomes = fetch("aws", "us-east-1", "us-west-2")
    assert ["'offers.AmazonEC2.currentRegionIndexUrl' is missing" in outcome.error for outcome in outcomes] == [
        True
    ] * 2


SPOT = """<?xml version="1.0" encoding="UTF-8"?>
<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{token}</nextToken></DescribeSpotPriceHistoryResponse>"""
ITEM = """<item><instanceType>{}</instanceType><productDescription>Linux/UNIX</productDescription>
<spotPrice>{}</spotPrice><timestamp>2026-11-28T00:00:00.000Z</timestamp><availabilityZone>{}</availabilityZone></item>"""


def test_spot_prices_where_there_are_credentials(
    service: PriceService, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    serve(service, offer_file())
    first = ITEM.format("c7i.large", "0.05", "us-east-1a") + ITEM.format("g4dn.xlarge", "0.2", "us-east-1a")
    second = ITEM.format("c7i.large", "0.04", "us-east-1b")
    service.on(
        "/",
        Answer(SPOT.format(items=first, token="more").encode(), headers={"Content-Type": "text/xml"}),
        Answer(SPOT.format(items=second, token="").encode(), headers={"Content-Type": "text/xml"}),
    )
    plain, spot = fetch("aws", "us-east-1")
    assert (plain.error, spot.error, spot.what, spot.rows) == ("", "", "aws-spot", 2)
    rows = {offer.identity: offer for offer in load_book().offers}
    row = rows["aws", "us-east-1", "c7i.large", "spot"]
    assert (row.usd_per_hour, row.note) == (Decimal("0.04"), "lowest availability zone: us-east-1b")
    assert "AWS4-HMAC-SHA256" in service.asked[-1][2]["Authorization"]


def test_refused_credentials_leave_the_rest(
    service: PriceService, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    serve(service, offer_file())
    refusal = b"<Response><Errors><Error><Code>AuthFailure</Code><Message>no</Message></Error></Errors></Response>"
    service.on("/", Answer(refusal, status=401, headers={"Content-Type": "text/xml"}))
    plain, spot = fetch("aws", "us-east-1")
    assert plain.error == ""
    assert "cannot read the spot prices of us-east-1" in spot.error
    assert "AuthFailure" in spot.error


def test_nothing_but_whole_files_is_left(service: PriceService, fetch: Fetch, folder: Path) -> None:
    serve(service, offer_file())
    fetch("aws", "us-east-1")
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names == {"aws.us-east-1.csv", "aws.us-east-1.validators.json"}
