"""Points and their labels: which points stand out, and where labels go so that none lies on another.

Plain geometry, in whatever unit the caller draws in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import NamedTuple

# Right, left, above, below, then the diagonals: the order in which a reader expects a label.
_DIRECTIONS = tuple((cos(turn * pi / 4), sin(turn * pi / 4)) for turn in (0, 4, 2, 6, 1, 3, 5, 7))


class Box(NamedTuple):
    """A rectangle by its lower left and upper right corner."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, frame: Box) -> bool:
        """Whether all of it lies in the frame."""
        inside = self.left >= frame.left and self.right <= frame.right
        return inside and self.bottom >= frame.bottom and self.top <= frame.top


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    obstacles: Sequence[Box] = (),
    distances: Sequence[float] = (8, 14, 22, 34, 50, 68),
) -> list[Box | None]:
    """A box for each point's label of that width and height, or None where there is no room for it.

    No box overlaps another, any point or any of the obstacles, and all lie within the frame. Points are served in
    their order, each by the first free place, near before far.
    """
    reach = distances[0] * 0.6
    taken = [*obstacles, *(Box(x - reach, y - reach, x + reach, y + reach) for x, y in points)]
    boxes: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        candidates = (_beside(point, size, step, distance) for distance in distances for step in _DIRECTIONS)
        free = (box for box in candidates if box.within(frame) and not any(box.overlaps(other) for other in taken))
        box = next(free, None)
        boxes.append(box)
        if box:
            taken.append(box)
    return boxes


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


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, worth) that no other beats in both, cheapest first."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def _beside(point: tuple[float, float], size: tuple[float, float], step: tuple[float, float], distance: float) -> Box:
    # The label's nearest edge, not its middle, is `distance` away: labels are much wider than they are high.
    x = point[0] + step[0] * (distance + size[0] / 2)
    y = point[1] + step[1] * (distance + size[1] / 2)
    return Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
