"""All variants on all machines in arrays: ranked by cost, judged, and the few rows that are shown made in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deploycost.carried import NO_LOAD, Carried
from deploycost.costing.alternatives import CapacityOn, CarriedOn, Machine, Site, SiteOf
from deploycost.costing.energy import Power, power_of_machine
from deploycost.costing.fleet import MILLION
from deploycost.costing.ranking import Costs, Floats, cost_all
from deploycost.costing.rows import MachineRow, accuracy_of, needed_bytes, planned_p95_ms, training_monthly_usd
from deploycost.costing.sieve import Sight, SortKey
from deploycost.records import LoadRecord, Subject
from deploycost.units import GIB, SECONDS_PER_HOUR
from deploycost.verdicts import Policy, Traffic, UnknownQuotes
from pricing.book import Offer

_MACHINES_NAMED = 3


@dataclass(frozen=True)
class Table:
    """Every variant on every machine. A row of the table is `variant number x machines + machine number`."""

    variants: Sequence[Subject]
    machines: Sequence[Machine]
    capacity_on: CapacityOn
    carried_on: CarriedOn
    traffic: Traffic
    policy: Policy
    slo_p95_ms: float

    def row(self, number: int) -> MachineRow:
        """One row, its capacity asked for this very machine."""
        variant, machine = self.variants[number // len(self.machines)], self.machines[number % len(self.machines)]
        return MachineRow(variant, machine, self.capacity_on(variant, machine.offer), self.traffic, self.policy)

    @cached_property
    def sight(self) -> Sight:
        """What rows are judged by."""
        monthly = self._costs.monthly_usd
        p95 = self._p95_ms
        accuracy = np.array([_nan(accuracy_of(variant).value) for variant in self.variants])
        with np.errstate(invalid="ignore"):
            too_slow = (self._rates == 0) | ((self._rates > 0) & (p95 > self.slo_p95_ms))
            memory = np.array([float(machine.offer.memory_gib) * GIB for machine in self.machines])
            too_large = self._needed_bytes[:, self._kinds] > memory
        return Sight(
            monthly.ravel(),
            (monthly * MILLION / self.traffic.requests_per_month).ravel(),
            p95[:, self._kinds].ravel(),
            np.repeat(accuracy, len(self.machines)),
            ~(too_slow[:, self._kinds] | too_large).ravel(),
        )

    def first(self, count: int, among: NDArray[np.bool_], sort: SortKey, site_of: SiteOf) -> list[int]:
        """The first of some rows by what is asked, then planned cost, then cost at saturation, then name; unknown
        last."""
        asked = np.nan_to_num(self._sorted_by(sort, site_of), nan=np.inf)
        rows = np.flatnonzero(among)
        if count < len(rows):  # all that are as good as the last are kept, and only those put in order
            rows = rows[asked[rows] <= np.partition(asked[rows], count)[count]]
        at_saturation, planned = self._costs.floor_usd_per_million.ravel()[rows], self.sight.planned[rows]
        variant, machine = np.divmod(rows, len(self.machines))
        names = _places([each.name for each in self.variants])[variant]
        places = _places([_machine_text(each) for each in self.machines])[machine]
        ties = (np.nan_to_num(at_saturation, nan=np.inf), np.nan_to_num(planned, nan=np.inf))
        return rows[np.lexsort((places, names, *ties, asked[rows]))][:count].tolist()

    def _sorted_by(self, sort: SortKey, site_of: SiteOf) -> Floats:
        sight = self.sight
        if sort == "per-correct":
            return sight.planned / sight.accuracy
        if sort in ("energy", "carbon"):
            return self._energy(site_of, carbon=sort == "carbon")
        return {
            "planned": sight.planned,
            "floor": self._costs.floor_usd_per_million.ravel(),
            "monthly": sight.monthly_usd,
            "p95": sight.p95_ms,
            "accuracy": -sight.accuracy,
        }[sort]

    @property
    def loads(self) -> dict[str, LoadRecord]:
        """The load tests that capacities rest on, by variant and CPU."""
        loads = self._carried.loads
        return {
            f"{variant.name} on {loads[place].environment.cpu_model}": loads[place]
            for variant, places in zip(self.variants, self._carried.load_of.tolist(), strict=True)
            for place in dict.fromkeys(places)
            if place != NO_LOAD
        }

    def unknown(self) -> tuple[UnknownQuotes, ...]:
        """The rows without a capacity by the reason for it, those of most rows first."""
        machines_of = [np.flatnonzero(self._kinds == kind) for kind in range(self._rates.shape[1])]
        kinds_by_reason: dict[str, list[int]] = {}
        for number, kind in np.argwhere(np.isnan(self._rates)).tolist():
            reason = self.capacity_on(self.variants[number], self._kinds_and_samples[1][kind]).reason
            kinds_by_reason.setdefault(unknown_reason(reason), []).append(kind)
        told = []
        for reason, kinds in kinds_by_reason.items():
            columns = sorted({int(column) for kind in set(kinds) for column in machines_of[kind]})
            names = list(dict.fromkeys(_short_name(self.machines[column].offer) for column in columns))
            count = sum(len(machines_of[kind]) for kind in kinds)
            told.append(
                UnknownQuotes(
                    reason=reason, quotes=count, machines=tuple(names[:_MACHINES_NAMED]), machine_count=len(names)
                )
            )
        return tuple(sorted(told, key=lambda each: -each.quotes))

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        return np.array(self._kinds_and_samples[0], dtype=np.int64)

    @cached_property
    def _kinds_and_samples(self) -> tuple[list[int], list[Offer]]:
        """The kind of each machine, and of each kind one machine to ask about."""
        named = {(load.environment.instance_type or "").lower() for variant in self.variants for load in variant.loads}
        numbers: dict[tuple[object, ...], int] = {}
        kinds, samples = [], []
        for machine in self.machines:
            key = _kind(machine.offer, named)
            if key not in numbers:
                numbers[key] = len(numbers)
                samples.append(machine.offer)
            kinds.append(numbers[key])
        return kinds, samples

    @cached_property
    def _carried(self) -> Carried:
        return self.carried_on(self.variants, self._kinds_and_samples[1])

    @property
    def _rates(self) -> Floats:
        return self._carried.rps

    @cached_property
    def _p95_ms(self) -> Floats:
        of_loads = self._of_loads(lambda load: planned_p95_ms(load, self.policy))
        return np.where(np.isnan(self._carried.p95_ms), of_loads, self._carried.p95_ms)

    @property
    def _needed_bytes(self) -> Floats:
        peak_bytes = self._of_loads(lambda load: load.memory_bytes.peak if load.memory_bytes else None)
        return needed_bytes(peak_bytes, self._carried.server_copies.astype(np.float64))

    def _of_loads(self, figure: Callable[[LoadRecord], float | None]) -> Floats:
        """A figure of the load test that each capacity rests on; NaN where it rests on none."""
        figures = np.array([_nan(figure(load)) for load in self._carried.loads] or [np.nan])
        return np.where(self._carried.load_of == NO_LOAD, np.nan, figures[self._carried.load_of])

    @cached_property
    def _costs(self) -> Costs:
        def training(usd_per_hour: Decimal) -> Floats:
            return np.array([training_monthly_usd(variant, usd_per_hour, self.policy) for variant in self.variants])

        return cost_all(self._rates, self._kinds, self.machines, training, self.traffic, self.policy)

    def _energy(self, site_of: SiteOf, *, carbon: bool) -> Floats:
        sites = [site_of(machine.offer) for machine in self.machines]
        idle, load = self._watts(sites)
        building = np.array([float(site.pue or 1) for site in sites])
        with np.errstate(divide="ignore", invalid="ignore"):
            busy_hours = self.traffic.requests_per_month / (SECONDS_PER_HOUR * self._rates[:, self._kinds])
        energy = (self._costs.fleet_hours * idle + busy_hours * (load - idle)) * building
        if carbon:
            energy = energy * np.array([_nan(site.grams_co2e_per_kwh) for site in sites])
        return energy.ravel()

    def _watts(self, sites: Sequence[Site]) -> tuple[Floats, Floats]:
        """Of each row idle and at load."""
        published = [_watts_of(power_of_machine(site, None)) for site in sites]
        idle, load = (np.tile(watts, (len(self.variants), 1)) for watts in zip(*published, strict=True))
        for number, column in np.argwhere(self._carried.is_own[:, self._kinds]).tolist():
            own = self._carried.loads[self._carried.load_of[number, self._kinds[column]]]
            idle[number, column], load[number, column] = _watts_of(power_of_machine(sites[column], own))
        return idle, load


def unknown_reason(told: str) -> str:
    """Why a capacity is unknown: what follows the first clause is what to do about it, for this variant and machine."""
    return told.removeprefix("unknown: ").partition(";")[0]


def _kind(offer: Offer, named: set[str]) -> tuple[object, ...]:
    """What a capacity may depend on."""
    names = {offer.instance_type.lower(), f"{offer.cloud}-{offer.instance_type}".lower()}
    return (
        offer.vcpus, offer.vcpu_is, offer.cpu_model, offer.architecture, offer.sustained_cpu_ratio,
        offer.accelerator_name, offer.accelerator_count, offer.accelerator_memory_gib,
        (offer.cloud, offer.instance_type) if names & named else None,
    )  # fmt: skip


def _machine_text(machine: Machine) -> str:
    offer = machine.offer
    return f"{offer.cloud} {offer.region} {offer.instance_type} {machine.bought}"


def _short_name(offer: Offer) -> str:
    return f"{offer.cloud} {offer.instance_type}"


def _places(names: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name in their alphabetical order."""
    place = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([place[name] for name in names], dtype=np.int64)


def _watts_of(power: Power | None) -> tuple[float, float]:
    return (_nan(power.idle.value), _nan(power.load.value)) if power else (np.nan, np.nan)


def _nan(value: float | Decimal | None) -> float:
    return float("nan") if value is None else float(value)
