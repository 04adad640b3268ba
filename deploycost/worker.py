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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError

from deploycost.dataset import Dataset, load_dataset
from deploycost.errors import DeploycostError, NoAnswer, UserError
from deploycost.experiment import ArtifactName
from deploycost.pipeline import (
    WorkerJob,
    WorkerOutcome,
    export_fingerprint,
    export_is_done,
    finished,
    memory_advice,
    profile_is_done,
)
from deploycost.records import TuningRecord, write_record
from deploycost.workspace import Run, staged_folder, write_text
from serving.errors import BundleError

if TYPE_CHECKING:
    from deploycost.exporting.export import TrainedModel
    from deploycost.tuning.training import TuningJob


def main() -> int:
    """Does the job and answers; returns the process's exit code."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job = WorkerJob.model_validate_json(sys.stdin.read())
    # The frameworks write notes to standard output at times; the answer must stand alone there.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    outcome = WorkerOutcome()
    try:
        _work(job)
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


def _work(job: WorkerJob) -> None:
    _quieten_frameworks()
    run = Run(job.run_folder)
    dataset = load_dataset(job.experiment.dataset, job.experiment.training.seed)
    tuning = _tuned(run, job, dataset)
    if job.experiment.telemetry.profile and not profile_is_done(run, tuning.slug, job.tuning_fingerprint):
        _profile(run, job, dataset)
    due: list[ArtifactName] = [
        name for name in job.experiment.artifacts if not export_is_done(run, tuning, name, job.experiment)
    ]
    if due:
        _export_all(run, job, tuning, dataset, due)


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
    run: Run, job: WorkerJob, tuning: TuningRecord, dataset: Dataset, names: Sequence[ArtifactName]
) -> None:
    from deploycost.exporting.export import open_trained, with_trimmed_vocabulary

    refused = []
    method_folder = run.method_folder(tuning.slug)
    with tempfile.TemporaryDirectory(dir=method_folder, prefix=".unfinished-") as scratch:
        adapter = method_folder / "adapter"
        logits_path = adapter / "trained_logits.safetensors"
        trained = open_trained(tuning, adapter, logits_path, dataset.test, Path(scratch), dataset.train)
        if job.experiment.export.trim_vocabulary:
            trained = with_trimmed_vocabulary(trained)
        for name in names:
            try:
                _export(run, job, trained, name)
            except NoAnswer as answer:
                refused.append(str(answer))
    if refused:
        raise NoAnswer("; ".join(refused))


def _export(run: Run, job: WorkerJob, trained: TrainedModel, name: ArtifactName) -> None:
    from deploycost.exporting.export import export

    folder = run.artifact_folder(trained.tuning.slug, name)
    with staged_folder(folder / "bundle") as staging:
        record = export(
            trained,
            name,
            staging,
            export_fingerprint(trained.tuning, name, job.experiment),
            job.experiment.export,
            max_accuracy_drop=job.experiment.quote.max_accuracy_drop,
            neighbours=sorted(run.method_folder(trained.tuning.slug).glob("*/bundle")),
        )
        (folder / "export.json").unlink(missing_ok=True)
    write_text(folder / "export.json", write_record(record))


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
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
