"""The order of stages: which are done already, which are due, and who does them.

Training and exporting run in a child process per method (`deploycost.worker`): the frameworks are never loaded here,
each method's peak memory is its own, and a method that is killed for memory takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import pstdev
from typing import TYPE_CHECKING, Any

from deploycost.base_model import LocatedModel, locate_model
from deploycost.dataset import Dataset, load_dataset
from deploycost.environment import MachineFacts, machine_facts, usable_cores
from deploycost.errors import DeploycostError, NoAnswer, UserError
from deploycost.experiment import ArtifactName, Experiment, Frozen, MethodName, TrackerName, TrainingSpec
from deploycost.methods import METHODS, decisive_fields
from deploycost.records import (
    BroughtRecord,
    ExportRecord,
    LoadRecord,
    ModelRecord,
    ProfileRecord,
    RecordType,
    TuningRecord,
    Variant,
    read_record,
    write_record,
)
from deploycost.units import MIB
from deploycost.workspace import Run, fingerprint, require_space, write_text
from serving.bundle import BundleError, open_bundle

if TYPE_CHECKING:
    from deploycost.benchmarking.loadtest import LoadSubject

# Of the rules by which stages work: raised when a change of ours makes their earlier results stale.
_TUNING_RULES, _EXPORT_RULES, _LOAD_RULES = 4, 1, 1
# Enough texts for their lengths to be like the task's; the load test repeats them in a seeded order.
LOAD_TEXTS = 500
# How far a number over HTTP may be from that expected, over the spread of those: in int8 it depends a little on what
# else is in the batch.
_NUMBER_TOLERANCE_RATIO = 0.1
# A checkpoint and its successor, then the adapter, two bundles and their unfinished copies; a full fine-tune of a large
# encoder needs more.
_SPACE_PER_METHOD_BYTES = 800 * MIB
# For glibc's allocator: memory once got is kept. Steps would else give it back and have it zeroed anew each time, for a
# tenth of their duration and the same peak (docs/results/training-speed.md). Other C libraries pay no heed.
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1024 * MIB), "MALLOC_TRIM_THRESHOLD_": str(2048 * MIB - 1)}

Say = Callable[[str], None]


class WorkerJob(Frozen):
    """What the child process of one method is told, on its standard input."""

    run_folder: Path
    experiment: Experiment
    method: MethodName
    tuning_fingerprint: str


class WorkerOutcome(Frozen):
    """What the child process of one method answers, on its standard output."""

    error: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Material:
    """What every method of a run is made of."""

    dataset: Dataset
    base: LocatedModel


@dataclass(frozen=True)
class LoadBench:
    """What every load test of a run shares: the texts to send, and the machine."""

    texts: tuple[str, ...]
    machine: MachineFacts


def load_bench(dataset: Dataset[Any], seed: int, instance_type: str | None = None) -> LoadBench:
    """The bench for a data set: a seeded sample of its test texts, of the task's own length distribution."""
    texts = dataset.test.texts
    sample = Random(seed).sample(texts, min(LOAD_TEXTS, len(texts)))
    return LoadBench(tuple(sample), machine_facts(instance_type))


def gather(experiment: Experiment) -> Material:
    """Finds the data set and the base model.

    Raises:
        UserError: either cannot be had, or the data set is not one to train on.
    """
    return Material(
        dataset=load_dataset(experiment.dataset, experiment.training.seed), base=locate_model(experiment.model)
    )


def build(run: Run, experiment: Experiment, material: Material, say: Say) -> list[str]:
    """Tunes, merges, exports and verifies what is not done yet of each method of the experiment.

    Returns:
        One line for each artifact that was refused.

    Raises:
        UserError: the tracker asked for is not installed, or a method cannot be built; those before it are kept.
    """
    from deploycost.tuning.trackers import require_tracker

    tracker = experiment.telemetry.report_to
    require_tracker(tracker)
    refused = []
    for method in experiment.methods:
        tuning_mark = tuning_fingerprint(experiment, method, material)
        due = due_stages(run, experiment, method, tuning_mark)
        slug = experiment.method_slug(method)
        if not due:
            say(f"{slug}: done before, kept" + _unfollowed(tracker))
            continue
        require_space(run.folder, _SPACE_PER_METHOD_BYTES)
        begun = begun_at_step(run, slug) if "tuning" in due else None
        if "tuning" not in due and tracker != "none":
            say(f"{slug}: trained before, kept" + _unfollowed(tracker))
        say(f"{slug}: {', '.join(due)}" + (f"; found a checkpoint of step {begun}" if begun else ""))
        job = WorkerJob(run_folder=run.folder, experiment=experiment, method=method, tuning_fingerprint=tuning_mark)
        try:
            run_worker(job, method, memory_advice(method, experiment.training))
        except NoAnswer as answer:
            say(str(answer))
            refused.append(str(answer))
    return refused


