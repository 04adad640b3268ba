from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pricing.book import Offer, load_book
from pricing.errors import PriceError
from pricing.refreshing.refresh import Refreshed, Services, refresh
from tests.pricing.refreshing.conftest import TODAY, PriceService

PATH = "/v1/services/6F81-5844-456A/skus"
Fetch = Callable[..., list[Refreshed]]


def sku(description: str, nanos: int, usage: str = "OnDemand", unit: str = "h", **changes: Any) -> dict[str, Any]:
    rate = {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": nanos}}
    fields: dict[str, Any] = {
        "description": description,
        "category": {"resourceFamily": "Compute", "resourceGroup": "CPU", "usageType": usage},
        "serviceRegions": ["us-central1", "us-east1"],
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": [rate]}}],
    }
    return fields | changes


SKUS = (
    sku("G2 Instance Core running in Americas", 24_988_000),
    sku("G2 Instance Ram running in Americas", 2_927_000, unit="GiBy.h"),
    sku("Nvidia L4 GPU running in Americas", 560_040_000),
    sku("Spot Preemptible G2 Instance Core running in Americas", 10_000_000, "Preemptible"),
    sku("Spot Preemptible G2 Instance Ram running in Americas", 1_000_000, "Preemptible", "GiBy.h"),
    sku("Nvidia L4 GPU attached to Spot Preemptible VMs running in Americas", 200_000_000, "Preemptible"),
    sku("E2 Instance Core running in Americas", 21_811_590),
    sku("E2 Instance Ram running in Americas", 2_923_530, unit="GiBy.h"),
    sku("N2D AMD Instance Core running in Americas", 27_502_000),
    sku("N2D AMD Instance Ram running in Americas", 3_686_000, unit="GiBy.h"),
    sku("Commitment v1: N2D AMD Cpu in Americas for 1 Year", 17_000_000, "Commit1Yr"),
    sku("Commitment v1: N2D AMD Ram in Americas for 1 Year", 2_000_000, "Commit1Yr", "GiBy.h"),
    sku("N2D AMD Custom Instance Core running in Americas", 9_000_000_000 - 1),
    sku("N2D AMD Sole Tenancy Instance Core running in Americas", 999),
    sku("C3 Instance Core running in Belgium", 40_000_000, serviceRegions=["europe-west1"]),
    sku("Storage PD Capacity", 40_000_000, category={"resourceFamily": "Storage", "usageType": "OnDemand"}),
    sku("Compute optimized Core running in Americas", 33_980_000),
    sku("Compute optimized Ram running in Americas", 4_550_000, unit="GiBy.h"),
)


def refreshed_rows() -> dict[tuple[str, str], Offer]:
    mine = (offer for offer in load_book().offers if offer.source.startswith("GCP Cloud Billing"))
    return {(offer.instance_type, offer.purchase_option): offer for offer in mine}


def test_a_machine_is_the_sum_of_its_parts(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, {"skus": SKUS[:7], "nextPageToken": "more"}, {"skus": SKUS[7:], "nextPageToken": ""})
    (outcome,) = fetch("gcp", "us-central1")
    assert outcome.error == ""
    usd = {key: offer.usd_per_hour for key, offer in refreshed_rows().items()}
    # 4 cores, 16 GiB and one L4; two cards on g2-standard-24.
    assert usd["g2-standard-4", "on-demand"] == 4 * Decimal("0.024988") + 16 * Decimal("0.002927") + Decimal("0.56004")
    assert usd["g2-standard-4", "spot"] == 4 * Decimal("0.01") + 16 * Decimal("0.001") + Decimal("0.2")
    assert usd["g2-standard-24", "on-demand"] == (
        24 * Decimal("0.024988") + 96 * Decimal("0.002927") + 2 * Decimal("0.56004")
    )
    # Of e2-medium one of two cores is billed.
    assert usd["e2-medium", "on-demand"] == Decimal("0.02181159") + 4 * Decimal("0.00292353")
    assert usd["n2d-standard-2", "on-demand"] == 2 * Decimal("0.027502") + 8 * Decimal("0.003686")
    assert usd["n2d-standard-2", "reserved-1y"] == 2 * Decimal("0.017") + 8 * Decimal("0.002")
    assert usd["c2-standard-4", "on-demand"] == 4 * Decimal("0.03398") + 16 * Decimal("0.00455")
    assert ("n2d-standard-2", "spot") not in usd
    assert not [name for name, _ in usd if name.startswith(("c3-", "a3-"))]
    assert "c3-standard-4" in outcome.left_out
    second = service.asked[1]
    assert second[1]["pageToken"] == ["more"]
    assert second[2]["X-Goog-Api-Key"] == "a-key"
    assert not any("key" in query for _, query, _ in service.asked)


def test_todays_sums_are_the_shipped_prices(service: PriceService, fetch: Fetch) -> None:
    shipped = {offer.identity: offer for offer in load_book().offers}
    service.on(PATH, {"skus": SKUS})
    fetch("gcp", "us-central1")
    for (name, option), offer in refreshed_rows().items():
        if name.startswith(("g2-", "e2-", "c2-")) and option == "on-demand":
            old = shipped["gcp", "us-central1", name, option].usd_per_hour
            assert abs(offer.usd_per_hour / old - 1) < Decimal("0.002"), name


def test_regions_come_from_one_catalogue(service: PriceService, fetch: Fetch) -> None:
    service.on(PATH, {"skus": SKUS})
    first, second, wrong = fetch("gcp", "us-central1", "us-east1", "us-centrall1")
    assert (first.error, second.error, len(service.asked)) == ("", "", 1)
    assert second.rows == first.rows
    assert wrong.error.startswith("gcp has no price in region 'us-centrall1' (did you mean 'us-central1'")


def _changed(**changes: Any) -> dict[str, Any]:
    return {"skus": [sku("E2 Instance Core running in Americas", 1, **changes)]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"items": []}, "'skus' is missing in the GCP catalogue"),
        (_changed(category={"resourceFamily": "Compute"}), "'category.usageType' is missing in the SKU 'E2 Instance"),
        (_changed(pricingInfo=[]), "'pricingInfo' is empty in the SKU 'E2 Instance Core running in Americas'"),
        (_changed(pricingInfo=[{}]), "'pricingExpression' is missing"),
        (_changed(pricingInfo=[{"pricingExpression": {"tieredRates": []}}]), "'tieredRates' is empty"),
        (
            _changed(pricingInfo=[{"pricingExpression": {"tieredRates": [{"unitPrice": {"nanos": 1}}]}}]),
            "'units' is missing in the SKU",
        ),
        (_changed(unit="s"), "is priced by 's', not by 'h'"),
    ],
)
def test_a_changed_shape_is_one_line_and_the_old_rows_stay(
    service: PriceService, fetch: Fetch, document: dict[str, Any], expected: str
) -> None:
    service.on(PATH, document)
    (outcome,) = fetch("gcp", "us-central1")
    assert expected in outcome.error
    assert outcome.error.endswith("the price service changed its shape; the old rows stay")
    assert not refreshed_rows()


def test_without_a_key_it_is_told_where_to_put_one(service: PriceService, folder: Any) -> None:
    with pytest.raises(PriceError, match="set DEPLOYCOST_GCP_API_KEY"):
        list(refresh("gcp", (), folder, Services(service.url), TODAY))
    with pytest.raises(
        PriceError, match=r"cannot refresh 'asure' \(did you mean 'azure'\?\): expected aws, gcp, azure"
    ):
        list(refresh("asure", (), folder, Services(service.url), TODAY))
