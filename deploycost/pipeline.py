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
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import pstdev
from typing import TYPE_CHECKING, Any

from deploycost.base_model import LocatedModel, locate_model
from deploycost.dataset import Dataset, load_dataset
from deploycost.environment import MachineFacts, machine_facts, now, usable_cores
from deploycost.errors import DeploycostError, LoadTestFailed, NoAnswer, UserError
from deploycost.experiment import ArtifactName, Experiment, Frozen, MethodName, TrackerName, TrainingSpec
from deploycost.exporting.artifacts import buildable, standing
from deploycost.methods import METHODS, decisive_fields
from deploycost.records import (
    CurvePoint,
    ExportRecord,
    LoadFailure,
    LoadRecord,
    ModelRecord,
    ProfileRecord,
    RecordType,
    ServerSettings,
    SoakRecord,
    TuningRecord,
    Variant,
    read_record,
    write_record,
)
from deploycost.units import MIB
from deploycost.variants import variants_of  # noqa: F401 - callers find it here too
from deploycost.workspace import Run, fingerprint, require_space, write_text
from serving.bundle import BundleError, open_bundle

if TYPE_CHECKING:
    from deploycost.benchmarking.loadtest import Client, LoadSubject

# Of the rules by which stages work: raised when a change of ours makes their earlier results stale.
_TUNING_RULES, _EXPORT_RULES, _LOAD_RULES = 4, 3, 2
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
    """What every load test of a run shares: the texts to send, the machine, and how requests are made and by whom."""

    texts: tuple[str, ...]
    machine: MachineFacts
    client: Client | None = None
    own_texts: bool = False


def load_bench(dataset: Dataset[Any], seed: int, instance_type: str | None = None) -> LoadBench:
    """The bench for a data set: a seeded sample of its test texts, of the task's own length distribution."""
    return LoadBench(sample_texts(dataset.test.texts, seed), machine_facts(instance_type))


def sample_texts(texts: Sequence[str], seed: int) -> tuple[str, ...]:
    """Enough of the texts for a load test, drawn by a seed."""
    return tuple(Random(seed).sample(texts, min(LOAD_TEXTS, len(texts))))


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
        UserError: the tracker or an artifact asked for needs what is not here, or a method cannot be built;
            those before it are kept.
    """
    from deploycost.tuning.trackers import require_tracker

    tracker = experiment.telemetry.report_to
    require_tracker(tracker)
    names, left_out = buildable(experiment.artifacts)
    for line in left_out:
        say(line)
    experiment = experiment.model_copy(update={"artifacts": names})
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


def export_fingerprint(tuning: ModelRecord, artifact: ArtifactName, experiment: Experiment) -> str:
    """A digest of all that decides what exporting a tuned or brought model comes to."""
    choices = experiment.export.model_dump(mode="json") | {
        "accuracy_aware": experiment.export.accuracy_aware and artifact == "openvino-int8"
    }
    return fingerprint(_EXPORT_RULES, tuning.fingerprint, tuning.finished_at, artifact, choices)


def due_stages(run: Run, experiment: Experiment, method: MethodName, tuning_mark: str) -> list[str]:
    """What is not done yet of one method: `tuning`, `profile` where asked for, and the artifacts to be exported."""
    slug = experiment.method_slug(method)
    # What this machine cannot build is refused or left out before (`build`), and never done.
    artifacts: list[ArtifactName] = [name for name in experiment.artifacts if standing(name).ok]
    asked = experiment.telemetry.profile
    profile = ["profile"] if asked and not profile_is_done(run, slug, tuning_mark) else []
    tuning = finished(run.method_folder(slug) / "tuning.json", TuningRecord, tuning_mark)
    if tuning is None or not (run.method_folder(slug) / "adapter").is_dir():
        return ["tuning", *profile, *artifacts]
    return [*profile, *(name for name in artifacts if not export_is_done(run, tuning, name, experiment))]


def begun_at_step(run: Run, slug: str) -> int | None:
    """The step that an interrupted training of a method kept its last checkpoint at, or None."""
    names = [path.name.removeprefix("step-") for path in run.checkpoints_folder(slug).glob("step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def profile_is_done(run: Run, slug: str, tuning_mark: str) -> bool:
    """Whether the method's training steps were profiled under the same inputs."""
    folder = run.method_folder(slug) / "profile"
    record = finished(folder / "profile.json", ProfileRecord, tuning_mark)
    return record is not None and (folder / record.trace_file).is_file()


