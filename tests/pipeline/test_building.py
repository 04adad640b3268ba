"""Building with real child processes: what is done stays done, what broke is redone, and nothing is left half-made."""

import csv
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file, save_file

from deploycost.dataset import Dataset
from deploycost.errors import DeploycostError, UserError
from deploycost.experiment import Experiment, TelemetrySpec, make_experiment, write_experiment
from deploycost.pipeline import (
    Material,
    WorkerJob,
    WorkerOutcome,
    begun_at_step,
    build,
    due_stages,
    gather,
    tuning_fingerprint,
    variants_of,
)
from deploycost.records import ExportRecord, ProfileRecord, TuningRecord, read_record
from deploycost.variants import refusals_of
from deploycost.workspace import Run, write_text
from serving.bundle import open_bundle

pytestmark = pytest.mark.slow

TRAINING = {"epochs": 4, "learning_rate": 0.01, "batch_size": 8, "max_tokens": 48, "mixed_precision": False}
BUILD_IN_A_PROCESS = """
import sys
from pathlib import Path
from deploycost.pipeline import build, gather
from deploycost.workspace import Run
run = Run(Path(sys.argv[1]))
with run.locked():
    experiment = run.experiment()
    build(run, experiment, gather(experiment), lambda line: None)
"""


@dataclass(frozen=True)
class Built:
    """A finished run of one method, and what was said while it was made."""

    run: Run
    experiment: Experiment
    material: Material
    said: list[str]

    def due(self, run: Run) -> list[str]:
        mark = tuning_fingerprint(self.experiment, "full", self.material)
        return due_stages(run, self.experiment, "full", mark)


