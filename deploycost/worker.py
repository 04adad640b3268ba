"""The child process in which one method is tuned and exported; started by `deploycost.pipeline`, never by hand.

It reads a `WorkerJob` from standard input and answers with one `WorkerOutcome` on standard output.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError

from deploycost.brought_model import find_brought
from deploycost.dataset import Dataset, load_dataset
from deploycost.environment import now
from deploycost.errors import DeploycostError, NoAnswer, UserError
from deploycost.experiment import ArtifactName, Experiment
from deploycost.pipeline import (
    WorkerJob,
    WorkerOutcome,
    export_fingerprint,
    export_is_done,
    finished,
    memory_advice,
    profile_is_done,
)
from deploycost.records import ExportRefusal, ModelRecord, TuningRecord, write_record
from deploycost.sources import LOGITS_FILE, BringJob, record_in
from deploycost.task_dataset import load_texts
from deploycost.workspace import Run, staged_folder, write_text
from serving.errors import BundleError

if TYPE_CHECKING:
    from deploycost.exporting.export import Refused, TrainedModel
    from deploycost.tuning.training import TuningJob


def main() -> int:
    """Does the job and answers; returns the process's exit code."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job: WorkerJob | BringJob = TypeAdapter(WorkerJob | BringJob).validate_json(sys.stdin.read())
    # The frameworks write notes to standard output at times; the answer must stand alone there.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    outcome = WorkerOutcome()
    try:
        _quieten_frameworks()
        _tune_and_export(job) if isinstance(job, WorkerJob) else _bring_and_export(job)
    except DeploycostError as error:
        outcome = WorkerOutcome(error=str(error), exit_code=error.exit_code)
    except OSError as error:
        outcome = WorkerOutcome(error=f"{error.strerror or error}: {error.filename or job.run_folder}", exit_code=2)
    except (BundleError, SafetensorError) as error:  # a file of weights that could not be written whole
        outcome = WorkerOutcome(error=" ".join(str(error).split()), exit_code=2)
    except KeyboardInterrupt:
        return 130
    answer.write(outcome.model_dump_json())
    answer.close()
    return 0


def _end_with(parent: int) -> None:
    # A parent that was killed has lost its hold on the run: what is written after that could meet another writer.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _tune_and_export(job: WorkerJob) -> None:
    run = Run(job.run_folder)
    dataset = load_dataset(job.experiment.dataset, job.experiment.training.seed)
    tuning = _tuned(run, job, dataset)
    if job.experiment.telemetry.profile and not profile_is_done(run, tuning.slug, job.tuning_fingerprint):
        _profile(run, job, dataset)
    from deploycost.exporting.export import open_trained, with_trimmed_vocabulary

    adapter = run.method_folder(tuning.slug) / "adapter"

    def opened(scratch: Path) -> TrainedModel:
        trained = open_trained(tuning, adapter, adapter / LOGITS_FILE, dataset.test, scratch, dataset.train)
        return with_trimmed_vocabulary(trained) if job.experiment.export.trim_vocabulary else trained

    _export_all(run, job.experiment, tuning, opened)


def _bring_and_export(job: BringJob) -> None:
    from safetensors.numpy import load_file, save_file

    from deploycost.exporting.bring import judge, open_brought, trained_model
    from deploycost.exporting.export import with_trimmed_vocabulary

    run = Run(job.run_folder)
    spec = next(each for each in job.experiment.brought if each.name == job.name)
    dataset = load_texts(job.experiment.dataset, job.experiment.training.seed)
    opened = open_brought(find_brought(spec))
    folder = run.method_folder(job.name)
    record = record_in(run, job.name, job.bringing_fingerprint)
    if record is None:
        record, logits = judge(opened, dataset, job.experiment.dataset.task, job.bringing_fingerprint)
        with staged_folder(folder / "answers") as staging:
            save_file({"logits": logits}, staging / LOGITS_FILE)
            (folder / "brought.json").unlink(missing_ok=True)
        write_text(folder / "brought.json", write_record(record))
    logits = load_file(folder / "answers" / LOGITS_FILE)["logits"]

    def ready(scratch: Path) -> TrainedModel:
        trained = trained_model(opened, record, dataset, logits, scratch)
        return with_trimmed_vocabulary(trained) if job.experiment.export.trim_vocabulary else trained

    _export_all(run, job.experiment, record, ready)


