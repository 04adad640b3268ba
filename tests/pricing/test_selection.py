import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.book import PriceBook, PriceError, load_book
from pricing.selection import select
from pricing.table import DATA_FOLDER


@pytest.mark.parametrize(
    ("cloud", "count"),
    [
        ("aws-g4dn", 7),
        ("g4dn", 7),
        ("G4DN", 7),
        ("aws-g4dn.xlarge", 1),
        ("g4dn.xlarge", 1),
        ("gcp-g2", 8),
        ("gcp-n1-t4", 6),
        ("azure-fsv2", 4),
        ("standard_f4s_v2", 1),
        ("aws", 171),
        ("lambda", 25),
        ("aws-g4dn,gcp-g2", 15),
        ("aws-g4dn, aws", 171),
        ("all", 473),
        ("aws,all", 473),
        ("AWS-C7I,c7a.xlarge", 5),
    ],
)
def test_what_a_name_means(book: PriceBook, cloud: str, count: int) -> None:
    assert len(select(book, cloud)) == count


def test_the_usual_region_unless_told(book: PriceBook) -> None:
    assert {offer.region for offer in select(book, "aws,gcp,azure")} == {"us-east-1", "us-central1", "eastus"}
    assert {offer.region for offer in select(book, "aws", region="eu-west-1")} == {"eu-west-1"}


def test_all_regions(book: PriceBook) -> None:
    regions = {offer.region for offer in book.offers if (offer.cloud, offer.purchase_option) == ("aws", "on-demand")}
    one_by_one = {offer.key for region in regions for offer in select(book, "aws", region)}
    everywhere = select(book, "aws", region="all")
    assert len(regions) > 1
    assert {offer.key for offer in everywhere} == one_by_one
    assert [offer.effective_usd_per_hour for offer in everywhere] == sorted(
        offer.effective_usd_per_hour for offer in everywhere
    )


def test_all_is_every_cloud(book: PriceBook) -> None:
    clouds = {offer.cloud for offer in select(book, "all")}
    assert clouds == {"aws", "gcp", "azure", "lambda", "runpod", "vast"}


def test_cheapest_first(book: PriceBook) -> None:
    offers = select(book, "aws-g4dn")
    assert [offer.instance_type for offer in offers[:2]] == ["g4dn.xlarge", "g4dn.2xlarge"]
    assert [offer.usd_per_hour for offer in offers] == sorted(offer.usd_per_hour for offer in offers)


def test_spot_where_a_price_is_known(book: PriceBook) -> None:
    offers = select(book, "aws-g4dn", purchase_option="spot")
    assert {offer.instance_type for offer in offers} == {"g4dn.xlarge", "g4dn.8xlarge"}
    assert {offer.purchase_option for offer in offers} == {"spot"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"cloud": "aws-g4dm"}, "unknown cloud, machine family or instance type 'aws-g4dm' (did you mean 'aws-g4dn'"),
        ({"cloud": "aws,g4dn.xlrge"}, "'g4dn.xlrge' (did you mean 'g4dn.xlarge'"),
        ({"cloud": "googel"}, "'googel' (did you mean 'gcp'?)"),
        ({"cloud": "amazon"}, "'amazon' (did you mean 'aws'?)"),
        ({"cloud": "L4"}, "'L4' (an accelerator, of aws-g6, aws-g6f, aws-gr6, gcp-g2)"),
        ({"cloud": "azure-dsv"}, "'azure-dsv' (did you mean 'azure-dsv"),
        ({"cloud": "standard_d2sv5"}, "(did you mean 'standard_d2s_v5'"),
        ({"cloud": ""}, "empty name in --cloud ''"),
        ({"cloud": "a100"}, "'a100' is on several clouds: say lambda-a100 or vast-a100"),
        ({"cloud": "aws,,gcp"}, "empty name in --cloud 'aws,,gcp'"),
        ({"region": "us-est-1"}, "unknown region 'us-est-1' (did you mean 'us-east-1'"),
        (
            {"cloud": "c7i", "region": "eu-west-1"},
            "'c7i' in eu-west-1; there is one in us-east-1: choose with --region",
        ),
        (
            {"cloud": "c7i", "purchase_option": "reserved-1y"},
            "no reserved-1y price is known for 'c7i'; known for it: on-demand",
        ),
        (
            {"purchase_option": "reserved"},
            "(did you mean 'reserved-3y' or 'reserved-1y'?); known: on-demand, spot, reserved-1y",
        ),
        ({"cloud": "azure-ndh200v5"}, "in eastus; there is one in westus2"),
        ({"cloud": "c7i", "purchase_option": "spot"}, "no spot price is known for 'c7i'; known for it: on-demand"),
        ({"purchase_option": "spt"}, "unknown purchase option 'spt' (did you mean 'spot'?); known: on-demand, spot"),
    ],
)
def test_what_is_not_there_is_said(book: PriceBook, asked: dict[str, str], expected: str) -> None:
    with pytest.raises(PriceError, match=re.escape(expected)) as caught:
        select(book, **asked)
    assert "\n" not in str(caught.value)


@given(st.data())
def test_every_row_can_be_named(data: st.DataObject) -> None:
    book = load_book(DATA_FOLDER)
    offer = data.draw(st.sampled_from(book.offers))
    for name in (offer.cloud, offer.family, f"{offer.cloud}-{offer.instance_type}"):
        assert offer in select(book, name, offer.region, offer.purchase_option)
