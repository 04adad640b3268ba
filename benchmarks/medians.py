"""The median of repeated measurements, with an interval that supposes nothing of how they are spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from deploycost.stats import quantile_ranks

Median = dict[str, float | None]


def median_of(measured: Sequence[float]) -> Median:
    """The median as a figure; `low` and `high` are its 95 % interval (order statistics), null for fewer than 6."""
    ranks = quantile_ranks(len(measured), 0.5)
    ordered = sorted(measured)
    low, high = (ordered[ranks[0] - 1], ordered[ranks[1] - 1]) if ranks else (None, None)
    return {"value": statistics.median(ordered), "low": low, "high": high}


def with_interval(figure: Median) -> str:
    """As a table's cell tells it."""
    if figure["low"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} ({figure['low']:.2f}-{figure['high']:.2f})"
