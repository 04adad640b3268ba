"""When a warm-up is over: as soon as the latencies themselves say so, rather than after a fixed time.

The decision is made on the warm-up's own latencies, before the measured window begins. Cutting the measured window
afterwards, as the rule is mostly used, would cut away a burst at its start together with a true tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import median

BATCH = 5
LEAST_BATCHES = 10
LEAST_LEFT = 4
# More batches than this tell nothing more about where a trend ends, and time is short while there is load.
MOST_BATCHES = 400


def cut_of(values: Sequence[float]) -> int | None:
    """How many of the values to leave out as a start-up transient, by MSER-5; None where there are too few.

    White's marginal standard error rule on means of batches of five (White, Simulation 69(6), 1997; White, Cobb and
    Spratt, 2000): the cut that leaves the least sum of squares over the square of the number of batches left. Below
    50 values the batches are single values, of which it takes 10; above 2,000 they are larger.
    """
    size = BATCH if len(values) >= BATCH * LEAST_BATCHES else 1
    size = max(size, len(values) // MOST_BATCHES)
    batches = [sum(values[start : start + size]) / size for start in range(0, len(values) - size + 1, size)]
    number = len(batches)
    if number < LEAST_BATCHES:
        return None
    # Taken from the middle of the values, so that squares of large numbers do not swallow small differences.
    middle = median(batches)
    tail = [value - middle for value in reversed(batches)]
    sums, squares = list(accumulate(tail)), list(accumulate(value * value for value in tail))

    def error(cut: int) -> float:
        left = number - cut
        return max(0.0, squares[left - 1] - sums[left - 1] ** 2 / left) / left**2

    # With fewer left their spread is small by chance.
    return size * min(range(number - LEAST_LEFT), key=error)


def is_steady(latencies_ms: Sequence[float]) -> bool:
    """Whether the latencies so far, in the order requests were due, have been steady for the later half at least."""
    cut = cut_of(latencies_ms)
    return cut is not None and cut <= len(latencies_ms) / 2


def is_overrun(latencies_ms: Sequence[float], late_ms: float) -> bool:
    """Whether answers are late and get later: a server that is overrun will not be steady, however long one waits."""
    half = len(latencies_ms) // 2
    if half < LEAST_BATCHES // 2:
        return False
    first, second = median(latencies_ms[:half]), median(latencies_ms[half:])
    return second > late_ms and second > first
