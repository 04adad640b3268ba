"""A capacity and a traffic with round numbers."""

from collections.abc import Callable, Sequence

import pytest

from deploycost.costing.quote import Alternatives, CapacityOn, Question, Site, hired, quote
from deploycost.records import Figure, Variant
from deploycost.verdicts import Capacity, Policy, QuoteSheet, Traffic
from pricing.book import Offer


@pytest.fixture(scope="session")
def measured_capacity() -> Callable[[Variant, Offer], Capacity]:
    """What the variant carried where it was measured, as if every machine were that one."""

    def capacity_on(variant: Variant, offer: Offer) -> Capacity:
        if variant.load is None:
            return Capacity(capacity_rps=Figure(value=None, basis="assumed"), reason="unknown: not load-tested")
        return Capacity(capacity_rps=variant.load.capacity_rps, reason="measured", load=variant.load, server_copies=1)

    return capacity_on


@pytest.fixture(scope="session")
def traffic() -> Traffic:
    """A month of 730 hours has 2,628,000 s, so this is 100/s on the mean and 300/s at the peak."""
    return Traffic(requests_per_month=262_800_000, peak_to_mean_ratio=3.0)


@pytest.fixture(scope="session")
def price() -> Callable[..., QuoteSheet]:
    """Variants on machines for hire, of which nothing is known but their prices."""

    def price(
        variants: Sequence[Variant],
        offers: Sequence[Offer],
        capacity_on: CapacityOn,
        traffic: Traffic,
        slo_p95_ms: float = 100.0,
    ) -> QuoteSheet:
        question = Question(traffic, Policy(), slo_p95_ms)
        return quote(variants, Alternatives(hired(offers)), capacity_on, lambda _: Site(), question)

    return price