def _unfollowed(tracker: TrackerName) -> str:
    return "" if tracker == "none" else f"; nothing to follow in {tracker}"


def tuning_fingerprint(experiment: Experiment, method: MethodName, material: Material) -> str:
    """A digest of all that decides what training by `method` comes to."""
    training = decisive_fields(METHODS[method], experiment.training)
    return fingerprint(_TUNING_RULES, material.base.digest, material.dataset.fingerprint, method, training)


def export_fingerprint(tuning: ModelRecord, artifact: ArtifactName) -> str:
    """A digest of all that decides what exporting a tuned or brought model comes to."""
    return fingerprint(_EXPORT_RULES, tuning.fingerprint, tuning.finished_at, artifact)


def due_stages(run: Run, experiment: Experiment, method: MethodName, tuning_mark: str) -> list[str]:
    """What is not done yet of one method: `tuning`, `profile` where asked for, and the artifacts to be exported."""
    slug = experiment.method_slug(method)
    asked = experiment.telemetry.profile
    profile = ["profile"] if asked and not profile_is_done(run, slug, tuning_mark) else []
    tuning = finished(run.method_folder(slug) / "tuning.json", TuningRecord, tuning_mark)
    if tuning is None or not (run.method_folder(slug) / "adapter").is_dir():
        return ["tuning", *profile, *experiment.artifacts]
    return [*profile, *(name for name in experiment.artifacts if not export_is_done(run, tuning, name))]


