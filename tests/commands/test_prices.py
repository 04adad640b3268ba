"""`deploycost prices` as a person and a script meet it."""

import json
from pathlib import Path

import pytest

from deploycost.cli import main
from tests.pricing.refreshing.conftest import Answer, PriceService
from tests.pricing.refreshing.test_azure import PATH, item, page


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOYCOST_PRICES_DIR", str(tmp_path / "prices"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "prices"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["prices", *arguments]) == code
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["prices", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    return line


def test_list_with_filters(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("list", "aws,gcp", "--accelerator", "t4", "--min-vcpus", "4", "--max-price", "0.6", "--json")
    offers = json.loads(answer(capsys, *arguments))["offers"]
    assert [offer["instance_type"] for offer in offers] == ["g4dn.xlarge", "n1-standard-4+1xT4", "n1-highmem-4+1xT4"]
    assert offers[0]["billing_minimum_s"] == 60
    assert offers[0]["effective_usd_per_hour"] == offers[0]["usd_per_hour"] == 0.526


def test_another_currency_states_its_rate(capsys: pytest.CaptureFixture[str]) -> None:
    told = answer(capsys, "list", "aws-g4dn.xlarge", "--currency", "eur", "--rate", "0.92")
    assert "EUR/hour" in told
    # 0.526 x 0.92
    assert "0.4839" in told
    assert "1 USD = 0.92 EUR, as you stated" in " ".join(told.split())
    (offer,) = json.loads(answer(capsys, "show", "aws-g4dn.xlarge", "--currency", "EUR", "--rate", "0.92", "--json"))[
        "offers"
    ]
    assert (offer["currency"], offer["currency_per_usd"], offer["usd_per_hour"]) == ("EUR", 0.92, 0.526)
    assert offer["price_per_hour"] == pytest.approx(0.48392)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("list", "--currency", "EUR"), "--currency EUR needs its rate"),
        (("list", "--rate", "0.9"), "--rate 0.9 needs its currency"),
        (("list", "--currency", "EUR", "--rate", "-1"), "--rate -1 is not a number above zero"),
        (("list", "--currency", "EUR", "--rate", "nan"), "--rate nan is not a number above zero"),
        (("list", "--currency", "euro", "--rate", "1.1"), "--currency 'euro' is not a currency"),
        (("list", "--accelerator", "L40"), "unknown accelerator 'L40' (did you mean 'L40S'"),
        (("list", "--min-memory", "-1"), "--min-memory -1 is not a number above zero"),
        (("list", "--max-vcpus", "inf"), "--max-vcpus inf is not a number above zero"),
        (("list", "--max-price", "0.000001"), "none of 473 prices is within these limits"),
        (("list", "--purchase-option", "reserved"), "did you mean 'reserved-3y' or 'reserved-1y'"),
        (("list", "aws-c7i", "--purchase-option", "reserved-1y"), "no reserved-1y price is known for 'aws-c7i'"),
        (("check", "--max-age-days", "-1"), "--max-age-days -1 is below zero"),
        (("add", "none.csv"), "cannot read prices from none.csv"),
        (("remove", "none"), "no price file 'none' was added"),
        (("refresh", "--cloud", "asure"), "cannot refresh 'asure' (did you mean 'azure'?)"),
        (("refresh", "--cloud", "azure", "--region", "../x"), "'../x' is not the name of a region"),
        (("refresh", "--cloud", "azure", "--region", "eastus,"), "'' is not the name of a region"),
        (("refresh", "--cloud", "aws", "--gcp-key", "k"), "--gcp-key is of no use without gcp in --cloud"),
        (("refresh", "--cloud", "gcp"), "the GCP catalogue wants an API key: set DEPLOYCOST_GCP_API_KEY"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.delenv("DEPLOYCOST_GCP_API_KEY", raising=False)
    assert expected in complaint(capsys, *arguments)


def test_nothing_is_fetched_where_a_later_cloud_cannot_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.delenv("DEPLOYCOST_GCP_API_KEY", raising=False)
    service = PriceService()
    monkeypatch.setenv("DEPLOYCOST_PRICES_URL", service.url)
    try:
        told = complaint(capsys, "refresh", "--cloud", "azure,asure,gcp", "--region", "eastus,../x")
        assert service.paths() == []
    finally:
        service.close()
    for part in ("cannot refresh 'asure'", "wants an API key", "'../x' is not the name of a region"):
        assert part in told
    assert not folder.exists()


def test_check_says_ages_and_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    told = answer(capsys, "check", "--max-age-days", "100000")
    assert "0 of 1853 rows are older than 100000 days" in " ".join(told.split())
    assert "no reserved-1y, reserved-3y" in told
    document = json.loads(answer(capsys, "check", "--max-age-days", "0", "--json", code=1))
    assert document["rows"] == document["stale"] == 1853
    assert {age["cloud"] for age in document["ages"]} == {"aws", "gcp", "azure", "lambda", "runpod", "vast"}
    assert document["ages"][0]["oldest"] == "2026-01-21"


def test_add_and_remove(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "deal.csv").write_text("aws-g4dn,-10%\n", encoding="utf-8")
    assert json.loads(answer(capsys, "add", "deal.csv", "--json"))["added"]["discounts"] == 1
    assert '"usd_per_hour": 0.4734' in answer(capsys, "show", "aws-g4dn.xlarge", "--json")
    answer(capsys, "remove", "deal")
    assert '"usd_per_hour": 0.526' in answer(capsys, "show", "aws-g4dn.xlarge", "--json")


def test_refresh_tells_what_changed_and_what_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = PriceService()
    monkeypatch.setenv("DEPLOYCOST_PRICES_URL", f"{service.url}/")
    try:
        service.on(PATH, page(item(price=0.12), item("Standard_D4s_v5", 0.3)))
        assert main(["prices", "refresh", "--cloud", "azure", "--region", "eastus"]) == 0
        told = capsys.readouterr()
        assert "azure eastus: 2 prices; 0 added, 60 removed, 2 changed" in told.err
        # 0.096 to 0.12
        row = next(line for line in told.out.splitlines() if "+25.0 %" in line)
        assert "$0.096" in row
        assert '"usd_per_hour": 0.12' in answer(capsys, "show", "azure-standard_d2s_v5", "--json")

        service.on(PATH, page(item(price=0.13)), Answer(status=403))
        arguments = ("refresh", "--cloud", "azure", "--region", "eastus,westus2", "--json")
        first, second = json.loads(answer(capsys, *arguments, code=1))["refreshed"]
        assert [change["kind"] for change in first["changes"]] == ["changed", "removed"]
        assert first["changes"][0]["usd_per_hour_before"] == 0.12
        assert "answered 403 Forbidden" in second["error"]
    finally:
        service.close()
