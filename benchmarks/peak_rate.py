"""The most arithmetic that one core does: square matrix products of each precision by torch's libraries.

    python -m benchmarks.peak_rate

Prints a line of JSON with operations per second, a multiplication and an addition counted as two. It is what was
reached here and not what the maker of the CPU names: clocks and neighbours are in it, as they are in the artifacts'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter

import torch

_SIZE, _TRIES = 1024, 12


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    square = torch.randn(_SIZE, _SIZE)
    whole = torch.randint(-127, 127, (_SIZE, _SIZE), dtype=torch.int8)
    half = square.bfloat16()
    rates = {
        "fp32": _rate(lambda: torch.mm(square, square)),
        "bf16": _rate(lambda: torch.mm(half, half)),
        "int8": _rate(lambda: torch._int_mm(whole, whole)),
    }
    print(json.dumps({"operations_per_s": rates}), flush=True)


def _rate(multiply: Callable[[], torch.Tensor]) -> float:
    """The best of several: whatever slows a try down is not the core's limit."""
    multiply()
    times_s = []
    for _ in range(_TRIES):
        start_s = perf_counter()
        multiply()
        times_s.append(perf_counter() - start_s)
    return 2 * _SIZE**3 / min(times_s)


if __name__ == "__main__":
    main()
