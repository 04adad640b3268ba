"""transformers' `Trainer`, taught to keep and take up checkpoints of our own.

It is subclassed, against the custom of this house, because saving and loading are methods of it that offer no other
way in. Its own checkpoints would not do: they hold the frozen and quantised base as well, are pickled, and lose the
running mean of the loss, so that the loss of a resumed epoch would be of its second part only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from deploycost.tuning.batches import GroupedByLength
from deploycost.tuning.checkpoints import Checkpoint, CheckpointFolder, Stateful
from deploycost.tuning.telemetry import LossMeter

# How long a killed training may have trained in vain; and writing must not take more than a twentieth of the time.
INTERVAL_S = 30.0
_MOST_TIME_RATIO = 1 / 20
_TRAINER_STATE = "trainer_state.json"


class Pausable(Protocol):
    """What measures training and must not measure the writing of a checkpoint."""

    def paused(self) -> AbstractContextManager[None]:
        """A context of what is not training."""
        ...


@dataclass(frozen=True)
class Keeping:
    """What a trainer is to keep, where, and what it takes up; without a folder nothing is kept."""

    folder: CheckpointFolder | None
    parts: dict[str, Stateful]
    pauses: tuple[Pausable, ...]
    newest: Checkpoint | None = None
    interval_s: float = INTERVAL_S


class CheckpointCadence(TrainerCallback):
    """Asks for a checkpoint at the end of each epoch, and within it as often as `interval_s` and its cost allow."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._written_at_s = perf_counter()
        self._took_s = 0.0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The time that a checkpoint takes."""
        began_s = perf_counter()
        yield
        self._written_at_s = perf_counter()
        self._took_s = self._written_at_s - began_s

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Asks for one that is due, but for the last step of an epoch: the epoch is not judged yet."""
        wait_s = max(self._interval_s, self._took_s / _MOST_TIME_RATIO)
        due = perf_counter() - self._written_at_s >= wait_s
        control.should_save = due and not float(state.epoch).is_integer()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Asks for one; to be called after the epoch was judged."""
        control.should_save = True


class ResumableTrainer(Trainer):
    """A `Trainer` whose training, stopped at any step, goes on from its last checkpoint as if it had not been."""

    def __init__(self, *, keeping: Keeping, losses: LossMeter, **kwargs: Any) -> None:  # noqa: ANN401 - of `Trainer`
        super().__init__(**kwargs)
        self._keeping = keeping
        self._losses = losses
        self._cadence = CheckpointCadence(keeping.interval_s)
        self._taken_up: dict[str, Any] = {}
        self.resumed_at_steps: tuple[int, ...] = ()
        if keeping.folder is not None:
            self.add_callback(self._cadence)

    def train_or_go_on(self) -> None:
        """Trains from the beginning, or from the checkpoint that `keeping` holds."""
        newest = self._keeping.newest
        if newest is None:
            self.train()
        else:
            self._taken_up = newest.state
            self.resumed_at_steps = (*newest.state["resumed_at_steps"], newest.step)
            self.train(resume_from_checkpoint=str(newest.folder))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Forward and backward of a batch; its loss is counted."""
        loss = super().training_step(*args, **kwargs)
        self._losses.add(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> None:  # noqa: ANN401
        # The guard measures and clips; asked for the norm a second time, every gradient would be read twice.
        self.accelerator.unscale_gradients()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ANN401 - its signature
        texts: Any = train_dataset if train_dataset is not None else self.train_dataset
        lengths = [len(ids) for ids in texts.input_ids]
        return GroupedByLength(lengths, self.args.train_batch_size, self.args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        if self._keeping.folder is None:
            return
        with ExitStack() as pauses:
            pauses.enter_context(self._cadence.writing())
            for meter in self._keeping.pauses:
                pauses.enter_context(meter.paused())
            trainer_state = json.dumps(asdict(self.state) | {"stateful_callbacks": {}})
            self._keeping.folder.write(self.state.global_step, self._state(), {_TRAINER_STATE: trainer_state})

    def _state(self) -> dict[str, Any]:
        model, optimiser, schedule, scaler = self._moving_parts()
        return {
            "weights": trained_weights(model),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random_states(),
            "loss": {"sum": self._tr_loss, "logged_at_step": self._globalstep_last_logged},
            "resumed_at_steps": self.resumed_at_steps,
            "parts": {name: part.state_dict() for name, part in self._keeping.parts.items()},
        }

    def _moving_parts(self) -> tuple[Any, Any, Any, Any]:
        """Network, optimiser, schedule and fp16's scaler, the types of which allow for much that is not used here."""
        return self.model, self.optimizer, self.lr_scheduler, self.accelerator.scaler

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        load_trained_weights(self._moving_parts()[0], self._taken_up["weights"])
        for name, part in self._keeping.parts.items():
            part.load_state_dict(self._taken_up["parts"][name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            _, optimiser, schedule, _ = self._moving_parts()
            optimiser.load_state_dict(self._taken_up["optimiser"])
            schedule.load_state_dict(self._taken_up["schedule"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        *_, scaler = self._moving_parts()
        if checkpoint is not None and scaler is not None:
            scaler.load_state_dict(self._taken_up["scaler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # The last to be loaded, right before the first step: the sum of losses of the epoch so far goes here as well.
        if checkpoint is not None:
            set_random_states(self._taken_up["random"])
            self._tr_loss = self._taken_up["loss"]["sum"].to(self._tr_loss.device)
            self._globalstep_last_logged = self._taken_up["loss"]["logged_at_step"]
            self._taken_up = {}  # it holds as much memory as what is trained


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that ask for gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def load_trained_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts back what `trained_weights` gave of the same network.

    Raises:
        ValueError: of another network.
    """
    own = trained_weights(model)
    if own.keys() != weights.keys():
        raise ValueError(f"weights of another network: {sorted(own.keys() ^ weights.keys())[:3]}")
    for name, parameter in own.items():
        parameter.copy_(weights[name])


def random_states() -> dict[str, Any]:
    """The states of all generators that training draws from."""
    _, numbers, *place = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(numbers, dtype=np.int64)), *place],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Puts the generators back into the states that `random_states` gave."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    numbers, *place = states["numpy"]
    np.random.set_state(("MT19937", numbers.numpy().astype(np.uint32), *place))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
