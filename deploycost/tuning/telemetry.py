"""What training costs the machine: time per step, time in epochs, and peak memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from transformers import TrainerCallback

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class StepClock(TrainerCallback):
    """Times steps and epochs of a `Trainer`; what `after_epoch` does is not counted as training."""

    def __init__(self, after_epoch: Callable[[float], None], on_step: Callable[[int, int], None]) -> None:
        self._after_epoch = after_epoch
        self._on_step = on_step
        self._step_began_ns = 0
        self._epoch_began_ns = 0
        self._step_durations_ns: list[int] = []
        self._training_ns = 0

    @property
    def training_s(self) -> float:
        """Time in epochs so far: data loading and steps, without what was done between epochs."""
        return self._training_ns / NS_PER_S

    def step_ms(self, percentile: float) -> float:
        """A percentile of the step durations, in milliseconds."""
        return float(np.percentile(self._step_durations_ns, percentile)) / NS_PER_MS

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - transformers' signature
        """Starts the epoch's clock."""
        self._epoch_began_ns = perf_counter_ns()

    def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Starts the step's clock."""
        self._step_began_ns = perf_counter_ns()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stops the step's clock and tells of the progress."""
        self._step_durations_ns.append(perf_counter_ns() - self._step_began_ns)
        self._on_step(state.global_step, state.max_steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stops the epoch's clock, then lets the epoch be judged."""
        self._training_ns += perf_counter_ns() - self._epoch_began_ns
        self._after_epoch(float(state.epoch or 0))


def resident_memory_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return _status_bytes("VmRSS") or peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most memory of this process that has ever been in RAM.

    From the kernel's own high-water mark, which no sampling can miss. `ru_maxrss` is the fallback: on Linux it would
    count the parent's memory too, as it survives `exec`.
    """
    mark = _status_bytes("VmHWM")
    if mark:
        return mark
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
