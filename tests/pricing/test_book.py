import dataclasses
import datetime
import re
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.book import Offer, PriceBook, PriceError, load_book
from pricing.table import DATA_FOLDER

GOOD = "aws,r1,a.large,aws-a,2,4,,0,,on-demand,0.1,list,2026-01-02,"


def write_offers(folder: Path, *lines: str) -> None:
    header = (DATA_FOLDER / "offers.csv").read_text(encoding="utf-8").splitlines()[0]
    (folder / "offers.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def row_of(book: PriceBook, key: str) -> Offer:
    (found,) = [offer for offer in book.offers if offer.key == key]
    return found


def test_a_known_row_by_hand(book: PriceBook) -> None:
    offer = row_of(book, "aws/us-east-1/g4dn.xlarge/on-demand@2026-07-20")
    assert offer.usd_per_hour == Decimal("0.526")
    assert (offer.vcpus, offer.memory_gib) == (4, 16)
    assert (offer.accelerator_name, offer.accelerator_count, offer.accelerator_memory_gib) == ("T4", 1, 16)
    assert offer.as_of == datetime.date(2026, 7, 20)
    assert "AWS Price List API" in offer.source
    assert offer.vcpu_is == "thread"
    assert (offer.cpu_model, offer.architecture) == ("Xeon Cascade Lake 8259CL", "x86_64")
    assert offer.sustained_cpu_ratio == 1


def test_a_core_as_vcpu_and_a_burstable_machine(book: PriceBook) -> None:
    by_type = {offer.instance_type: offer for offer in book.offers if offer.region == "us-east-1"}
    assert by_type["c7a.xlarge"].vcpu_is == "core"
    assert (by_type["c7g.xlarge"].vcpu_is, by_type["c7g.xlarge"].architecture) == ("core", "arm64")
    assert by_type["t3.large"].sustained_cpu_ratio == Decimal("0.3")


def test_an_unknown_cpu_is_unknown(price_folder: Path) -> None:
    (offer,) = load_book(price_folder).offers
    assert (offer.cpu_model, offer.vcpu_is, offer.architecture) == (None, None, None)
    assert offer.accelerator_name is None
    assert offer.accelerator_memory_gib is None


def test_offers_are_frozen(book: PriceBook) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        book.offers[0].usd_per_hour = Decimal(0)  # pyright: ignore[reportAttributeAccessIssue]


def test_all_bad_rows_are_told_at_once(price_folder: Path) -> None:
    write_offers(
        price_folder,
        GOOD,
        "aws,r1,b.large,aws-b,2,4,,0,,on-demand,-0.1,list,2026-01-02,",
        "aws,r1,c.large,aws-c,2,4,,0,,on-demand,0.1,list,yesterday,",
        "aws,r1,d.large,aws-d,2,4,,0,,on-demand,0.1,,2026-01-02,",
        GOOD,
        "aws,r1,e.large,aws-e,nan,4,,0,,spott,inf,list,2026-01-02,",
        "aws,r1,f.large,gcp-f,2,4,T4,0,,spot,0,list,2026-01-02,",
    )
    with pytest.raises(PriceError) as caught:
        load_book(price_folder)
    message = str(caught.value)
    assert "\n" not in message
    for expected in (
        "line 3: usd_per_hour '-0.1' is not a number above zero",
        "line 4: as_of 'yesterday' is not a date",
        "line 5: source is empty",
        "line 6: aws/r1/a.large/on-demand is priced on line 2 already",
        "line 7: purchase_option 'spott' is none of on-demand, spot, reserved-1y, reserved-3y, vcpus 'nan' is not",
        "usd_per_hour 'inf' is not",
        "line 8: family 'gcp-f' does not begin with 'aws-'",
        "accelerator_name and accelerator_count disagree",
        "usd_per_hour '0' is not a number above zero",
    ):
        assert expected in message
    assert "line 2:" not in message


def test_other_columns_are_refused(price_folder: Path) -> None:
    path = price_folder / "offers.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("usd_per_hour", "eur_per_hour"), encoding="utf-8")
    with pytest.raises(PriceError, match=r"missing: usd_per_hour; unknown: eur_per_hour$"):
        load_book(price_folder)


def test_a_line_of_another_width_is_refused(price_folder: Path) -> None:
    write_offers(price_folder, GOOD, GOOD.replace("a.large", "b.large") + ",one more")
    with pytest.raises(PriceError, match=r"expected 14 cells on each line; others on 3$"):
        load_book(price_folder)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match=r"cannot read prices from .*cpus\.csv"):
        load_book(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("cpus.csv", "aws-g4dn,Xeon,x86_64,thread,,memory", "'aws-g4dn' is described twice"),
        ("cpus.csv", "aws-x,Xeon,x86_64,1 thread,,memory", "vcpu_is '1 thread' is none of thread, core"),
        ("burstable.csv", "aws,x.large,1.5,docs,2026-01-01,", "sustained_cpu_ratio 1.5 is above 1"),
        ("burstable.csv", "aws,t3.nano,0.5,docs,2026-01-01,", "aws/t3.nano is described twice"),
    ],
)
def test_mistakes_in_the_smaller_tables(price_folder: Path, name: str, line: str, expected: str) -> None:
    with (price_folder / name).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(PriceError, match=re.escape(expected)):
        load_book(price_folder)