def export_is_done(run: Run, tuning: ModelRecord, artifact: ArtifactName, experiment: Experiment) -> bool:
    """Whether the artifact was exported from this very tuning, would pass again, and its bundle is as it was sealed."""
    folder = run.artifact_folder(tuning.slug, artifact)
    record = finished(folder / "export.json", ExportRecord, export_fingerprint(tuning, artifact, experiment))
    if record is None:
        return False
    if record.accuracy_drop is not None and record.accuracy_drop.low > experiment.quote.max_accuracy_drop:
        return False  # made when more might be given up
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


def load_test(
    run: Run, experiment: Experiment, chosen: Sequence[Variant], bench: LoadBench, say: Say, *, again: bool = False
) -> list[LoadRecord]:
    """Load-tests variants one after another and keeps each record as soon as it is made.

    One that was tested before on the same question is kept, unless `again`.

    Raises:
        UserError: a bundle is damaged.
        LoadTestFailed: the endpoint or the client failed, of which a `load-failure.json` is kept; earlier records stay
            as they were, and the other variants are tested before it is told.
    """
    from deploycost.benchmarking.loadtest import measure, slo_of

    records: list[LoadRecord] = []
    failures: list[LoadFailure] = []
    for number, variant in enumerate(chosen, 1):
        path = run.artifact_folder(variant.tuning.slug, variant.export.artifact) / "load.json"
        mark = fingerprint(
            _LOAD_RULES,
            variant.export.bundle_digest,
            experiment.load.model_dump(mode="json"),
            bench.machine.instance_type,
            *_workload(bench),
        )
        record = None if again else finished(path, LoadRecord, mark)
        if record is None:
            say(f"{variant.name}: load test {number} of {len(chosen)}")
            subject = _subject(path.with_name("bundle"), variant, bench.texts, mark)
            seed = experiment.training.seed
            points: list[CurvePoint] = []
            try:
                record = measure(
                    subject, experiment.load, bench.machine, seed, say, client=bench.client, keep=points.append
                )
            except LoadTestFailed as error:
                say(f"{variant.name}: {error}")
                failures.append(
                    LoadFailure(
                        fingerprint=mark,
                        variant=variant.name,
                        slo=slo_of(experiment.load),
                        reason=str(error),
                        curve=tuple(points),
                        environment=bench.machine,
                        finished_at=now(),
                    )
                )
                write_text(path.with_name("load-failure.json"), write_record(failures[-1]))
                continue
            write_text(path, write_record(record))
            path.with_name("load-failure.json").unlink(missing_ok=True)
        else:
            say(f"{variant.name}: load-tested before, kept")
        records.append(record)
    if failures:
        raise LoadTestFailed("; ".join(f"{each.variant}: {each.reason}" for each in failures))
    return records


def soak_test(
    run: Run, experiment: Experiment, variant: Variant, bench: LoadBench, held: tuple[float, str, float], say: Say
) -> SoakRecord:
    """Holds a variant at a rate (`held`: requests per second, why that many, seconds) and keeps what came of it.

    The server has the settings that its load test chose, if it chose any.

    Raises:
        UserError: its bundle is damaged.
        LoadTestFailed: the endpoint or the client failed; earlier records stay as they were.
    """
    from deploycost.benchmarking.soak import Soak, soak

    folder = run.artifact_folder(variant.tuning.slug, variant.export.artifact)
    subject = _subject(folder / "bundle", variant, bench.texts, "")
    tested = variant.load.server if variant.load else None
    settings = tested or ServerSettings(threads=experiment.load.server_threads)
    rate_rps, reason, duration_s = held
    record = soak(
        subject,
        experiment.load,
        Soak(rate_rps, reason, duration_s, settings),
        bench.machine,
        experiment.training.seed,
        say,
        client=bench.client,
    )
    write_text(folder / "soak.json", write_record(record))
    return record


def measure_service(name: str, experiment: Experiment, bench: LoadBench, say: Say) -> LoadRecord:
    """Load-tests a service that is running already, which the client of the bench names.

    Raises:
        LoadTestFailed: it could not be reached, died, or never gave a good answer.
    """
    from deploycost.benchmarking.loadtest import LoadSubject, measure

    mark = fingerprint(_LOAD_RULES, name, experiment.load.model_dump(mode="json"), *_workload(bench))
    subject = LoadSubject(name, Path(), "", bench.texts, None, None, mark)
    return measure(subject, experiment.load, bench.machine, experiment.training.seed, say, client=bench.client)


def _workload(bench: LoadBench) -> tuple[object, ...]:
    """What decides a load test beside variant and objective, for its fingerprint; nothing where all is as usual."""
    from deploycost.benchmarking.generator import Traffic

    usual = bench.client is None or bench.client.traffic == Traffic()
    told = () if usual or bench.client is None else (asdict(bench.client.traffic),)
    return (*told, bench.texts) if bench.own_texts else told


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
