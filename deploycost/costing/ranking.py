"""The whole price book at once: what every variant costs on every machine, in arrays, to find the rows worth showing.

A quote with all that it says takes a hundred times as long as its price; a hundred thousand of them are ranked here
and only those shown are made. Machines are counted as in `hourly`: where rounding could make a difference of one, the
fraction decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from deploycost.costing.alternatives import Machine
from deploycost.costing.fleet import MILLION, exact
from deploycost.costing.hourly import Purchase, hour_shares, weekly_hours
from deploycost.units import SECONDS_PER_HOUR
from deploycost.verdicts import Policy, Traffic

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
# Relative distance to a whole number below which a float is not trusted to be above or below it.
_ROUNDING = 1e-12
# Capacities whose hours of the week are held at once.
_AT_ONCE = 2048


@dataclass(frozen=True)
class Costs:
    """Of each variant (rows) on each machine (columns): USD a month, machine-hours a month, USD per million at
    saturation. NaN where the capacity is unknown or nothing."""

    monthly_usd: Floats
    fleet_hours: Floats
    floor_usd_per_million: Floats


def cost_all(
    rates: Floats,
    kind_of: NDArray[np.int64],
    machines: Sequence[Machine],
    extra_usd: Callable[[Decimal], Floats],
    traffic: Traffic,
    policy: Policy,
) -> Costs:
    """Prices every variant on every machine.

    `rates` are capacities in requests per second by variant and kind of machine, `kind_of` the kind of each machine,
    `extra_usd` what the month costs each variant beside machines, given the price of a machine's hour.
    """
    shape = (rates.shape[0], len(machines))
    monthly, hours, at_saturation = (np.full(shape, np.nan) for _ in range(3))
    purchases = [machine.purchases(policy) for machine in machines]
    alike: dict[tuple[Purchase, Purchase | None], list[int]] = {}
    for column, (peak, base) in enumerate(purchases):
        unpriced = (replace(peak, usd_per_hour=Decimal(0)), base and replace(base, usd_per_hour=Decimal(0)))
        alike.setdefault(unpriced, []).append(column)
    egress = float(usd_per_answer(policy))
    for (peak, base), columns in alike.items():
        used, place = np.unique(kind_of[columns], return_inverse=True)
        base_hours, peak_hours = _hours(rates[:, used], traffic, policy, peak, base)
        peak_price = np.array([float(purchases[column][0].usd_per_hour) for column in columns])
        base_price = np.array([float(b.usd_per_hour) if (b := purchases[column][1]) else 0.0 for column in columns])
        monthly[:, columns] = base_hours[:, place] * base_price + peak_hours[:, place] * peak_price
        hours[:, columns] = base_hours[:, place] + peak_hours[:, place]
        with np.errstate(divide="ignore", invalid="ignore"):
            cheapest = np.minimum(peak_price, base_price) if base else peak_price
            at_saturation[:, columns] = MILLION * cheapest / (SECONDS_PER_HOUR * rates[:, kind_of[columns]])
    requests = traffic.requests_per_month
    for column, machine in enumerate(machines):
        if machine.owned:
            per_request = _owned_usd_per_request(machine, rates[:, kind_of[column]])
            monthly[:, column] += requests * per_request
            at_saturation[:, column] += MILLION * per_request
    if policy.horizon_months:
        for column, machine in enumerate(machines):
            monthly[:, column] += extra_usd(machine.offer.effective_usd_per_hour)
    monthly += requests * egress - np.array([float(machine.free_monthly_usd) for machine in machines])
    at_saturation[~np.isfinite(at_saturation)] = np.nan
    # What is free may bring the plan below the list price.
    return Costs(monthly, hours, np.minimum(at_saturation + MILLION * egress, monthly * MILLION / requests))


def usd_per_answer(policy: Policy) -> Fraction:
    """What the way out of one answer costs."""
    return Fraction(policy.response_bytes, 2**30) * Fraction(policy.egress_usd_per_gib)


def _owned_usd_per_request(machine: Machine, rates: Floats) -> Floats:
    per_second = float(machine.usd_per_request(1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return per_second / rates


def _hours(
    rates: Floats, traffic: Traffic, policy: Policy, peak: Purchase, base: Purchase | None
) -> tuple[Floats, Floats]:
    """Machine-hours a month of the base and of the others, of capacities of any shape."""
    flat = rates.ravel()
    known = np.nan_to_num(flat) > 0
    base_hours, peak_hours = np.full(flat.shape, np.nan), np.full(flat.shape, np.nan)
    distinct, back = np.unique(flat[known], return_inverse=True)
    if distinct.size:
        parts = [
            _hours_of(distinct[start : start + _AT_ONCE], traffic, policy, peak, base)
            for start in range(0, distinct.size, _AT_ONCE)
        ]
        base_hours[known] = np.concatenate([of_base for of_base, _ in parts])[back]
        peak_hours[known] = np.concatenate([of_peak for _, of_peak in parts])[back]
    return base_hours.reshape(rates.shape), peak_hours.reshape(rates.shape)


def _hours_of(
    rates: Floats, traffic: Traffic, policy: Policy, peak: Purchase, base: Purchase | None
) -> tuple[Floats, Floats]:
    shares = np.array(hour_shares(traffic, policy.hours_per_month)[0], dtype=object)
    levels, hour_level = np.unique(shares, return_inverse=True)
    if not (policy.autoscale or base):  # only the busiest hour counts
        levels, hour_level = levels[-1:], np.zeros(1, dtype=np.int64)
    needed = _needed(rates, levels, traffic, policy)
    base_count = needed.min(axis=1) if base else np.zeros(rates.size, dtype=np.int64)
    rented = _rented(needed - base_count[:, None], peak.interruption_ratio)
    if policy.autoscale and not peak.always_on:
        peak_hours = _weekly(rented[:, hour_level], policy, peak) * policy.hours_per_month / len(hour_level)
    else:
        peak_hours = rented.max(axis=1) * float(policy.hours_per_month)
    base_rented = _rented(base_count, base.interruption_ratio) if base else base_count
    base_hours: Floats = np.asarray(base_rented * policy.hours_per_month, dtype=np.float64)
    return base_hours, np.asarray(peak_hours, dtype=np.float64)


def _needed(rates: Floats, levels: NDArray[np.object_], traffic: Traffic, policy: Policy) -> Counts:
    """Machines for each capacity (rows) at each level of traffic (columns), as `HourlyFleet.needed` counts them."""
    denominator = hour_shares(traffic, policy.hours_per_month)[1]
    load = traffic.requests_per_month / (denominator * exact(policy.utilisation_ratio) * SECONDS_PER_HOUR)
    exact_rps = [int(level) * load for level in levels]  # machines of one request per second that the level takes
    quotient = np.array([float(rps) for rps in exact_rps])[None, :] / rates[:, None]
    counted = np.ceil(quotient)
    doubtful = np.abs(quotient - np.rint(quotient)) <= _ROUNDING * np.maximum(quotient, 1.0)
    for row, column in zip(*np.nonzero(doubtful), strict=True):
        counted[row, column] = ceil(exact_rps[column] / exact(float(rates[row])))
    step = policy.scale_step if policy.autoscale else 1
    serving = np.maximum(counted, 1.0).astype(np.int64)
    return -(-serving // step) * step + policy.spare_replicas


def _rented(counts: Counts, interruption: Fraction) -> Counts:
    kept = 1 - interruption
    return -(-counts * kept.denominator // kept.numerator)


def _weekly(counts: Counts, policy: Policy, peak: Purchase) -> Floats:
    """`weekly_hours` of each row."""
    lead_s = exact(policy.cold_start_s)
    if SECONDS_PER_HOUR % peak.granularity_s or peak.minimum_s > SECONDS_PER_HOUR:
        return np.array(
            [float(weekly_hours(row, lead_s, peak.granularity_s, peak.minimum_s)) for row in counts.tolist()]
        )
    ahead = counts
    for later in range(1, min(int(lead_s // SECONDS_PER_HOUR), counts.shape[1] - 1) + 1):
        ahead = np.maximum(ahead, np.roll(counts, -later, axis=1))
    rest_s = ceil((lead_s % SECONDS_PER_HOUR) / peak.granularity_s) * peak.granularity_s
    starts = np.maximum(ahead - np.roll(ahead, 1, axis=1), 0).sum(axis=1)
    return ahead.sum(axis=1) + starts * (rest_s / SECONDS_PER_HOUR)
