"""AWS spot prices, for whoever has credentials: the service answers signed requests only."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pricing.errors import PriceError
from pricing.offer import WHOLE_HOURS, Offer
from pricing.offer_rows import Machines
from pricing.refreshing.fetched import Fetched, Known, money, required

_LINUX = "Linux/UNIX"
_ATTEMPTS = 6

__all__ = ["fetch_aws_spot", "has_aws_credentials"]


def has_aws_credentials() -> bool:
    """Whether botocore (the extra `aws`) is installed and finds credentials where AWS tools keep them."""
    try:
        from botocore.session import get_session
    except ImportError:
        return False
    return get_session().get_credentials() is not None


def fetch_aws_spot(
    region: str, known: Known, machines: Machines, today: datetime.date, endpoint_url: str | None = None
) -> Fetched:
    """The lowest present spot price among a region's availability zones, for the machine types that are known.

    Raises:
        PriceError: the service cannot be reached, refuses the credentials, or changed its shape.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import get_session

    session = get_session()
    config = Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS})
    client = session.create_client("ec2", region_name=region, endpoint_url=endpoint_url, config=config)
    lowest: dict[str, Mapping[str, Any]] = {}
    asked: dict[str, Any] = {
        "ProductDescriptions": [_LINUX],
        "StartTime": datetime.datetime.now(datetime.UTC),
    }
    try:
        for page in client.get_paginator("describe_spot_price_history").paginate(**asked):
            for entry in required(page, "SpotPriceHistory", f"the spot prices of {region}", list):
                if entry.get("InstanceType") in known.by_type:
                    _note_lowest(lowest, entry, region)
    except (BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split())
        raise PriceError(f"cannot read the spot prices of {region}: {reason}; nothing was changed") from None
    return Fetched(tuple(_offer(lowest[name], known.by_type[name], region, machines, today) for name in sorted(lowest)))


def _note_lowest(lowest: dict[str, Mapping[str, Any]], entry: Mapping[str, Any], region: str) -> None:
    where = f"the spot prices of {region}"
    instance_type = required(entry, "InstanceType", where, str)
    price = money(required(entry, "SpotPrice", where, str), where)
    other = lowest.get(instance_type)
    if price and (other is None or price < Decimal(other["SpotPrice"])):
        lowest[instance_type] = entry


def _offer(entry: Mapping[str, Any], template: Offer, region: str, machines: Machines, today: datetime.date) -> Offer:
    billing = machines.billing.get(("aws", "spot"), WHOLE_HOURS)
    return replace(
        template,
        region=region,
        purchase_option="spot",
        usd_per_hour=Decimal(entry["SpotPrice"]),
        source=f"AWS EC2 DescribeSpotPriceHistory in {region}",
        as_of=today,
        note=f"lowest availability zone: {entry.get('AvailabilityZone', 'not said')}",
        billing_granularity_s=billing.granularity_s,
        billing_minimum_s=billing.minimum_s,
        term_upfront_usd=Decimal(0),
    )
