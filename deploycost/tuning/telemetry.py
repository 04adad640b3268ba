"""What training costs in time, step by step, and the loss that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class StepClock(TrainerCallback):
    """Times steps and epochs of a `Trainer`; what `after_epoch` does and what is done while paused do not count."""

    def __init__(self, after_epoch: Callable[[float], None], on_step: Callable[[int, int], None]) -> None:
        self._after_epoch = after_epoch
        self._on_step = on_step
        self._step_began_ns = 0
        self._began_ns: int | None = None
        self._epoch_ns = 0
        self._step_durations_ns: list[int] = []
        self.epoch_s: list[float] = []

    @property
    def training_s(self) -> float:
        """Time in finished epochs: data loading and steps, without what was done between epochs."""
        return sum(self.epoch_s)

    def step_ms(self, percentile: float) -> float:
        """A percentile of the step durations, in milliseconds."""
        return float(np.percentile(self._step_durations_ns, percentile)) / NS_PER_MS

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A time within an epoch that is not training, such as the writing of a checkpoint."""
        running = self._began_ns is not None
        self._stop()
        yield
        if running:
            self._began_ns = perf_counter_ns()

    def state_dict(self) -> dict[str, Any]:
        """All that is known so far; to be asked for while paused."""
        steps = list(self._step_durations_ns)
        return {"epoch_s": list(self.epoch_s), "epoch_ns": self._epoch_ns, "step_durations_ns": steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` told."""
        self.epoch_s, self._epoch_ns = list(state["epoch_s"]), state["epoch_ns"]
        self._step_durations_ns = list(state["step_durations_ns"])

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - transformers' signature
        """Starts the epoch's clock, or lets it go on where the epoch was begun before."""
        self._began_ns = perf_counter_ns()

    def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Starts the step's clock."""
        self._step_began_ns = perf_counter_ns()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stops the step's clock and tells of the progress."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else only the handing over of the step would be timed
        self._step_durations_ns.append(perf_counter_ns() - self._step_began_ns)
        self._on_step(state.global_step, state.max_steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stops the epoch's clock, then lets the epoch be judged."""
        self._stop()
        self.epoch_s.append(self._epoch_ns / NS_PER_S)
        self._epoch_ns = 0
        self._after_epoch(float(state.epoch or 0))

    def _stop(self) -> None:
        if self._began_ns is not None:
            self._epoch_ns += perf_counter_ns() - self._began_ns
            self._began_ns = None


class LossMeter:
    """The mean loss of an epoch: over its steps, of what was minimised on each batch, as the weights then were.

    A loss that is no number is left out. Nothing is read from the device before the epoch is over.
    """

    def __init__(self) -> None:
        self._sum = torch.zeros((), dtype=torch.float64)
        self._count = torch.zeros((), dtype=torch.int64)

    def add(self, loss: Tensor) -> None:
        """Counts one step's loss."""
        finite = torch.isfinite(loss)
        self._sum = self._sum.to(loss.device) + torch.where(finite, loss, 0.0).double()
        self._count = self._count.to(loss.device) + finite

    def take(self) -> float | None:
        """The mean since the last call, or None where no loss was a number."""
        count, mean = int(self._count), float(self._sum / self._count)
        self._sum, self._count = torch.zeros_like(self._sum), torch.zeros_like(self._count)
        return mean if count else None

    def state_dict(self) -> dict[str, Any]:
        """Sum and count so far."""
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a sum and a count."""
        self._sum, self._count = state["sum"], state["count"]
