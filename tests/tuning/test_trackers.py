"""Trackers, with a real `Trainer` on ten weights: what they hold afterwards is read back from their files."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
import os
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from deploycost.errors import UserError
from deploycost.records import EpochScores, Scores
from deploycost.tuning import trackers
from deploycost.tuning.trackers import Tracking, log_epoch, require_tracker, tracked

SCORES = Scores(accuracy=0.75, macro_f1=0.7, precision=0.8, recall=0.6, rows=4)
LOGGED = {
    "eval/accuracy": 0.75,
    "eval/macro_f1": 0.7,
    "eval/precision": 0.8,
    "eval/recall": 0.6,
    "train/epoch_s": 2.0,
    "train/tokens_per_s": 500.0,
}
ROWS, BATCH, EPOCHS = 32, 8, 2
STEPS = EPOCHS * ROWS // BATCH


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.layer(values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class _AfterEpoch(TrainerCallback):
    trainer: Trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        log_epoch(self.trainer, EpochScores(epoch=1, train_loss=None, scores=SCORES, duration_s=2.0), 500.0)


def _train(tracking: Tracking, scratch: Path) -> Trainer:
    rows: Any = [{"values": torch.ones(4), "labels": number % 2} for number in range(ROWS)]
    with tracked(tracking, STEPS) as logging:
        after_epoch = _AfterEpoch()
        trainer = Trainer(
            model=_Network(),
            args=TrainingArguments(
                output_dir=str(scratch), per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, use_cpu=True,
                save_strategy="no", disable_tqdm=True, **logging,
            ),
            train_dataset=rows,
            callbacks=[after_epoch],
        )  # fmt: skip
        after_epoch.trainer = trainer
        trainer.train()
    return trainer


def test_tensorboard_holds_the_scores_of_each_epoch(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = dict(os.environ)
    folder = tmp_path / "runs" / "lora-r8" / "tracking"
    _train(Tracking("tensorboard", folder, "demo/lora-r8"), tmp_path / "scratch")
    assert dict(os.environ) == before
    held = EventAccumulator(str(folder))
    held.Reload()
    for name, value in LOGGED.items():
        assert [(event.step, event.value) for event in held.Scalars(name)] == [
            (STEPS // 2, pytest.approx(value)), (STEPS, pytest.approx(value)),
        ]  # fmt: skip
    # Few steps, so the loss of each.
    assert [event.step for event in held.Scalars("train/loss")] == list(range(1, STEPS + 1))


def test_wandb_tracks_offline_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    folder = tmp_path / "tracking"
    _train(Tracking("wandb", folder, "demo/lora-r8"), tmp_path / "scratch")
    # The socket of the service that W&B keeps for the whole process is its own affair.
    assert {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} == before
    assert wandb.run is None, "the run is ended"
    (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    history, run = _read_wandb(log)
    assert (run.project, run.display_name) == ("deploycost", "demo/lora-r8")
    judged = [row for row in history if "eval/accuracy" in row]
    assert [row["train/global_step"] for row in judged] == [STEPS // 2, STEPS]
    for row in judged:
        assert {name: row[name] for name in LOGGED} == LOGGED
    assert len([row for row in history if "train/loss" in row]) == STEPS


def _read_wandb(log: Path) -> tuple[list[dict[str, Any]], Any]:
    """The rows that were logged, and the run's own record, once W&B's own process has written the last."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    deadline = monotonic() + 60
    while True:
        history, run, ended = [], None, False
        for data in _log_records(log.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            ended = ended or kind == "exit"
            run = record.run if kind == "run" else run
            if kind == "history":
                items = record.history.item
                history.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        if ended:
            return history, run
        assert monotonic() < deadline, "the run's log has no end"
        sleep(0.1)


def _log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB, each part behind its checksum, length and kind."""
    place, record = 7, b""  # W&B's own mark
    while place + 7 <= len(content):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768  # the rest of the block is padding
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if place > len(content):
            return  # not written to the end yet
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_online_without_a_key_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match=r"tracker 'wandb' would not start.*offline") as refusal:
        _train(Tracking("wandb", tmp_path / "tracking", "demo/full"), tmp_path / "scratch")
    assert "\n" not in str(refusal.value)
    assert wandb.run is None


def test_without_a_tracker_nothing_is_written_and_the_loss_is_told_once_an_epoch(tmp_path: Path) -> None:
    trainer = _train(Tracking("none", tmp_path / "tracking", "demo/full"), tmp_path / "scratch")
    assert not (tmp_path / "tracking").exists()
    # Our own scores are logged before the epoch's loss and do not take its place.
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [STEPS // 2, STEPS]


def test_the_loss_of_long_trainings_is_logged_about_a_hundred_times(tmp_path: Path) -> None:
    with tracked(Tracking("tensorboard", tmp_path, "demo/full"), 20_001) as logging:
        assert (logging["logging_strategy"], logging["logging_steps"]) == ("steps", 201)


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_line(
    tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        return None if name == tracker else find_spec(name)

    monkeypatch.setattr(trackers, "find_spec", without)
    with pytest.raises(UserError) as refusal, tracked(Tracking(tracker, tmp_path / "tracking", "demo/full"), 10):
        pass
    told = str(refusal.value)
    assert told.startswith(f"tracker {tracker!r} is not installed; install it with pip install ")
    assert told.endswith("or none")
    assert f"--report-to {tracker}" not in told
    assert "\n" not in told
    assert not (tmp_path / "tracking").exists()


def test_what_the_user_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with tracked(Tracking("wandb", tmp_path, "demo/full"), 10):
        assert (os.environ["WANDB_PROJECT"], os.environ["WANDB_MODE"]) == ("mine", "offline")
    assert os.environ["WANDB_PROJECT"] == "mine"
    assert "WANDB_MODE" not in os.environ


def test_no_tracker_is_always_there() -> None:
    require_tracker("none")
