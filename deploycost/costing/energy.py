"""What a million predictions draw and emit: the power of the fleet as it is planned, idle machines included."""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.costing.alternatives import Site
from deploycost.costing.fleet import MILLION
from deploycost.records import UNKNOWN_FIGURE, Figure
from deploycost.units import SECONDS_PER_HOUR

# Of power that is assumed from published means per thread and card: they differ so much between servers of one kind.
POWER_BAND = (0.7, 1.4)
_WATTS_PER_KW = 1000


@dataclass(frozen=True)
class Energy:
    """kWh and grams of CO2 equivalent per million predictions, and how they are known."""

    kwh_per_million: Figure
    grams_co2e_per_million: Figure
    reason: str


UNKNOWN_ENERGY = Energy(UNKNOWN_FIGURE, UNKNOWN_FIGURE, "unknown: no power figure for this machine")


def energy_of(site: Site, rate: Figure, fleet_hours: dict[float, float], requests_per_month: int) -> Energy:
    """Watts on the line from idle to load at the mean load, times the hours of the fleet, times the building's share.

    `fleet_hours` are the machine-hours a month at the capacity and at each end of its interval. Always assumed: the
    power is a published mean.
    """
    if site.watts_idle is None or site.watts_load is None or not rate.value:
        return UNKNOWN_ENERGY
    idle, load, pue = float(site.watts_idle), float(site.watts_load), float(site.pue or 1)

    def kwh_at(rps: float | None, factor: float) -> float | None:
        if not rps:
            return None
        busy_hours = requests_per_month / (SECONDS_PER_HOUR * rps)
        joint = fleet_hours[rps] * idle + busy_hours * (load - idle)
        return factor * joint / _WATTS_PER_KW * pue / requests_per_month * MILLION

    kwh = Figure(
        value=kwh_at(rate.value, 1.0),
        low=kwh_at(rate.high or rate.value, POWER_BAND[0]),
        high=kwh_at(rate.low or rate.value, POWER_BAND[1]),
        basis="assumed",
    )
    grams = float(site.grams_co2e_per_kwh) if site.grams_co2e_per_kwh is not None else None

    def emitted(amount: float | None) -> float | None:
        return None if amount is None or grams is None else amount * grams

    co2e = Figure(value=emitted(kwh.value), low=emitted(kwh.low), high=emitted(kwh.high), basis="assumed")
    building = f"x {pue:g} for the building" if site.pue else "the building's share unknown, not counted"
    grid = "grid unknown" if grams is None else f"{grams:g} g CO2e per kWh"
    reason = f"assumed: {idle:.3g} W idle to {load:.3g} W at load per machine, {building}; {grid}; {site.source}"
    return Energy(kwh, co2e, reason)