@pytest.fixture(scope="module", autouse=True)
def _small_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def ask(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Experiment]:
    """An experiment on the toy task: `ask(methods="full")`; `training` adds to the usual one."""
    folder = tmp_path_factory.mktemp("toy")
    for name, split in {"train": toy_dataset.train, "test": toy_dataset.test}.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = [
                (text, toy_dataset.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)
            ]
            csv.writer(file).writerows([("text", "label"), *rows])

    def make(training: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        usual = {"model": str(tiny_bases["bert"]), "dataset": {"source": str(folder)}, "methods": "full"}
        return make_experiment(usual | changes | {"training": TRAINING | (training or {})})

    return make


@pytest.fixture(scope="module")
def built(ask: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Built:
    run, experiment, said = Run(tmp_path_factory.mktemp("runs") / "first"), ask(), []
    run.folder.mkdir()
    material = gather(experiment)
    assert build(run, experiment, material, said.append) == []
    return Built(run, experiment, material, said)


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Run:
    """The finished run once more, to be spoilt."""
    return Run(Path(shutil.copytree(built.run.folder, tmp_path / "copy")))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_records_and_bundles_lie_where_they_belong(built: Built) -> None:
    assert built.said == ["full: tuning, onnx-fp32, onnx-int8"]
    assert sorted(_files(built.run.folder)) == [
        "full/adapter/recipe.json",
        "full/adapter/trained_logits.safetensors",
        "full/adapter/weights.safetensors",
        "full/onnx-fp32/bundle/bundle.json",
        "full/onnx-fp32/bundle/model.onnx",
        "full/onnx-fp32/bundle/tokenizer.json",
        "full/onnx-fp32/export.json",
        "full/onnx-int8/bundle/bundle.json",
        "full/onnx-int8/bundle/model.onnx",
        "full/onnx-int8/bundle/tokenizer.json",
        "full/onnx-int8/export.json",
        "full/tuning.json",
    ]
    found = variants_of(built.run)
    assert [variant.name for variant in found] == ["full.onnx-fp32", "full.onnx-int8"]
    for variant in found:
        assert variant.tuning.scores.accuracy > 0.8
        assert variant.export.scores.accuracy > 0.8
        assert variant.tuning.fingerprint == tuning_fingerprint(built.experiment, "full", built.material)
        folder = built.run.artifact_folder("full", variant.export.artifact)
        assert open_bundle(folder / "bundle").digest == variant.export.bundle_digest
    # The tuning ran in a process of its own, whose memory is its own.
    assert found[0].tuning.peak_memory_bytes > found[0].tuning.baseline_memory_bytes > 0


def test_what_is_done_is_kept_and_no_process_is_started(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _files(built.run.folder)
    said: list[str] = []
    monkeypatch.setattr(subprocess, "Popen", None)
    assert build(built.run, built.experiment, gather(built.experiment), said.append) == []
    assert said == ["full: done before, kept"]
    assert _files(built.run.folder) == before


def test_what_is_done_cannot_be_followed_and_that_is_said(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploycost.tuning import trackers

    followed = built.experiment.model_copy(update={"telemetry": TelemetrySpec(report_to="tensorboard")})
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    said: list[str] = []
    build(built.run, followed, built.material, said.append)
    assert said == ["full: done before, kept; nothing to follow in tensorboard"]
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="tracker 'tensorboard' is not installed"):
        build(built.run, followed, built.material, said.append)


def test_only_what_is_missing_or_damaged_is_made_anew(built: Built, copy: Run) -> None:
    before = _files(copy.folder)
    (copy.folder / "full/onnx-fp32/export.json").unlink()
    assert built.due(copy) == ["onnx-fp32"]
    _flip_a_byte(copy.folder / "full/onnx-int8/bundle/model.onnx")
    assert built.due(copy) == ["onnx-fp32", "onnx-int8"]

    said: list[str] = []
    assert build(copy, built.experiment, built.material, said.append) == []

    assert said == ["full: onnx-fp32, onnx-int8"]
    assert built.due(copy) == []
    after = _files(copy.folder)
    assert after.keys() == before.keys()
    kept = [name for name in before if name == "full/tuning.json" or name.startswith("full/adapter/")]
    assert len(kept) == 4
    assert all(after[name] == before[name] for name in kept)
    # The same model gives the same graph, so the damage is undone to the byte.
    assert after["full/onnx-int8/bundle/model.onnx"] == before["full/onnx-int8/bundle/model.onnx"]
    assert open_bundle(copy.folder / "full/onnx-int8/bundle").digest == read_record(
        copy.folder / "full/onnx-int8/export.json", ExportRecord
    ).bundle_digest  # fmt: skip


def test_why_an_artifact_was_refused_is_kept_until_it_passes(built: Built, copy: Run) -> None:
    # The answers that the artifact is held against, turned round: none of its labels agrees.
    logits_path = copy.folder / "full/adapter/trained_logits.safetensors"
    logits = load_file(logits_path)["logits"]
    save_file({"logits": -logits}, logits_path)
    (copy.folder / "full/onnx-int8/export.json").unlink()
    (told,) = build(copy, built.experiment, built.material, lambda _: None)
    assert told.startswith("refused full.onnx-int8: its logits are ")
    (refusal,) = refusals_of(copy)
    assert (refusal.variant, refusal.reason) == ("full.onnx-int8", told)
    assert refusal.parity is not None
    assert refusal.parity.agreement_ratio == 0
    assert refusal.accuracy_drop is None

    save_file({"logits": logits}, logits_path)
    assert build(copy, built.experiment, built.material, lambda _: None) == []
    assert refusals_of(copy) == []
    assert not list(copy.folder.rglob("refused.json"))


def test_damage_to_any_part_is_seen(built: Built, copy: Run) -> None:
    everything = ["tuning", "onnx-fp32", "onnx-int8"]
    assert built.due(copy) == []
    for damage, due in (
        ((copy.folder / "full/onnx-fp32/bundle/tokenizer.json").unlink, ["onnx-fp32"]),
        (lambda: (copy.folder / "full/onnx-int8/export.json").write_text("{"), ["onnx-fp32", "onnx-int8"]),
        (lambda: shutil.rmtree(copy.folder / "full/adapter"), everything),
    ):
        damage()
        assert built.due(copy) == due
    (copy.folder / "full/adapter").mkdir()
    (copy.folder / "full/tuning.json").write_text("{}")
    assert built.due(copy) == everything


@pytest.mark.parametrize(
    "changes",
    [{"training": {"seed": 1}}, {"training": {"epochs": 5}}, {"model": "minilm"}, {"dataset": {"source": "demo"}}],
)
def test_other_conditions_make_everything_due(
    built: Built, ask: Callable[..., Experiment], changes: dict[str, Any]
) -> None:
    other = ask(**changes)
    mark = tuning_fingerprint(other, "full", gather(other))
    assert due_stages(built.run, other, "full", mark) == ["tuning", "onnx-fp32", "onnx-int8"]


def test_what_a_method_does_not_use_makes_nothing_due(built: Built, ask: Callable[..., Experiment]) -> None:
    other = ask(training={"lora": {"rank": 2}, "prompt": {"virtual_tokens": 3}, "bits": 8})
    assert tuning_fingerprint(other, "full", built.material) == tuning_fingerprint(
        built.experiment, "full", built.material
    )
    marks = {tuning_fingerprint(asked, "stacked", built.material) for asked in (built.experiment, other)}
    assert len(marks) == 2


def test_telemetry_is_a_stage_of_its_own_and_training_may_be_all_there_is(
    built: Built, ask: Callable[..., Experiment], copy: Run
) -> None:
    for artifact in ("onnx-fp32", "onnx-int8"):
        shutil.rmtree(copy.folder / "full" / artifact)
    mark = tuning_fingerprint(built.experiment, "full", built.material)
    trained_only, profiled = ask(artifacts=[]), ask(artifacts="none", telemetry={"profile": True})
    assert due_stages(copy, trained_only, "full", mark) == []
    assert due_stages(copy, profiled, "full", mark) == ["profile"]
    assert due_stages(copy, profiled.model_copy(update={"artifacts": ("onnx-int8",)}), "full", mark) == [
        "profile",
        "onnx-int8",
    ]
    before = _files(copy.folder)
    said: list[str] = []
    assert build(copy, profiled, built.material, said.append) == []
    assert said == ["full: profile"]
    after = _files(copy.folder)
    record = read_record(copy.folder / "full/profile/profile.json", ProfileRecord)
    assert set(after) - set(before) == {"full/profile/profile.json", f"full/profile/{record.trace_file}"}
    assert {name: after[name] for name in before} == before
    assert due_stages(copy, profiled, "full", mark) == []
    (copy.folder / "full/profile" / record.trace_file).unlink()
    assert due_stages(copy, profiled, "full", mark) == ["profile"]


def _wait_for(what: Callable[[], Any], deadline_s: float = 60) -> Any:
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def _workers(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "deploycost.worker" in child.cmdline()]


def test_a_run_killed_while_it_tunes_leaves_no_record_and_the_next_build_goes_on(
    built: Built, ask: Callable[..., Experiment], copy: Run
) -> None:
    experiment = ask(methods="full,lora")
    before = _files(copy.folder)
    write_text(copy.experiment_path, write_experiment(experiment))
    parent = subprocess.Popen([sys.executable, "-c", BUILD_IN_A_PROCESS, str(copy.folder)])
    try:
        _wait_for(lambda: list(copy.folder.glob("lora-r8/.unfinished-*")))
        (worker,) = _workers(psutil.Process(parent.pid))
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs([worker], timeout=5)
    assert (len(gone), alive) == (1, []), "a worker ends with its parent"
    assert not (copy.folder / "lora-r8/tuning.json").exists()
    assert not (copy.folder / "lora-r8/adapter").exists()

    said: list[str] = []
    with copy.locked():
        assert list(copy.folder.rglob(".unfinished-*")) == []
        build(copy, experiment, built.material, said.append)
    assert said[:2] == ["full: done before, kept", "lora-r8: tuning, onnx-fp32, onnx-int8"]
    assert read_record(copy.folder / "lora-r8/tuning.json", TuningRecord).method == "lora"
    after = _files(copy.folder)
    assert {name: after[name] for name in before} == before


def test_a_worker_killed_alone_is_one_line(
    ask: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = ask()
    real = subprocess.Popen

    def killed_at_once(*arguments: Any, **options: Any) -> Any:
        child = real(*arguments, **options)
        child.kill()
        return child

    monkeypatch.setattr(subprocess, "Popen", killed_at_once)
    with pytest.raises(DeploycostError, match=r"'full' ended without .*-9\): killed for memory\?") as end:
        build(Run(tmp_path), experiment, gather(experiment), lambda _: None)
    assert "\n" not in str(end.value)
    assert _files(tmp_path) == {}


def test_a_worker_killed_in_mid_training_is_gone_on_from(
    built: Built, ask: Callable[..., Experiment], tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    experiment = ask(artifacts=[], training={"epochs": 8})
    write_text(run.experiment_path, write_experiment(experiment))
    parent = subprocess.Popen(
        [sys.executable, "-c", BUILD_IN_A_PROCESS, str(run.folder)], stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(lambda: list(run.checkpoints_folder("full").glob("step-*")))
        (worker,) = _workers(psutil.Process(parent.pid))
        worker.kill()
        _, told = parent.communicate(timeout=60)
    finally:
        parent.kill()
        parent.wait()
    assert "'full' ended without an answer (exit status -9)" in told
    assert not (run.folder / "full/tuning.json").exists()
    step = begun_at_step(run, "full")
    assert step is not None

    said: list[str] = []
    with run.locked():
        build(run, experiment, built.material, said.append)
    assert said == [f"full: tuning; found a checkpoint of step {step}"]
    record = read_record(run.folder / "full/tuning.json", TuningRecord)
    assert record.resumed_at_steps == (step,)
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not run.checkpoints_folder("full").exists()


def test_a_checkpoint_of_another_experiment_is_one_line_and_stays(
    built: Built, ask: Callable[..., Experiment], tmp_path: Path
) -> None:
    from deploycost.tuning.checkpoints import CheckpointFolder

    run = Run(tmp_path / "run")
    CheckpointFolder(run.checkpoints_folder("full"), "of another").write(3, {}, {})
    before = _files(tmp_path)
    with pytest.raises(UserError, match=r"full/checkpoints holds a checkpoint \(step 3\) of another exp") as refusal:
        build(run, ask(), built.material, lambda _: None)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2
    assert _files(tmp_path) == before


def test_a_request_that_does_not_fit_the_base_comes_back_as_one_line(
    ask: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = ask(methods="prompt", training={"prompt": {"virtual_tokens": 100}})
    with pytest.raises(UserError, match=r"100 virtual tokens leave no room .*give at most 56") as refusal:
        build(Run(tmp_path), experiment, gather(experiment), lambda _: None)
    assert type(refusal.value) is UserError
    assert "\n" not in str(refusal.value)
    assert _files(tmp_path) == {}


def test_a_folder_without_weights_is_refused_before_anything_starts(
    ask: Callable[..., Experiment], tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(tiny_bases["bert"] / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"its folder holds no \*\.safetensors"):
        gather(ask(model=str(tmp_path)))


def test_a_method_that_diverges_is_a_refusal_and_no_error(
    built: Built, ask: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = ask(training={"learning_rate": 1e30, "epochs": 1})
    said: list[str] = []
    (refused,) = build(Run(tmp_path), experiment, built.material, said.append)
    assert refused.startswith("full: training diverged")
    assert said[-1] == refused
    assert _files(tmp_path) == {}


def test_too_little_space_is_refused_before_anything_starts(
    built: Built, ask: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(UserError, match=r"not enough disk space in .*: 1 B free, about 800 MiB needed"):
        build(Run(tmp_path), ask(), built.material, lambda _: None)


def _worker_answer(job: WorkerJob, file_limit_bytes: int | None = None) -> WorkerOutcome:
    """What the worker says on standard output, which must be one JSON document and nothing else."""

    def limit() -> None:
        if file_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "deploycost.worker"],
        input=job.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return WorkerOutcome.model_validate_json(done.stdout)


def test_a_file_that_cannot_be_written_whole_is_one_line(built: Built, tmp_path: Path) -> None:
    """A file-size limit stands for a disk that fills up: the weights take about 120 kB."""
    mark = tuning_fingerprint(built.experiment, "full", built.material)
    job = WorkerJob(run_folder=tmp_path, experiment=built.experiment, method="full", tuning_fingerprint=mark)
    outcome = _worker_answer(job, file_limit_bytes=20_000)
    assert outcome.exit_code == UserError.exit_code
    assert outcome.error is not None
    assert "File too large" in outcome.error
    assert "\n" not in outcome.error
    assert _files(tmp_path) == {}
