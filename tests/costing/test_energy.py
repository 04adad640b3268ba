from collections.abc import Callable
from decimal import Decimal
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.costing.alternatives import Site
from deploycost.costing.energy import IDLE_RATIO, POWER_BAND, UNKNOWN_ENERGY, energy_of, power_of_machine
from deploycost.records import Figure, LoadRecord, PowerUse
from pricing.power import load_power

MakeLoad = Callable[..., LoadRecord]

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


def test_a_machine_that_may_carry_nothing_has_no_high_end() -> None:
    rate = Figure(value=100.0, low=0.0, high=200.0)
    energy = energy_of(SITE, rate, {100.0: 1460.0, 200.0: 1460.0}, REQUESTS)
    assert energy.kwh_per_million.value is not None
    assert energy.kwh_per_million.low is not None
    assert energy.kwh_per_million.high is energy.grams_co2e_per_million.high is None


def test_what_is_not_known_stays_unknown() -> None:
    assert energy_of(Site(), Figure(value=100.0), {100.0: 1.0}, 1) == UNKNOWN_ENERGY
    assert energy_of(SITE, Figure(value=None), {}, 1) == UNKNOWN_ENERGY
    without_grid = energy_of(Site(Decimal(1), Decimal(2)), Figure(value=1.0), {1.0: 1.0}, 3600)
    assert without_grid.kwh_per_million.value is not None
    assert without_grid.grams_co2e_per_million.value is None
    assert "the building's share unknown, not counted; grid unknown" in without_grid.reason


def drew(watts: Figure, idle: Figure | None = None) -> PowerUse:
    per_request = Figure(value=None if watts.value is None else watts.value / 100, basis=watts.basis)
    return PowerUse(watts=watts, joules_per_request=per_request, source="RAPL, processor packages", idle_watts=idle)


def test_what_a_counter_told_on_the_machine_itself_is_measured(make_load: MakeLoad) -> None:
    load = make_load(power=drew(Figure(value=30.0), Figure(value=12.0)))
    energy = energy_of(SITE, Figure(value=100.0), {100.0: 1460.0}, REQUESTS, load)
    # Two machines for 730 hours at 12 W, and 100 hours of work at 18 W above that.
    kwh = (1460 * 12 + 100 * 18) / 1000 * 1.2 / 36
    told = energy.kwh_per_million
    assert (told.value, told.low, told.high) == (pytest.approx(kwh), pytest.approx(kwh), pytest.approx(kwh))
    assert told.basis == energy.grams_co2e_per_million.basis == "measured"
    assert energy.grams_co2e_per_million.value == pytest.approx(kwh * 400)
    assert energy.reason.startswith(
        "measured: 30 W at load, measured by the load test on this machine (RAPL, processor packages; a load generator "
        "on it is in it, what the counter does not count is not), 12 W idle, measured, x 1.2 for the building; 400 g "
        "CO2e per kWh"
    )


def test_what_was_not_counted_idle_is_assumed_and_so_is_the_sum(make_load: MakeLoad) -> None:
    # Published: idle draws a fifth of full load. Half of the machine was at work, so the 30 W are 0.6 of full load.
    load = make_load(power=drew(Figure(value=30.0)), core_cpu_ratios=(0.9, 0.1))
    energy = energy_of(SITE, Figure(value=100.0), {100.0: 1460.0}, REQUESTS, load)
    idle = 30 / 0.6 * 0.2
    assert energy.kwh_per_million.value == pytest.approx((1460 * idle + 100 * (30 - idle)) / 1000 * 1.2 / 36)
    assert energy.kwh_per_million.basis == "assumed"
    assert "30 W at load, measured by" in energy.reason
    assert "10 W idle, assumed from the share that published servers draw" in energy.reason


def test_what_a_load_test_assumed_of_the_cores_in_use_is_no_power_of_the_machine(make_load: MakeLoad) -> None:
    load = make_load(power=drew(Figure(value=8.0, low=4.0, high=10.0, basis="assumed")), server_cpu_ratio=1.0)
    assert power_of_machine(SITE, load) == power_of_machine(SITE, None)
    assert power_of_machine(Site(), load) is None
    assert power_of_machine(Site(), make_load(power=None)) is None


def test_what_idle_servers_draw_is_that_of_the_shipped_table() -> None:
    shares = [float(each.watts_idle / each.watts_load) for each in load_power().values() if each.part == "cpu-thread"]
    assert len(shares) == 27
    assert (min(shares), median(shares), max(shares)) == pytest.approx(IDLE_RATIO, abs=0.005)


@given(
    watts=st.floats(1, 500), idle=st.none() | st.floats(0, 1), busy=st.floats(0, 1), low=st.floats(10, 90),
    site=st.sampled_from([SITE, Site(), Site(Decimal(49), Decimal(50))]),
)  # fmt: skip
def test_intervals_hold_their_figures_and_idle_draws_no_more_than_load(
    make_load: MakeLoad, watts: float, idle: float | None, busy: float, low: float, site: Site
) -> None:
    told = drew(Figure(value=watts), None if idle is None else Figure(value=idle * watts))
    load = make_load(power=told, core_cpu_ratios=(busy,))
    power = power_of_machine(site, load)
    assert power is not None
    assert ends(power.idle)[2] <= ends(power.load)[0] * (1 + 1e-9)
    hours: dict[float, Any] = {rps: 1.5 * REQUESTS / (3600 * rps) for rps in (low, 100.0, 110.0)}
    kwh = energy_of(site, Figure(value=100.0, low=low, high=110.0), hours, REQUESTS, load).kwh_per_million
    assert ends(kwh)[0] * (1 - 1e-9) <= ends(kwh)[1] <= ends(kwh)[2] * (1 + 1e-9)


def ends(figure: Figure) -> tuple[float, float, float]:
    assert figure.value is not None
    return figure.low or figure.value, figure.value, figure.high or figure.value
