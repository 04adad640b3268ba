"""Which rows of a sheet are worth showing: within the limits asked for, in the order asked for, beaten by none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycost.records import Quote
from deploycost.units import milliseconds, percent, usd

Floats = NDArray[np.float64]
SortKey = Literal["planned", "floor", "per-correct", "monthly", "p95", "accuracy", "energy", "carbon"]
# Accuracies are ratios of counts: what differs by less than this is equal.
_ROUNDING = 1e-9


class Sight(NamedTuple):
    """What rows are judged by, one array each; NaN is unknown. `deployable` is 0 where SLO or memory say no."""

    monthly_usd: Floats
    planned: Floats
    p95_ms: Floats
    accuracy: Floats
    deployable: NDArray[np.bool_]

    def joined(self, other: Sight) -> Sight:
        """These rows and the others after them."""
        columns: Any = [np.concatenate(pair) for pair in zip(self, other, strict=True)]
        return Sight(*columns)

    def only(self, rows: NDArray[np.bool_]) -> Sight:
        """Some of the rows."""
        columns: Any = [column[rows] for column in self]
        return Sight(*columns)

    @staticmethod
    def of(quotes: Sequence[Quote]) -> Sight:
        """What quotes are judged by."""

        def known(value: Callable[[Quote], float | None]) -> Floats:
            return np.array([np.nan if (v := value(each)) is None else v for each in quotes], dtype=np.float64)

        return Sight(
            known(lambda each: each.monthly_usd.value),
            known(lambda each: each.usd_per_million.planned.value),
            known(lambda each: each.p95_ms.value),
            known(lambda each: each.accuracy.value),
            np.array([each.meets_slo is not False and each.fits_memory is not False for each in quotes], dtype=bool),
        )


SORTS: dict[SortKey, Callable[[Quote], float | None]] = {
    "planned": lambda each: each.usd_per_million.planned.value,
    "floor": lambda each: each.usd_per_million.floor.value,
    "per-correct": lambda each: each.usd_per_million.per_correct.value,
    "monthly": lambda each: each.monthly_usd.value,
    "p95": lambda each: each.p95_ms.value,
    "accuracy": lambda each: None if each.accuracy.value is None else -each.accuracy.value,
    "energy": lambda each: each.energy_kwh_per_million.value,
    "carbon": lambda each: each.grams_co2e_per_million.value,
}


@dataclass(frozen=True)
class Bounds:
    """What a row must keep to be shown; None where nothing is asked. A figure that is unknown keeps no bound."""

    max_p95_ms: float | None = None
    min_accuracy: float | None = None
    max_monthly_usd: float | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is."""
        return any(getattr(self, each.name) is not None for each in fields(self))


NO_BOUNDS = Bounds()


def within(bounds: Bounds, sight: Sight) -> NDArray[np.bool_]:
    """Which rows keep every bound."""
    return _misses(bounds, sight) == 0


def nearest_miss(bounds: Bounds, sight: Sight) -> int | None:
    """The row that misses the bounds by least, as a share of each; None where none has all the figures asked for."""
    misses = _misses(bounds, sight)
    return int(misses.argmin()) if misses.size and np.isfinite(misses.min()) else None


def bounds_told(bounds: Bounds) -> str:
    """The bounds in words, as in `p95 within 20 ms, accuracy of at least 90 %`."""
    told = []
    if bounds.max_p95_ms is not None:
        told.append(f"p95 within {milliseconds(bounds.max_p95_ms)}")
    if bounds.min_accuracy is not None:
        told.append(f"accuracy of at least {percent(bounds.min_accuracy)}")
    if bounds.max_monthly_usd is not None:
        told.append(f"at most {usd(bounds.max_monthly_usd)} a month")
    return ", ".join(told)


def pareto(sight: Sight) -> list[bool | None]:
    """Whether no other row is at least as good in planned cost, p95 and accuracy and better in one.

    None where one of them is unknown or the row cannot be deployed: such rows beat none either.
    """
    judged = np.flatnonzero(np.isfinite([sight.planned, sight.p95_ms, sight.accuracy]).all(axis=0) & sight.deployable)
    # Rows alike in latency and accuracy, such as those of one variant, are beaten by the cheapest of them.
    p95_ms, inaccuracy = sight.p95_ms[judged], -sight.accuracy[judged]
    order = np.lexsort((inaccuracy, p95_ms))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (np.diff(p95_ms[order]) != 0) | (np.diff(inaccuracy[order]) != 0)
    group_of = np.empty(len(order), dtype=np.int64)
    group_of[order] = np.cumsum(begins) - 1
    least = np.full(begins.sum(), np.inf)
    np.minimum.at(least, group_of, sight.planned[judged])
    best = _unbeaten(inaccuracy[order][begins], least)
    cheapest = sight.planned[judged] == least[group_of]
    marks = np.full(len(sight.planned), None, dtype=object)
    marks[judged] = np.array(best, dtype=bool)[group_of] & cheapest
    return marks.tolist()


def _unbeaten(inaccuracy: Floats, cost: Floats) -> list[bool]:
    """Whether nothing before a row costs as little and is as accurate; rows by rising latency, then inaccuracy.

    What comes later is slower, or as fast and less accurate, and so beats nothing before it.
    """
    place_of = np.unique(inaccuracy, return_inverse=True)[1].ravel()
    # By inaccuracy: the least cost so far of what is at most so inaccurate.
    least_so_far = np.full(place_of.max(initial=-1) + 1, np.inf)
    unbeaten = []
    for place, own in zip(place_of.tolist(), cost.tolist(), strict=True):
        better = own < least_so_far[place]
        unbeaten.append(bool(better))
        if better:
            np.minimum(least_so_far[place:], own, out=least_so_far[place:])
    return unbeaten


def _misses(bounds: Bounds, sight: Sight) -> Floats:
    total = np.zeros(len(sight.planned))
    for most, value in ((bounds.max_p95_ms, sight.p95_ms), (bounds.max_monthly_usd, sight.monthly_usd)):
        if most is not None:
            total += np.maximum(np.nan_to_num(value, nan=np.inf) - most, 0.0) / most
    if bounds.min_accuracy:
        short = bounds.min_accuracy - np.nan_to_num(sight.accuracy, nan=-np.inf)
        total += np.where(short > _ROUNDING, short, 0.0) / bounds.min_accuracy
    return total
