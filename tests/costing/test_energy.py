from decimal import Decimal

import pytest

from deploycost.costing.alternatives import Site
from deploycost.costing.energy import POWER_BAND, UNKNOWN_ENERGY, energy_of
from deploycost.records import Figure

SITE = Site(Decimal(10), Decimal(50), Decimal("1.2"), Decimal(400), "means of servers")
REQUESTS = 36_000_000


def test_by_hand() -> None:
    # Two machines for 730 hours. At 100/s, 36 million requests keep one busy for 100 hours, at 40 W above idle.
    energy = energy_of(SITE, Figure(value=100.0), {100.0: 1460.0}, REQUESTS)
    joint_wh = 1460 * 10 + 100 * 40
    assert energy.kwh_per_million.value == pytest.approx(joint_wh / 1000 * 1.2 / 36)
    assert energy.grams_co2e_per_million.value == pytest.approx(joint_wh / 1000 * 1.2 / 36 * 400)
    assert energy.kwh_per_million.low == pytest.approx(POWER_BAND[0] * joint_wh / 1000 * 1.2 / 36)
    assert energy.kwh_per_million.basis == "assumed"
    assert energy.reason == (
        "assumed: 10 W idle to 50 W at load per machine, x 1.2 for the building; 400 g CO2e per kWh; means of servers"
    )


def test_a_slower_machine_draws_more() -> None:
    rate = Figure(value=100.0, low=50.0, high=200.0)
    energy = energy_of(SITE, rate, {100.0: 1460.0, 50.0: 2190.0, 200.0: 1460.0}, REQUESTS)
    kwh = energy.kwh_per_million
    assert kwh.low == pytest.approx(POWER_BAND[0] * (1460 * 10 + 50 * 40) / 1000 * 1.2 / 36)
    assert kwh.high == pytest.approx(POWER_BAND[1] * (2190 * 10 + 200 * 40) / 1000 * 1.2 / 36)


def test_what_is_not_known_stays_unknown() -> None:
    assert energy_of(Site(), Figure(value=100.0), {100.0: 1.0}, 1) == UNKNOWN_ENERGY
    assert energy_of(SITE, Figure(value=None), {}, 1) == UNKNOWN_ENERGY
    without_grid = energy_of(Site(Decimal(1), Decimal(2)), Figure(value=1.0), {1.0: 1.0}, 3600)
    assert without_grid.kwh_per_million.value is not None
    assert without_grid.grams_co2e_per_million.value is None
    assert "the building's share unknown, not counted; grid unknown" in without_grid.reason
