"""A training that was killed goes on from its last checkpoint and ends as one that was not."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # noqa: TID253 - tests what is made of the framework
from safetensors.torch import load_file, save_file

from deploycost.dataset import Dataset
from deploycost.errors import UserError
from deploycost.experiment import METHOD_NAMES, Experiment, TrainingSpec
from deploycost.models.base import find_base
from deploycost.records import TuningRecord
from deploycost.tuning import trainer, training
from deploycost.tuning.checkpoints import CheckpointFolder
from deploycost.tuning.trainer import Keeping, random_states, set_random_states
from deploycost.tuning.training import TuningJob, tune
from tests.tuning.killed_tuning import tune_until_killed

# 40 rows in batches of 8: five steps an epoch, three epochs.
STEPS_PER_EPOCH, EPOCHS = 5, 3
STEPS = STEPS_PER_EPOCH * EPOCHS


@pytest.fixture
def job(tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path) -> Callable[..., TuningJob]:
    few = replace(toy_dataset, train=toy_dataset.train.take(range(40)))

    def make(method: Any = "full", place: str | None = None, mark: str = "mark", **training_spec: Any) -> TuningJob:
        usual = {
            "epochs": EPOCHS, "batch_size": 8, "learning_rate": 5e-3, "max_tokens": 32, "mixed_precision": False,
            "prompt": {"virtual_tokens": 4}, "lora": {"rank": 4},
        }  # fmt: skip
        spec = TrainingSpec.model_validate(usual | training_spec)
        base = find_base(str(tiny_bases["bert"]))
        experiment = Experiment(model=base.name, methods=(method,), training=spec)
        return TuningJob(experiment, method, base, few, mark, checkpoints=None if place is None else tmp_path / place)

    return make


@pytest.fixture
def at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Keeping", partial(Keeping, interval_s=0.0))
    monkeypatch.setattr(trainer, "_MOST_TIME_RATIO", float("inf"))


def _tune(job: TuningJob, folder: Path) -> TuningRecord:
    folder.mkdir(parents=True, exist_ok=True)
    return tune(job, folder, lambda *_: None)


def _weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def _assert_same(resumed: TuningRecord, whole: TuningRecord) -> None:
    timings = {
        "training_s", "samples_per_s", "tokens_per_s", "step_ms_p50", "step_ms_p95", "finished_at", "epochs",
        "resumed_at_steps", "baseline_memory_bytes", "peak_memory_bytes", "baseline_pss_bytes", "peak_pss_bytes",
        "machine",
    }  # fmt: skip
    assert resumed.model_dump(exclude=timings) == whole.model_dump(exclude=timings)
    untimed = [[epoch.model_dump(exclude={"duration_s"}) for epoch in record.epochs] for record in (resumed, whole)]
    assert untimed[0] == untimed[1]
    assert resumed.training_s == pytest.approx(sum(epoch.duration_s for epoch in resumed.epochs))


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_killed_at_any_step_it_ends_as_if_it_had_not_been(
    job: Callable[..., TuningJob], tmp_path: Path, at_every_step: None, method: str
) -> None:
    whole = _tune(job(method), tmp_path / "whole")
    step = random.Random(method).randrange(2, STEPS + 1)
    tune_until_killed(job(method, "kept"), tmp_path / "killed", step, STEPS, at_every_step=True)
    resumed = _tune(job(method, "kept"), tmp_path / "resumed")
    assert resumed.resumed_at_steps == (step - 1,)
    assert whole.resumed_at_steps == ()
    assert resumed.final_loss == whole.final_loss
    _assert_same(resumed, whole)
    assert _weights(tmp_path / "resumed") == _weights(tmp_path / "whole")


def test_killed_twice_it_still_does(job: Callable[..., TuningJob], tmp_path: Path, at_every_step: None) -> None:
    whole = _tune(job(), tmp_path / "whole")
    tune_until_killed(job(place="kept"), tmp_path / "killed", 4, STEPS, at_every_step=True)
    tune_until_killed(job(place="kept"), tmp_path / "killed", 13, STEPS, at_every_step=True)
    resumed = _tune(job(place="kept"), tmp_path / "resumed")
    assert resumed.resumed_at_steps == (3, 12)
    _assert_same(resumed, whole)
    assert _weights(tmp_path / "resumed") == _weights(tmp_path / "whole")


def test_the_end_of_an_epoch_is_always_kept_and_nothing_but_the_newest(
    job: Callable[..., TuningJob], tmp_path: Path
) -> None:
    whole = _tune(job("stacked"), tmp_path / "whole")
    tune_until_killed(job("stacked", "kept"), tmp_path / "killed", STEPS_PER_EPOCH, STEPS, at_every_step=False)
    assert not (tmp_path / "kept").exists(), "the first epoch was not judged yet"
    later = 2 * STEPS_PER_EPOCH + 3
    tune_until_killed(job("stacked", "kept"), tmp_path / "killed", later, STEPS, at_every_step=False)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"step-{2 * STEPS_PER_EPOCH}"]
    resumed = _tune(job("stacked", "kept"), tmp_path / "resumed")
    assert resumed.resumed_at_steps == (2 * STEPS_PER_EPOCH,)
    _assert_same(resumed, whole)
    # Trained to its end but judged on the whole split in vain: nothing is trained again.
    again = _tune(job("stacked", "kept"), tmp_path / "again")
    assert again.resumed_at_steps == (2 * STEPS_PER_EPOCH, STEPS)
    _assert_same(again, whole)
    assert _weights(tmp_path / "again") == _weights(tmp_path / "whole")


def test_only_what_is_trained_is_kept(job: Callable[..., TuningJob], tmp_path: Path) -> None:
    record = _tune(job("qlora", "kept"), tmp_path / "adapter")
    (folder,) = (tmp_path / "kept").iterdir()
    tensors = load_file(folder / "tensors.safetensors")
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("/weights/")}
    assert sum(tensor.numel() for tensor in weights.values()) == record.trainable_parameters
    moments = [tensor.numel() for name, tensor in tensors.items() if "exp_avg" in name]
    assert sum(moments) == 2 * record.trainable_parameters
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_a_checkpoint_of_another_experiment_is_one_line_and_stays(
    job: Callable[..., TuningJob], tmp_path: Path
) -> None:
    _tune(job(place="kept"), tmp_path / "first")
    before = _weights(next((tmp_path / "kept").iterdir()))
    with pytest.raises(UserError, match=r"kept holds a checkpoint \(step 15\) of another experiment") as refusal:
        _tune(job(place="kept", mark="other", seed=7), tmp_path / "second")
    said = str(refusal.value)
    assert "\n" not in said
    assert "delete the folder to start anew" in said
    assert "--run NAME" in said
    assert refusal.value.exit_code == 2
    assert _weights(next((tmp_path / "kept").iterdir())) == before


@pytest.mark.parametrize("harm", ["cut", "no state", "no tensors", "not JSON", "another format"])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path: Path, harm: str) -> None:
    folder = CheckpointFolder(tmp_path / "kept", "mark")
    assert folder.newest() is None
    folder.write(3, {"weights": {"a": torch.ones(2)}}, {})
    shutil.copytree(tmp_path / "kept/step-3", tmp_path / "older")
    folder.write(7, {"weights": {"a": torch.zeros(2)}}, {})
    (tmp_path / "older").rename(tmp_path / "kept/step-3")
    newest = folder.newest()
    assert newest is not None
    assert newest.step == 7
    spoilt = tmp_path / "kept/step-7"
    state, tensors = spoilt / "checkpoint.json", spoilt / "tensors.safetensors"
    match harm:
        case "cut":
            tensors.write_bytes(tensors.read_bytes()[:-3])
        case "no state":
            state.unlink()
        case "no tensors":
            save_file({"other": torch.ones(1)}, tensors)
        case "not JSON":
            state.write_text("{")
        case "another format":
            state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
    newest = folder.newest()
    assert newest is not None
    assert newest.step == 3
    assert newest.state["weights"]["a"].tolist() == [1, 1]
    shutil.rmtree(tmp_path / "kept/step-3")
    assert folder.newest() is None


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept", "mark")
    state = {
        "optimiser": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "param_groups": [{"lr": 0.1}]},
        "scaler": None,
        "loss": float("inf"),
        "pattern": {"a.b/c": [True, False]},
    }  # fmt: skip
    folder.write(1, state, {"beside.json": "{}"})
    kept = folder.newest()
    assert kept is not None
    assert kept.state["optimiser"]["state"][0]["step"].item() == 3
    kept.state["optimiser"]["state"][0]["step"] = state["optimiser"]["state"][0]["step"]
    assert kept.state == state
    assert (kept.folder / "beside.json").read_text() == "{}"
    folder.clear()
    assert not (tmp_path / "kept").exists()


def test_every_generator_goes_on_from_where_it_was(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept", "mark")

    def draw() -> list[float]:
        return [random.random(), random.gauss(), np.random.rand(), np.random.randn(), torch.rand(()).item()]

    draw()
    folder.write(1, random_states(), {})
    drawn = draw()
    assert draw() != drawn
    kept = folder.newest()
    assert kept is not None
    set_random_states(kept.state)
    assert draw() == drawn


def test_a_checkpoint_of_other_arithmetic_is_one_line(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path / "kept", "mark", "cuda in bf16").write(3, {}, {})
    same = CheckpointFolder(tmp_path / "kept", "mark", "cuda in bf16").newest()
    assert same is not None
    with pytest.raises(UserError, match=r"step 3\) of a training on cuda in bf16, .* on cpu in fp32") as refusal:
        CheckpointFolder(tmp_path / "kept", "mark", "cpu in fp32").newest()
    assert "\n" not in str(refusal.value)
    assert "delete the folder" in str(refusal.value)


def test_what_is_kept_is_on_the_disk_before_what_was_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path / "kept", "mark")
    folder.write(3, {"a": torch.ones(2)}, {})
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: synced.append(f"removed {Path(path).name}"))
    folder.write(7, {"a": torch.ones(2)}, {})
    assert "tensors.safetensors" in synced
    assert synced[-3:] == ["step-7", "kept", "removed step-3"]
