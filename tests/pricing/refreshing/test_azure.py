from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pricing.book import Offer, load_book
from pricing.refreshing.refresh import Refreshed
from tests.pricing.refreshing.conftest import Answer, PriceService

PATH = "/api/retail/prices"
Fetch = Callable[..., list[Refreshed]]


def item(name: str = "Standard_D2s_v5", price: float = 0.1, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "currencyCode": "USD", "retailPrice": price, "unitPrice": price, "armRegionName": "eastus",
        "effectiveStartDate": "2026-01-01T00:00:00Z", "meterName": "D2s v5",
        "productName": "Virtual Machines Dsv5 Series", "skuName": "D2s v5",
        "serviceName": "Virtual Machines", "unitOfMeasure": "1 Hour", "type": "Consumption",
        "armSkuName": name,
    }  # fmt: skip
    return fields | changes


def page(*items: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"BillingCurrency": "USD", "Items": list(items), "NextPageLink": following, "Count": len(items)}


def refreshed_rows() -> dict[tuple[str, str], Offer]:
    mine = (offer for offer in load_book().offers if offer.source.startswith("Azure Retail Prices API"))
    return {(offer.instance_type, offer.purchase_option): offer for offer in mine}


def test_pages_are_followed_and_plain_linux_is_picked(service: PriceService, fetch: Fetch) -> None:
    items = (
        item(),
        item(price=0.192, productName="Virtual Machines Dsv5 Series Windows"),
        item(price=0.02, skuName="D2s v5 Spot", meterName="D2s v5 Spot"),
        item(price=0.01, skuName="D2s v5 Low Priority"),
        item(price=0.05, productName="Dsv5 Series Cloud Services"),
        item(price=0),
        item(name="", price=1),
    )
    others = (
        item("Standard_D4s_v5", 0.2),
        item(price=600, type="Reservation", reservationTerm="1 Year"),
        item(price=1200, type="Reservation", reservationTerm="3 Years"),
        item("Standard_Z9_v9", 0.2),
        item(price=0.03, type="DevTestConsumption"),
        item(price=5, unitOfMeasure="1/Month"),
    )
    service.on(PATH, page(*items, following=f"{service.url}/second"))
    service.on("/second", page(*others))
    (outcome,) = fetch("azure", "eastus")
    assert outcome.error == ""
    assert {key: offer.usd_per_hour for key, offer in refreshed_rows().items()} == {
        ("Standard_D2s_v5", "on-demand"): Decimal("0.1"), ("Standard_D2s_v5", "spot"): Decimal("0.02"),
        ("Standard_D4s_v5", "on-demand"): Decimal("0.2"),
        # 600 / 8,760 and 1,200 / 26,280
        ("Standard_D2s_v5", "reserved-1y"): Decimal("0.068493"),
        ("Standard_D2s_v5", "reserved-3y"): Decimal("0.045662"),
    }  # fmt: skip
    row = refreshed_rows()["Standard_D4s_v5", "on-demand"]
    assert (row.vcpus, row.memory_gib, row.family, row.region) == (4, 16, "azure-dsv5", "eastus")
    assert outcome.left_out == ("Standard_Z9_v9",)
    query = service.asked[0][1]
    assert query["$filter"] == ["serviceName eq 'Virtual Machines' and armRegionName eq 'eastus'"]


def test_a_busy_and_a_broken_service_are_asked_again(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, Answer(status=429, headers={"Retry-After": "0"}), Answer(status=500), page(item()))
    (outcome,) = fetch("azure", "eastus")
    assert (outcome.error, outcome.rows, len(service.asked)) == ("", 1, 3)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_patience_ends_in_one_line(service: PriceService, fetch: Fetch, status: int) -> None:
    service.on(PATH, Answer(status=status))
    (outcome,) = fetch("azure", "eastus", retries=2)
    assert f"{PATH} answered {status} " in outcome.error
    assert outcome.error.endswith("nothing was changed")
    assert len(service.asked) == 3


def test_a_refusal_is_not_asked_again(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, Answer(status=403))
    (outcome,) = fetch("azure", "eastus")
    assert "answered 403 Forbidden" in outcome.error
    assert len(service.asked) == 1


def test_a_page_that_breaks_off_is_asked_again(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, Answer(page(item()), sent_ratio=0.5), page(item()))
    (outcome,) = fetch("azure", "eastus")
    assert (outcome.error, outcome.rows) == ("", 1)

    service.on(PATH, Answer(page(item()), sent_ratio=0.5))
    (outcome,) = fetch("azure", "eastus")
    assert outcome.error.endswith("broke off half-way; nothing was changed, try again")


def test_pages_that_have_not_changed_come_from_the_cache(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, Answer(page(item(price=0.1017)), headers={"ETag": "one"}))
    fetch("azure", "eastus")
    (outcome,) = fetch("azure", "eastus")
    assert service.asked[-1][2]["If-None-Match"] == "one"
    assert (outcome.rows, outcome.changes) == (1, ())
    assert refreshed_rows()["Standard_D2s_v5", "on-demand"].usd_per_hour == Decimal("0.1017")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"Count": 0}, "'Items' is missing in the Azure prices of eastus"),
        (
            page({k: v for k, v in item().items() if k != "retailPrice"}),
            "'retailPrice' is missing in the Azure price of",
        ),
        (page({k: v for k, v in item().items() if k != "armSkuName"}), "'armSkuName' is missing in the Azure price"),
        (page(item(retailPrice="free")), "'free' is not a price in the Azure price of D2s v5"),
        (page(item(price=-1)), "-1 is not a price"),
        (page(item(type="Reservation")), "'reservationTerm' is missing"),
        (page(item(unitOfMeasure="1 Second")), "no Linux machine has a price in eastus"),
        (page(item(currencyCode="EUR")), "no Linux machine has a price in eastus"),
    ],
)
def test_a_changed_shape_is_one_line_and_the_old_rows_stay(
    service: PriceService, fetch: Fetch, document: dict[str, Any], expected: str
) -> None:
    service.on(PATH, document)
    (outcome,) = fetch("azure", "eastus")
    assert expected in outcome.error
    assert outcome.error.endswith("the price service changed its shape; the old rows stay")
    assert not refreshed_rows()


def test_other_answers_are_told(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, page())
    (outcome,) = fetch("azure", "eastsu")
    assert outcome.error.startswith("azure has no price in region 'eastsu' (did you mean 'eastus'")

    service.on(PATH, Answer(b"<html>"))
    (outcome,) = fetch("azure", "eastus")
    assert "did not answer with JSON: is it a price service?" in outcome.error

    service.on(PATH, page(item(), following="http://elsewhere.invalid/more"))
    (outcome,) = fetch("azure", "eastus")
    assert "go on at another host (elsewhere.invalid)" in outcome.error
    assert not refreshed_rows()


def test_a_service_out_of_reach_is_told(service: PriceService, fetch: Fetch) -> None:
    service.close()
    (outcome,) = fetch("azure", "eastus", retries=1)
    assert outcome.error.startswith("cannot reach http://127.0.0.1:")
    assert outcome.error.endswith("(ConnectionError); nothing was changed")
