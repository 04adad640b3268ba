"""Experiment trackers: training can be followed in them, through transformers' own integrations.

Nothing leaves the machine and nobody is asked to log in unless the user's own environment says so: what stands in it,
such as `WANDB_MODE`, `WANDB_PROJECT` or `MLFLOW_TRACKING_URI`, always wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycost.errors import UserError
from deploycost.experiment import TrackerName
from deploycost.records import EpochScores

if TYPE_CHECKING:
    from transformers import Trainer

PROJECT = "deploycost"
# Points of the loss curve: enough to see its shape, too few to cost time.
_LOSS_POINTS = 100


@dataclass(frozen=True)
class Tracker:
    """What one tracker needs: its package, how to get it, and the environment that its integration reads."""

    package: str
    install: str
    environment: Callable[[Path], dict[str, str]]


TRACKERS: dict[TrackerName, Tracker] = {
    "tensorboard": Tracker(
        "tensorboard",
        "pip install 'deploycost[trackers]'",
        lambda folder: {"TENSORBOARD_LOGGING_DIR": str(folder)},
    ),
    "wandb": Tracker(
        "wandb",
        "pip install 'deploycost[trackers]'",
        lambda folder: {
            "WANDB_DIR": str(folder),
            "WANDB_MODE": "offline",
            "WANDB_PROJECT": PROJECT,
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_ERROR_REPORTING": "false",
            # Its own watch over the machine would run beside our measurements.
            "WANDB_X_DISABLE_STATS": "true",
        },
    ),
    "mlflow": Tracker(
        "mlflow",
        "pip install mlflow",
        lambda folder: {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "MLFLOW_EXPERIMENT_NAME": PROJECT,
        },
    ),
    "trackio": Tracker("trackio", "pip install trackio", lambda folder: {"TRACKIO_DIR": str(folder)}),
}


@dataclass(frozen=True)
class Tracking:
    """Which tracker, the folder of its files (`runs/NAME/METHOD/tracking`), and what the run is called there."""

    tracker: TrackerName
    folder: Path
    run_name: str


def require_tracker(tracker: TrackerName) -> None:
    """Refuses a tracker that is not installed, before anything is trained.

    Raises:
        UserError: with what to install.
    """
    if tracker == "none" or find_spec(TRACKERS[tracker].package) is not None:
        return
    here = [name for name, known in TRACKERS.items() if find_spec(known.package) is not None]
    raise UserError(
        f"tracker {tracker!r} is not installed; install it with {TRACKERS[tracker].install}, "
        f"or give --report-to {' or '.join([*here, 'none'])}"
    )


@contextmanager
def tracked(tracking: Tracking, steps: int) -> Iterator[dict[str, Any]]:
    """Keeps the tracker's environment while the `Trainer` is made and run, and ends its run afterwards.

    Args:
        tracking: Which tracker, and where to.
        steps: Of the whole training; decides how often the loss is logged.

    Returns:
        The arguments of `TrainingArguments` about logging.

    Raises:
        UserError: the tracker is not installed, or would not start.
    """
    require_tracker(tracking.tracker)
    if tracking.tracker == "none":
        yield {"report_to": "none", "logging_strategy": "epoch"}
        return
    folder = tracking.folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
    run = _wandb_run(tracking.run_name) if tracking.tracker == "wandb" else nullcontext()
    with _environment(TRACKERS[tracking.tracker].environment(folder)), run:
        yield {
            "report_to": [tracking.tracker],
            "run_name": tracking.run_name,
            "project": PROJECT,
            "logging_strategy": "steps",
            "logging_steps": -(-steps // _LOSS_POINTS),
        }


def log_epoch(trainer: Trainer, epoch: EpochScores, tokens_per_s: float) -> None:
    """Tells the tracker our own scores of an epoch; to be called when the epoch has ended, within `tracked`.

    They come under `eval` and `train`: `eval/accuracy`, `eval/macro_f1`, `train/tokens_per_s` and so on.
    """
    scores = epoch.scores
    # Logging counts as the log that the Trainer may be about to make, of the epoch's loss.
    due = trainer.control.should_log
    trainer.log(
        {
            "eval_accuracy": scores.accuracy,
            "eval_macro_f1": scores.macro_f1,
            "eval_precision": scores.precision,
            "eval_recall": scores.recall,
            "epoch_s": epoch.duration_s,
            "tokens_per_s": tokens_per_s,
        }
    )
    trainer.control.should_log = due


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _wandb_run(name: str) -> Iterator[None]:
    """Starts W&B's run, which its integration would do only within training, and ends it, which it would not do."""
    import wandb

    # W&B reads its environment once in a process; these may change from one training to the next.
    asked: dict[str, Any] = {key: os.environ[f"WANDB_{key.upper()}"] for key in ("project", "dir", "mode")}
    try:
        run = wandb.init(name=name, **asked)
    except wandb.Error as error:
        raise UserError(
            f"tracker 'wandb' would not start: {str(error).splitlines()[0]}; "
            "log in with 'wandb login', or leave WANDB_MODE unset to track offline"
        ) from None
    finished = False
    try:
        yield
        finished = True
    finally:
        run.finish(exit_code=0 if finished else 1)
