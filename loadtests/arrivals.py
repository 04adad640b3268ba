"""When requests are due: decided ahead from a seed, so that no answer, late or lost, can change the load."""

from __future__ import annotations

from random import Random

NS_PER_S = 1_000_000_000


def arrival_offsets_ns(arrivals: str, rate_rps: float, seconds: float, seed: int) -> list[int]:
    """Offsets in nanoseconds from the start, ascending, `rate_rps * seconds` of them, all within `seconds`.

    `poisson` draws each offset uniformly: a Poisson process given its number of arrivals (Kingman, Poisson Processes,
    1993, section 2.4). The number is fixed because chance in it, 5 % at 400 arrivals, would be an error of the
    offered rate. `constant` spaces them evenly, the first half a gap after the start.
    """
    number = max(1, round(rate_rps * seconds))
    if arrivals == "constant":
        return [int((index + 0.5) * seconds * NS_PER_S / number) for index in range(number)]
    source = Random(seed)
    return sorted(int(source.random() * seconds * NS_PER_S) for _ in range(number))
