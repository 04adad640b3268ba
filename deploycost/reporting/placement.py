"""Points and their labels: which points stand out, and where labels go so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, worth) that no other beats in both, cheapest first."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """The positions moved apart to at least `gap`, in their order, by the least sum of squared moves.

    With i * gap taken off the i-th smallest, "at least a gap apart" is "never falling", which pooling adjacent
    violators solves (Ayer et al., 1955).
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    pools: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        pool = (positions[index] - rank * gap, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, count = pools.pop()
            pool = ((mean * count + pool[0] * pool[1]) / (count + pool[1]), count + pool[1])
        pools.append(pool)
    moved = [mean for mean, count in pools for _ in range(count)]
    apart = [0.0] * len(positions)
    for rank, index in enumerate(order):
        apart[index] = moved[rank] + rank * gap
    return apart