def begun_at_step(run: Run, slug: str) -> int | None:
    """The step that an interrupted training of a method kept its last checkpoint at, or None."""
    names = [path.name.removeprefix("step-") for path in run.checkpoints_folder(slug).glob("step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def profile_is_done(run: Run, slug: str, tuning_mark: str) -> bool:
    """Whether the method's training steps were profiled under the same inputs."""
    folder = run.method_folder(slug) / "profile"
    record = finished(folder / "profile.json", ProfileRecord, tuning_mark)
    return record is not None and (folder / record.trace_file).is_file()


def export_is_done(run: Run, tuning: ModelRecord, artifact: ArtifactName) -> bool:
    """Whether the artifact was exported from this very tuning and its bundle is as it was sealed."""
    folder = run.artifact_folder(tuning.slug, artifact)
    record = finished(folder / "export.json", ExportRecord, export_fingerprint(tuning, artifact))
    if record is None:
        return False
    try:
        return open_bundle(folder / "bundle").digest == record.bundle_digest
    except BundleError:
        return False


def finished(path: Path, kind: type[RecordType], mark: str) -> RecordType | None:
    """The record of a stage that finished with the same inputs, or None."""
    if not path.exists():
        return None
    try:
        record = read_record(path, kind)
    except UserError:
        return None  # damaged or of another format: as good as not done
    return record if getattr(record, "fingerprint", None) == mark else None


def variants_of(run: Run) -> list[Variant]:
    """All finished variants of a run, each with its load record if it has one.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in run.record_paths("export.json"):
        tuning = _model_record(path.parents[1])
        if tuning is None:
            continue  # being made anew
        export = read_record(path, ExportRecord)
        load = read_record(path.with_name("load.json"), LoadRecord) if path.with_name("load.json").exists() else None
        if load is not None and load.bundle_digest != export.bundle_digest:
            load = None  # of an earlier bundle
        found.append(Variant(tuning=tuning, export=export, load=load))
    return found


def _model_record(folder: Path) -> ModelRecord | None:
    if (folder / "tuning.json").exists():
        return read_record(folder / "tuning.json", TuningRecord)
    return read_record(folder / "brought.json", BroughtRecord) if (folder / "brought.json").exists() else None


def load_test(
    run: Run, experiment: Experiment, chosen: Sequence[Variant], bench: LoadBench, say: Say, *, again: bool = False
) -> list[LoadRecord]:
    """Load-tests variants one after another and keeps each record as soon as it is made.

    One that was tested before on the same question is kept, unless `again`.

    Raises:
        UserError: a bundle is damaged.
        LoadTestFailed: the endpoint or the client failed; earlier records stay as they were.
    """
    from deploycost.benchmarking.loadtest import measure

    records = []
    for number, variant in enumerate(chosen, 1):
        path = run.artifact_folder(variant.tuning.slug, variant.export.artifact) / "load.json"
        mark = fingerprint(
            _LOAD_RULES,
            variant.export.bundle_digest,
            experiment.load.model_dump(mode="json"),
            bench.machine.instance_type,
        )
        record = None if again else finished(path, LoadRecord, mark)
        if record is None:
            say(f"{variant.name}: load test {number} of {len(chosen)}")
            subject = _subject(path.with_name("bundle"), variant, bench.texts, mark)
            seed = experiment.training.seed
            record = measure(subject, experiment.load, bench.machine, seed, say)
            write_text(path, write_record(record))
        else:
            say(f"{variant.name}: load-tested before, kept")
        records.append(record)
    return records


def _subject(bundle_folder: Path, variant: Variant, texts: tuple[str, ...], mark: str) -> LoadSubject:
    from deploycost.benchmarking.loadtest import LoadSubject
    from serving.classifier import Classifier
    from serving.predictions import NumberPrediction, told

    try:
        bundle = open_bundle(bundle_folder)
        classifier = Classifier(bundle, threads=len(usable_cores()))
    except BundleError as error:
        raise UserError(str(error)) from None
    # One by one, as a lone client is answered: int8 activations are scaled by what else is in a batch.
    answers = classifier.predict(texts, batch_size=1)
    numbers = [answer.value for answer in answers if isinstance(answer, NumberPrediction)]
    return LoadSubject(
        variant=variant.name,
        bundle_folder=bundle_folder,
        bundle_digest=bundle.digest,
        texts=texts,
        expected_labels=tuple(map(told, answers)),
        mean_tokens=sum(answer.tokens for answer in answers) / len(answers),
        fingerprint=mark,
        tolerance=_NUMBER_TOLERANCE_RATIO * pstdev(numbers) if numbers else None,
    )


def memory_advice(method: MethodName, training: TrainingSpec) -> str:
    """The flags under which training by a method takes less memory, as the end of a sentence that says `give`."""
    size = training.batch_size or METHODS[method].batch_size
    ways = [f"--batch-size {size // 2}"] if size > 1 else []
    ways += [] if training.gradient_checkpointing else ["--gradient-checkpointing"]
    if METHODS[method].bits(training.bits) != 4:
        ways += ["--bits 4" if METHODS[method].quantisable else "--method qlora --bits 4"]
    return ", or ".join([*ways, "a smaller --max-tokens"])


def worker_environment() -> dict[str, str]:
    """The environment of the process that trains: ours, and how its heap is kept where the user has not said."""
    return {**_HEAP, **os.environ}


def run_worker(job: Frozen, name: str, memory_advice: str) -> None:
    """Has the child process do a job: that of `name`, which takes less memory by what `memory_advice` says.

    Raises:
        UserError: it cannot be done.
        NoAnswer: an artifact was refused.
        DeploycostError: the child died.
    """
    # Its stderr is ours: progress bars go straight to the user's terminal.
    child = subprocess.Popen(
        [sys.executable, "-m", "deploycost.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=worker_environment(),
    )
    try:
        answer, _ = child.communicate(job.model_dump_json())
    except BaseException:
        child.terminate()
        child.wait()
        raise
    _raise_outcome(name, memory_advice, answer, child.returncode)


def _raise_outcome(name: str, memory_advice: str, answer: str, return_code: int) -> None:
    try:
        outcome = WorkerOutcome(**json.loads(answer))
    except (ValueError, TypeError):
        hint = f"killed for memory? give {memory_advice}" if return_code == -9 else "see the lines above"
        raise DeploycostError(
            f"building {name!r} ended without an answer (exit status {return_code}): {hint}; "
            "finished stages are kept, the same command goes on from them"
        ) from None
    if outcome.error is not None:
        raise (NoAnswer if outcome.exit_code == NoAnswer.exit_code else UserError)(outcome.error)
