import datetime
import json
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.book import Offer, PriceBook, load_book
from pricing.errors import PriceError
from pricing.own import add_file, own_files, remove_file
from pricing.selection import select
from pricing.table import DATA_FOLDER

HEADER = "cloud,region,instance_type,vcpus,memory_gib,usd_per_hour,source,as_of"
TODAY = datetime.date(2026, 4, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOYCOST_PRICES_DIR", str(tmp_path / "prices"))
    return tmp_path / "prices"


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder.parent / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def priced(name: str, region: str | None = None) -> Offer:
    (offer,) = select(load_book(), name, region)
    return offer


def test_own_rows_lie_over_the_shipped_ones(folder: Path, book: PriceBook) -> None:
    path = write(
        folder, "ours.csv",
        HEADER,
        "# agreed in spring",
        "aws,us-east-1,c7i.large,2,4,0.05,our contract,2026-03-01",
        "acme,basement,box.1,16,64,0.2,invoice 17,2026-01-31",
    )  # fmt: skip
    added = add_file(path, folder, book, TODAY)
    assert (added.name, added.offers, added.discounts, added.replaced) == ("ours", 2, 0, False)
    ours = priced("c7i.large")
    assert (ours.usd_per_hour, ours.source, ours.cpu_model) == (
        Decimal("0.05"), "our contract", "Xeon Sapphire Rapids 8488C",
    )  # fmt: skip
    box = priced("acme")
    assert (box.family, box.region, box.as_of) == ("acme-box", "basement", datetime.date(2026, 1, 31))
    # Nobody said how acme bills, so whole hours.
    assert (box.billing_granularity_s, box.billing_minimum_s) == (3600, 3600)
    assert load_book(DATA_FOLDER) == book
    assert add_file(path, folder, book, TODAY).replaced

    assert remove_file("ours", folder) == 1
    assert load_book() == book


def test_json_and_what_a_row_may_say_of_itself(folder: Path, book: PriceBook) -> None:
    row = {
        "cloud": "acme", "region": "basement", "instance_type": "gpu", "vcpus": 8, "memory_gib": 32.5, "price": 0.9,
        "unit": "hour", "currency": "USD", "source": "invoice 18", "as_of": "2026-02-01", "accelerator_name": "T4",
        "cpu_model": "EPYC", "architecture": "x86_64", "vcpu_is": "core", "billing_granularity_s": 1,
        "billing_minimum_s": 600, "purchase_option": "reserved-1y", "term_upfront_usd": 876,
    }  # fmt: skip
    add_file(write(folder, "ours.json", json.dumps({"offers": [row]})), folder, book, TODAY)
    (offer,) = select(load_book(), "acme", purchase_option="reserved-1y")
    assert (offer.memory_gib, offer.usd_per_hour, offer.accelerator_count) == (Decimal("32.5"), Decimal("0.9"), 1)
    assert (offer.vcpu_is, offer.billing_granularity_s, offer.billing_minimum_s) == ("core", 1, 600)
    # 876 USD over 8,760 hours
    assert offer.effective_usd_per_hour == Decimal("1.0")


def test_all_mistakes_of_a_file_at_once(folder: Path, book: PriceBook) -> None:
    path = write(
        folder, "ours.csv",
        "cloud,region,instance_type,vcpus,memory_gib,price,unit,currency,source,as_of",
        "acme,cellar,a,2,4,0.1,hour,USD,invoice,2026-01-01",
        "acme,cellar,a,2,4,0.2,hour,USD,invoice,2026-01-01",
        "acme,cellar,b,2,4,-0.1,hour,USD,invoice,2026-01-01",
        "acme,cellar,c,2,4,0.1,hour,USD,invoice,",
        "acme,cellar,d,2,4,0.1,,USD,invoice,2026-01-01",
        "acme,cellar,e,2,4,0.1,hour,EUR,invoice,2026-01-01",
        "acme,cellar,f,2,4,0.1,month,,,2026-01-01",
        "acme,cellar,g,0,four,nan,hour,USD,invoice,1.2.2026",
        "acme,cellar",
    )  # fmt: skip
    with pytest.raises(PriceError) as caught:
        add_file(path, folder, book, TODAY)
    message = str(caught.value)
    assert "\n" not in message
    for expected in (
        "line 3: acme/cellar/a/on-demand is priced on line 2 already",
        "line 4: usd_per_hour '-0.1' is not a number above zero",
        "line 5: as_of '' is not a date",
        "line 6: price has no unit: expected hour",
        "line 7: currency 'EUR' is not USD: convert it",
        "line 8: unit 'month' is not hour, price has no currency: expected USD, source is empty",
        "line 9: vcpus '0' is not a number above zero, memory_gib 'four'",
        "usd_per_hour 'nan' is not a number above zero, as_of '1.2.2026' is not a date",
        "line 10: has 2 cells where 10 were expected",
    ):
        assert expected in message
    assert not own_files(folder)
    assert load_book() == book


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("ours.csv", ("cloud,region",), "missing: as_of, instance_type, memory_gib, price, source, vcpus"),
        ("ours.csv", (HEADER + ",colour",), "unknown: colour"),
        ("ours.csv", (HEADER + ",cloud",), "twice: cloud"),
        ("ours.csv", ("",), "is empty: expected price rows, or discounts"),
        ("ours.json", ("{",), "cannot read prices from"),
        ("ours.json", ('{"prices": []}',), "expected a list of objects, or one under 'offers' or 'discounts'"),
        ("our prices.csv", (HEADER,), "cannot be kept: expected letters, digits"),
    ],
)
def test_other_files_are_refused(
    folder: Path, book: PriceBook, name: str, lines: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(PriceError) as caught:
        add_file(write(folder, name, *lines), folder, book, TODAY)
    assert expected in str(caught.value)


def test_a_missing_file_is_told(folder: Path, book: PriceBook) -> None:
    with pytest.raises(PriceError, match="cannot read prices from"):
        add_file(folder / "none.csv", folder, book, TODAY)


def test_discounts_come_off_the_list_price(folder: Path, book: PriceBook) -> None:
    before = {name: priced(name).usd_per_hour for name in ("c7i.large", "c7a.large", "c7i-flex.large")}
    added = add_file(write(folder, "deal.csv", "aws-c7i,-12%", "g4dn.xlarge, -7.5 %"), folder, book, TODAY)
    assert (added.name, added.discounts) == ("deal", 2)
    ours = priced("c7i.large")
    assert ours.usd_per_hour == before["c7i.large"] * Decimal("0.88")
    assert ours.source.endswith("; less 12 % (deal.csv)")
    # 0.526 less 7.5 %
    assert priced("g4dn.xlarge").usd_per_hour == Decimal("0.526") * Decimal("0.925")
    assert priced("c7a.large").usd_per_hour == before["c7a.large"]
    assert priced("c7i-flex.large").usd_per_hour == before["c7i-flex.large"]

    # Of names that mean a machine as narrowly, the last counts.
    add_file(write(folder, "e.csv", "machines,discount,source", "c7i,-50%,offer 9"), folder, book, TODAY)
    assert priced("c7i.large").usd_per_hour == before["c7i.large"] / 2
    assert priced("c7i.large").source.endswith("; less 50 % (offer 9)")
    assert {name: len(paths) for name, paths in own_files(folder).items()} == {"deal": 1, "e": 1}


@pytest.mark.parametrize("reverse", [False, True])
def test_the_narrowest_discount_counts(folder: Path, book: PriceBook, *, reverse: bool) -> None:
    before = {name: priced(name).usd_per_hour for name in ("c7i.large", "c7i.xlarge", "c7a.large")}
    lines = ["aws,-5%", "c7i,-12%", "aws-c7i.large,-20%"]
    add_file(write(folder, "deal.csv", *(reversed(lines) if reverse else lines)), folder, book, TODAY)
    assert priced("c7i.large").usd_per_hour == before["c7i.large"] * Decimal("0.8")
    assert priced("c7i.xlarge").usd_per_hour == before["c7i.xlarge"] * Decimal("0.88")
    assert priced("c7a.large").usd_per_hour == before["c7a.large"] * Decimal("0.95")


def test_nothing_is_taken_off_own_prices(folder: Path, book: PriceBook) -> None:
    rows = write(
        folder, "ours.csv", HEADER,
        "aws,us-east-1,c7i.large,2,4,0.0714,contract,2026-03-01",
        "acme,basement,box.1,16,64,0.2,invoice 17,2026-01-31",
    )  # fmt: skip
    add_file(rows, folder, book, TODAY)
    add_file(write(folder, "deal.csv", "aws,-5%"), folder, load_book(), TODAY)
    assert (priced("c7i.large").usd_per_hour, priced("c7i.large").source) == (Decimal("0.0714"), "contract")
    assert priced("c7a.large").source.endswith("; less 5 % (deal.csv)")
    with pytest.raises(PriceError, match="line 2: acme has prices of your own only, and nothing is taken off those"):
        add_file(write(folder, "more.csv", "aws-c7a,-1%", "acme,-2%"), folder, load_book(), TODAY)


def test_names_are_kept_as_the_book_spells_them(folder: Path, book: PriceBook) -> None:
    path = write(
        folder, "ours.csv", HEADER,
        "AWS,US-East-1,C7I.LARGE,2,4,0.05,contract,2026-03-01",
        "Azure,EastUS,standard_f4s_v2,4,8,0.1,contract,2026-03-01",
        "Acme,Basement,Box.1,16,64,0.2,invoice 17,2026-01-31",
    )  # fmt: skip
    add_file(path, folder, book, TODAY)
    ours = priced("c7i.large")
    assert (ours.identity, ours.usd_per_hour) == (("aws", "us-east-1", "c7i.large", "on-demand"), Decimal("0.05"))
    assert len(load_book().offers) == len(book.offers) + 1
    fsv2 = priced("standard_f4s_v2")
    assert (fsv2.instance_type, fsv2.family, fsv2.usd_per_hour) == ("Standard_F4s_v2", "azure-fsv2", Decimal("0.1"))
    # Of a cloud that the book does not know, a name is as it is told.
    assert (priced("acme").region, priced("acme").instance_type) == ("Basement", "Box.1")


def test_a_name_of_one_s_own_is_corrected_by_the_file_that_has_it(folder: Path, book: PriceBook) -> None:
    for name in ("box1", "box-1", "BOX-1"):
        row = f"acme,basement,{name},16,64,0.2,invoice 17,2026-01-31"
        add_file(write(folder, "ours.csv", HEADER, row), folder, book, TODAY)
        book = load_book()
        assert priced("acme").instance_type == name


def test_rows_that_cannot_be_are_refused(folder: Path, book: PriceBook) -> None:
    path = write(
        folder, "ours.csv", HEADER + ",purchase_option,term_upfront_usd",
        "aws,us-east-1,c7i.large,2,4,0.05,contract,2026-04-02,,",
        "aws,us-east-1,c7i.xlarge,2,4,0.05,contract,2026-04-01,,100",
        "aws,us-east-1,c7i.2xlarge,2,4,1e-30,contract,2026-04-01,reserved-1y,100",
        "aws,us-east-1,c7i.4xlarge,2,4,10001,contract,2026-04-01,,0",
        "gcp,us-east-4,n1-standard-1,2,4,0.05,contract,2026-04-01,,",
        "azure,eastus,Standard_F4sv2,2,4,0.05,contract,2026-04-01,,",
    )  # fmt: skip
    with pytest.raises(PriceError) as caught:
        add_file(path, folder, book, TODAY)
    for expected in (
        "line 2: as_of 2026-04-02 is in the future; line 3",
        "line 3: term_upfront_usd 100 is paid for no term: the row is on-demand; line 4",
        "line 4: usd_per_hour 1E-30 is not between 0.0001 and 10,000; line 5",
        "line 5: usd_per_hour 10001 is not between",
        "line 6: region 'us-east-4' is unknown (did you mean 'us-east4'?); line 7",
        "line 7: instance_type 'Standard_F4sv2' is unknown (did you mean 'Standard_F4s_v2'?)",
    ):
        assert expected in str(caught.value)


def test_a_first_line_without_its_minus_is_a_mistaken_discount(folder: Path, book: PriceBook) -> None:
    with pytest.raises(PriceError, match="line 1: discount '5%' is not a share off the price such as -12%"):
        add_file(write(folder, "deal.csv", "gcp,5%", "aws,-5%"), folder, book, TODAY)


def test_mistakes_of_discounts_at_once(folder: Path, book: PriceBook) -> None:
    path = write(
        folder, "deal.csv", "machines,discount,purchase_option",
        "aws-c7j,-12%,", "aws-c7i,12%,", "aws-c7i,-12%,spott", "aws-c7a,-100%,", "aws-c8a,-0%,", "aws-m5,-1%,",
        "aws-m5,-2%,",
    )  # fmt: skip
    with pytest.raises(PriceError) as caught:
        add_file(path, folder, book, TODAY)
    for expected in (
        "line 2: unknown machines 'aws-c7j' (did you mean 'aws-c7i'",
        "line 3: discount '12%' is not a share off the price such as -12%",
        "line 4: purchase_option 'spott' is none of",
        "line 5: discount '-100%' is not",
        "line 6: discount '-0%' is not",
        "line 8: aws-m5 has a discount on line 7 already",
    ):
        assert expected in str(caught.value)
    assert not own_files(folder)


def test_only_what_was_added_can_be_removed(folder: Path, book: PriceBook) -> None:
    with pytest.raises(PriceError, match="no price file 'deal' was added; added: none"):
        remove_file("deal", folder)
    add_file(write(folder, "deal.csv", "aws,-5%"), folder, book, TODAY)
    with pytest.raises(PriceError, match=r"no price file 'dael' was added \(did you mean 'deal'\?\); added: deal"):
        remove_file("dael", folder)
