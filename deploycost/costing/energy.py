"""What a million predictions draw and emit: the power of the fleet as it is planned, idle machines included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deploycost.costing.alternatives import Site
from deploycost.costing.fleet import MILLION
from deploycost.records import UNKNOWN_FIGURE, Figure, LoadRecord, PowerUse, weakest
from deploycost.units import SECONDS_PER_HOUR

# Of power that is assumed from published means per thread and card: they differ so much between servers of one kind.
POWER_BAND = (0.7, 1.4)
# What a server that nobody published draws when idle, as a share of what it draws at load: the least, the median and
# the most of the CPUs in the price data's power table (SPECpower means).
IDLE_RATIO = (0.15, 0.23, 0.34)
_WATTS_PER_KW = 1000


@dataclass(frozen=True)
class Energy:
    """kWh and grams of CO2 equivalent per million predictions, and how they are known."""

    kwh_per_million: Figure
    grams_co2e_per_million: Figure
    reason: str


class Power(NamedTuple):
    """Watts of one machine idle and at load, each with its ends, and how they are known."""

    idle: Figure
    load: Figure
    told: str


UNKNOWN_ENERGY = Energy(UNKNOWN_FIGURE, UNKNOWN_FIGURE, "unknown: no power figure for this machine")


def power_of_machine(site: Site, own_load: LoadRecord | None) -> Power | None:
    """What a machine draws: as the load test made on it counted, else from published means; None if neither is known.

    What a load test assumed is of the cores in use, not of the machine, and is left out.
    """
    told = own_load.power if own_load else None
    if own_load and told and told.watts.value and told.watts.basis == "measured":
        return _as_told(site, told, _busy_ratio(own_load))
    if site.watts_idle is None or site.watts_load is None:
        return None
    idle, load = (_banded(float(watts), POWER_BAND) for watts in (site.watts_idle, site.watts_load))
    return Power(idle, load, f"{idle.value:.3g} W idle to {load.value:.3g} W at load per machine")


def energy_of(
    site: Site,
    rate: Figure,
    fleet_hours: dict[float, float],
    requests_per_month: int,
    own_load: LoadRecord | None = None,
) -> Energy:
    """Watts on the line from idle to load at the mean load, times the hours of the fleet, times the building's share.

    `fleet_hours` are the machine-hours a month at the capacity and at each end of its interval, `own_load` is a load
    test made on this very machine. As sure as the less
    sure of the two powers; the building's share and the grid are dated figures, as prices are.
    """
    power = power_of_machine(site, own_load)
    if power is None or not rate.value:
        return UNKNOWN_ENERGY
    pue = float(site.pue or 1)

    def kwh_at(rps: float | None, idle: float | None, load: float | None) -> float | None:
        if not rps or idle is None or load is None:
            return None
        busy_hours = requests_per_month / (SECONDS_PER_HOUR * rps)
        joint = fleet_hours[rps] * idle + busy_hours * (load - idle)
        return joint / _WATTS_PER_KW * pue / requests_per_month * MILLION

    basis = weakest(power.idle.basis, power.load.basis)
    kwh = Figure(
        value=kwh_at(rate.value, power.idle.value, power.load.value),
        low=kwh_at(_or_value(rate, rate.high), *(_or_value(each, each.low) for each in (power.idle, power.load))),
        high=kwh_at(_or_value(rate, rate.low), *(_or_value(each, each.high) for each in (power.idle, power.load))),
        basis=basis,
    )
    grams = float(site.grams_co2e_per_kwh) if site.grams_co2e_per_kwh is not None else None

    def emitted(amount: float | None) -> float | None:
        return None if amount is None or grams is None else amount * grams

    co2e = Figure(value=emitted(kwh.value), low=emitted(kwh.low), high=emitted(kwh.high), basis=basis)
    building = f"x {pue:g} for the building" if site.pue else "the building's share unknown, not counted"
    grid = "grid unknown" if grams is None else f"{grams:g} g CO2e per kWh"
    # Of a machine whose own power was counted, at work and idle, nothing that was published is in the figure.
    watts_source = "" if basis == "measured" else site.source
    parts = (f"{basis}: {power.told}, {building}", grid, watts_source, site.grid_source)
    return Energy(kwh, co2e, "; ".join(part for part in parts if part))


def _as_told(site: Site, told: PowerUse, busy_ratio: float) -> Power:
    """Power by a load test that kept so much of the machine busy."""
    load = told.watts
    idle = told.idle_watts or _idle_of(load.value or 0.0, _idle_ratios(site), busy_ratio)
    how = "measured" if idle.basis == "measured" else "assumed from the share that published servers draw"
    return Power(
        idle,
        load,
        f"{load.value:.3g} W at load, measured by the load test on this machine ({told.source}; a load generator on it "
        f"is in it, what the counter does not count is not), {idle.value:.3g} W idle, {how}",
    )


def _busy_ratio(load: LoadRecord) -> float:
    """The share of the machine that worked at the capacity, whoever used it."""
    if load.core_cpu_ratios:
        return sum(load.core_cpu_ratios) / len(load.core_cpu_ratios)
    used = load.server_cores * (1.0 if load.server_cpu_ratio is None else load.server_cpu_ratio)
    return min(1.0, used / load.environment.cpu_cores)


def _idle_ratios(site: Site) -> tuple[float, float, float]:
    """The share of its power at full load that the machine draws when idle, and its ends, the usual one in between."""
    if site.watts_idle is None or not site.watts_load:
        return IDLE_RATIO
    share = float(site.watts_idle / site.watts_load)
    return POWER_BAND[0] * share, share, min(1.0, POWER_BAND[1] * share)


def _idle_of(load: float, ratios: tuple[float, float, float], busy_ratio: float) -> Figure:
    """Idle watts of a machine that draws `load` when so much of it is busy, on the line from idle to full load."""
    low, value, high = (load * share / (share + busy_ratio * (1 - share)) for share in ratios)
    return Figure(value=value, low=low, high=high, basis="assumed")


def _banded(watts: float, band: tuple[float, float]) -> Figure:
    return Figure(value=watts, low=band[0] * watts, high=band[1] * watts, basis="assumed")


def _or_value(figure: Figure, end: float | None) -> float | None:
    """An end of an interval; where there is none, the figure itself."""
    return figure.value if end is None else end