def _tuned(run: Run, job: WorkerJob, dataset: Dataset) -> TuningRecord:
    slug = job.experiment.method_slug(job.method)
    folder = run.method_folder(slug)
    kept = finished(folder / "tuning.json", TuningRecord, job.tuning_fingerprint)
    if kept is not None and (folder / "adapter").is_dir():
        return kept
    from deploycost.tuning.training import tune

    with _within_memory(job), staged_folder(folder / "adapter") as staging, _progress(slug) as progress:
        record = tune(_tuning_job(run, job, dataset), staging, progress)
        # From here on the earlier record, if any, no longer tells of the adapter beside it.
        (folder / "tuning.json").unlink(missing_ok=True)
    write_text(folder / "tuning.json", write_record(record))
    shutil.rmtree(run.checkpoints_folder(slug), ignore_errors=True)
    return record


def _tuning_job(run: Run, job: WorkerJob, dataset: Dataset) -> TuningJob:
    from deploycost.models.base import find_base
    from deploycost.tuning.training import TuningJob

    slug = job.experiment.method_slug(job.method)
    return TuningJob(
        job.experiment,
        job.method,
        find_base(job.experiment.model),
        dataset,
        job.tuning_fingerprint,
        checkpoints=run.checkpoints_folder(slug),
        token_cache=run.cache_folder / "tokens",
        tracking=run.method_folder(slug) / "tracking",
    )


def _profile(run: Run, job: WorkerJob, dataset: Dataset) -> None:
    from deploycost.tuning.profiling import profile

    slug = job.experiment.method_slug(job.method)
    with _within_memory(job), staged_folder(run.method_folder(slug) / "profile") as staging:
        record = profile(_tuning_job(run, job, dataset), staging)
        write_text(staging / "profile.json", write_record(record))


def _export_all(
    run: Run, experiment: Experiment, tuning: ModelRecord, open_model: Callable[[Path], TrainedModel]
) -> None:
    due: list[ArtifactName] = [
        name for name in experiment.artifacts if not export_is_done(run, tuning, name, experiment)
    ]
    if not due:
        return
    from deploycost.exporting.export import Refused

    refused = []
    with tempfile.TemporaryDirectory(dir=run.method_folder(tuning.slug), prefix=".unfinished-") as scratch:
        trained = open_model(Path(scratch))
        for name in due:
            try:
                _export(run, experiment, trained, name)
            except Refused as refusal:
                refused.append(str(refusal))
                _keep_refusal(run, experiment, tuning, name, refusal)
    if refused:
        raise NoAnswer("; ".join(refused))


def _export(run: Run, experiment: Experiment, trained: TrainedModel, name: ArtifactName) -> None:
    from deploycost.exporting.export import export

    folder = run.artifact_folder(trained.tuning.slug, name)
    # Not the one that this replaces: what they share would soon be nobody else's.
    others = sorted(set(run.method_folder(trained.tuning.slug).glob("*/bundle")) - {folder / "bundle"})
    with staged_folder(folder / "bundle") as staging:
        record = export(
            trained,
            name,
            staging,
            export_fingerprint(trained.tuning, name, experiment),
            experiment.export,
            max_accuracy_drop=experiment.quote.max_accuracy_drop,
            neighbours=others,
        )
        (folder / "export.json").unlink(missing_ok=True)
    write_text(folder / "export.json", write_record(record))
    (folder / "refused.json").unlink(missing_ok=True)


def _keep_refusal(run: Run, experiment: Experiment, model: ModelRecord, name: ArtifactName, refusal: Refused) -> None:
    """Keeps why an artifact was refused, for the report; a bundle that passed before stays as it was."""
    record = ExportRefusal(
        fingerprint=export_fingerprint(model, name, experiment),
        model_fingerprint=model.fingerprint,
        variant=f"{model.slug}.{name}",
        artifact=name,
        reason=str(refusal),
        parity=refusal.parity,
        accuracy_drop=refusal.accuracy_drop,
        finished_at=now(),
    )
    write_text(run.artifact_folder(model.slug, name) / "refused.json", write_record(record))


@contextmanager
def _within_memory(job: WorkerJob) -> Iterator[None]:
    """A block of training.

    Raises:
        UserError: it ran out of memory, on the GPU or beside it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_for_memory(error):
            raise
        slug = job.experiment.method_slug(job.method)
        advice = memory_advice(job.method, job.experiment.training)
        raise UserError(f"{slug}: training ran out of memory ({_first_line(error)}); give {advice}") from None


def _is_for_memory(error: MemoryError | RuntimeError) -> bool:
    import torch

    # On a CPU torch has no error of its own for it.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _progress(slug: str) -> Iterator[Callable[[int, int, str], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[now]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(slug, total=None, now="loading")
        yield lambda done, steps, happening: bar.update(task, completed=done, total=steps, now=happening)


def _quieten_frameworks() -> None:
    """Keeps the frameworks' notes to developers off the user's terminal; their errors still raise."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # From 1.31 onnxruntime reports its use to its maker unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "3")  # torch's profiler tells when it starts and stops
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
