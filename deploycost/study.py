"""Running a study: every cell on every seed through the ordinary pipeline, each in a run of its own.

The run of a cell is named after all that decides its result, so that studies share cells, a study that was stopped
goes on where it was, and nothing is trained twice. A cell that fails is recorded and the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import psutil

from deploycost import pipeline
from deploycost.environment import machine_facts, now, usable_cores
from deploycost.errors import DeploycostError, UserError
from deploycost.experiment import USUAL_ARTIFACTS, Experiment
from deploycost.pipeline import Material, Say
from deploycost.records import write_record
from deploycost.study_cells import CellRun, build_cell, load_test_cell, measurement_of, time_requests
from deploycost.study_file import FULL_SIZE, CellSpec, StudyFile, found, merged
from deploycost.study_findings import findings
from deploycost.study_record import CellPlan, CellResult, StudyRecord, cell_run_folder
from deploycost.study_scenarios import choices
from deploycost.units import percent, seconds_text
from deploycost.user_path import user_path
from deploycost.workspace import Run, write_text
from pricing.book import load_book
from pricing.errors import PriceError
from pricing.selection import select

# Where a study may be unlike its source's setting, in the reader's words.
_SCALES = {
    "model": "base model",
    "dataset.train_rows": "training rows",
    "dataset.test_rows": "test rows",
    "training.epochs": "epochs",
    "training.batch_size": "batch size",
    "training.learning_rate": "learning rate",
    "training.max_tokens": "longest text, tokens",
    "training.gradient_checkpointing": "gradient checkpointing",
    "training.mixed_precision": "mixed precision",
}
_UNSAID = {"dataset.train_rows": "all", "dataset.test_rows": "all"}
_LEFT_OPEN = "the method's own"


@dataclass(frozen=True)
class StudyRequest:
    """A study as the user wants it run.

    `changes` are an experiment's fields that go over those of every cell, `seeds` those to run (None: the size's).
    `command` repeats the study, for the page.
    """

    study: StudyFile
    size: str
    runs_dir: Path
    command: str
    changes: Mapping[str, Any]
    seeds: tuple[int, ...] | None = None
    jobs: int = 1
    load_test: bool = False

    @property
    def folder(self) -> Path:
        """Where the study's own record, page and figures lie."""
        return self.runs_dir / f"study-{self.study.name}"


def run_study(request: StudyRequest, say: Say) -> StudyRecord:
    """Runs what is not done yet of a study and writes `study.json`.

    Raises:
        UserError: the data set, the model or the request itself is wrong; failures of single cells are recorded.
    """
    cores = len(usable_cores())
    if not 1 <= request.jobs <= cores:
        raise UserError(f"--jobs {request.jobs}: expected 1 to {cores}, the cores that can be shared out")
    cells = _cell_runs(request)
    if request.load_test:
        _check_prices(cells)
    errors = _build(cells, request.jobs, say)
    served = [cell for cell in cells if _is_served(cell, errors)]
    if request.load_test:
        # What a model carries does not hang on its seed: the first is load-tested, alone on the machine.
        for cell in (cell for cell in served if cell.seed == cells[0].seed):
            say(f"{cell.label}: load test")
            if problem := load_test_cell(cell, say):
                errors[cell.digest] = problem
    times, problems = time_requests(served, request.folder / "request_times.json", say)
    errors = problems | errors
    results = tuple(_result(cell, errors.get(cell.digest), times.get(cell.digest, {})) for cell in cells)
    record = _record(request, cells, results)
    write_text(request.folder / "study.json", write_record(record))
    return record


def _cell_runs(request: StudyRequest) -> list[CellRun]:
    """Every cell on every seed; a seed's cells follow one another, so that a slow hour meets all cells alike."""
    study, changes = request.study, _with_artifacts(request) if request.load_test else request.changes
    materials: dict[str, Material] = {}
    cells = []
    seeds = tuple(dict.fromkeys(request.seeds or study.size(request.size).seeds))
    for seed in seeds:
        for cell in study.all_cells():
            profile = cell.name in study.profiled and seed == seeds[0]
            telemetry = {"telemetry": {"profile": profile}}
            experiment = study.experiment_of(cell, request.size, seed, merged(telemetry, changes))
            mark = f"{experiment.model} {experiment.dataset.model_dump_json()} {seed}"
            if mark not in materials:
                materials[mark] = pipeline.gather(experiment)
            cells.append(_cell_run(request.runs_dir, cell, experiment, materials[mark]))
    return cells


def _with_artifacts(request: StudyRequest) -> Mapping[str, Any]:
    """The changes with all artifacts in them where the study asks for none: a load test needs something to test."""
    study = request.study
    asked = study.experiment_of(study.all_cells()[0], request.size, 0, request.changes)
    if asked.artifacts:
        return request.changes
    if "artifacts" in request.changes:
        raise UserError(
            "--loadtest with --artifacts none: expected artifacts to be tested; give onnx-fp32, onnx-int8 or all, or "
            "leave --artifacts out for the usual"
        )
    return merged(request.changes, {"artifacts": list(USUAL_ARTIFACTS)})


def _check_prices(cells: Sequence[CellRun]) -> None:
    """Refuses machines without a known price before anything is trained."""
    for question in {cell.experiment.quote.model_dump_json(): cell.experiment.quote for cell in cells}.values():
        try:
            select(load_book(), ",".join(question.clouds), question.region, question.purchase_option)
        except PriceError as error:
            raise UserError(f"the study's prices: {error}") from None


def _is_served(cell: CellRun, errors: dict[str, str]) -> bool:
    """Whether it has artifacts; a damaged record of one is recorded as the cell's error."""
    try:
        return bool(cell.variants())
    except DeploycostError as error:
        errors.setdefault(cell.digest, str(error))
        return False


def _cell_run(runs_dir: Path, cell: CellSpec, experiment: Experiment, material: Material) -> CellRun:
    digest = pipeline.tuning_fingerprint(experiment, cell.method, material)
    run = Run(cell_run_folder(runs_dir, experiment.method_slug(cell.method), digest))
    return CellRun(cell.name, experiment.training.seed, experiment, material, digest, run)


def _build(cells: Sequence[CellRun], jobs: int, say: Say) -> dict[str, str]:
    """Trains and exports what is due, `jobs` cells at once; returns why cells failed, by digest."""
    due = list({cell.digest: cell for cell in cells if cell.is_due}.values())
    say(f"{len(cells)} cells, {len(due)} of them still to be done")
    errors: dict[str, str] = {}
    began = perf_counter()
    with _builders(jobs) as pool:
        waiting = {pool.submit(build_cell, cell): cell for cell in due}
        for done, future in enumerate(as_completed(waiting), start=1):
            cell, problem = waiting[future], future.result()
            if problem:
                errors[cell.digest] = problem
            left_s = (perf_counter() - began) / done * (len(due) - done)
            left = f"; about {seconds_text(left_s)} left" if done < len(due) else ""
            say(f"[{done}/{len(due)}] {cell.label}: {problem or _told(cell)}{left}")
    return errors


def _told(cell: CellRun) -> str:
    tuning = cell.tuning()
    return f"accuracy {percent(tuning.scores.accuracy)} in {seconds_text(tuning.training_s)}" if tuning else "not done"


@contextmanager
def _builders(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each keep to a share of the cores, as do the child processes that they start.

    Interrupted, the children are ended at once: what they had finished is on disk.
    """
    cores = usable_cores()
    each = len(cores) // jobs
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cores[job * each : (job + 1) * each])
    pool = ThreadPoolExecutor(jobs, initializer=_keep_to_share, initargs=(shares,))
    try:
        with _plain_output(jobs):
            yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in psutil.Process().children():
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _keep_to_share(shares: SimpleQueue[list[int]]) -> None:
    share = shares.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)  # of this thread alone, on Linux; its children inherit it


@contextmanager
def _plain_output(jobs: int) -> Iterator[None]:
    """Keeps the progress bars of several children off one terminal, where they would overwrite one another."""
    before = os.environ.get("TTY_COMPATIBLE")
    if jobs > 1:
        os.environ["TTY_COMPATIBLE"] = "0"
    try:
        yield
    finally:
        if before is not None:
            os.environ["TTY_COMPATIBLE"] = before
        elif jobs > 1:
            del os.environ["TTY_COMPATIBLE"]


def _result(cell: CellRun, problem: str | None, request_ms: dict[str, float]) -> CellResult:
    measured = None
    try:
        measured = measurement_of(cell, request_ms)
    except DeploycostError as error:
        problem = problem or str(error)
    return CellResult(
        name=cell.name,
        method=cell.experiment.methods[0],
        slug=cell.slug,
        experiment_digest=cell.digest,
        seed=cell.seed,
        measured=measured,
        error=_without_folders(problem, cell) if problem else None if measured else "not trained",
    )


def _without_folders(line: str, cell: CellRun) -> str:
    """The line with names in place of the folders that they lie in on this machine: a record may be published."""
    source = Path(cell.experiment.dataset.source)
    folders = {str(cell.run.folder): cell.run.name, cell.experiment.model: _model_name(cell.experiment)}
    if source.exists():
        folders[str(source)] = cell.material.dataset.name
    for folder, name in folders.items():
        line = line.replace(folder, name)
    return line


def _record(request: StudyRequest, cells: Sequence[CellRun], results: tuple[CellResult, ...]) -> StudyRecord:
    study, first = request.study, cells[0]
    dataset = first.material.dataset
    order = {cell.name: place for place, cell in enumerate(study.all_cells())}
    in_order = tuple(sorted(results, key=lambda result: order[result.name]))
    return StudyRecord(
        name=study.name,
        question=study.question,
        size=request.size,
        base_model=_model_name(first.experiment),
        dataset=dataset.name,
        dataset_description=dataset.description,
        dataset_generated=dataset.generated,
        train_rows=len(dataset.train),
        test_rows=len(dataset.test),
        same_train_rows=all(cell.material.dataset.train == dataset.train for cell in cells),
        same_test_rows=all(cell.material.dataset.test == dataset.test for cell in cells),
        epochs=first.experiment.training.epochs,
        seeds=tuple(dict.fromkeys(cell.seed for cell in cells)),
        cores_per_cell=len(usable_cores()) // request.jobs,
        cells=_plans(study),
        results=in_order,
        findings=findings(study, in_order),
        choices=choices(study, in_order),
        scaled_down=_scaled_down(request, cells),
        reference=study.reference,
        source=study.source,
        command=request.command,
        machine=machine_facts(),
        made_at=now(),
    )


def _plans(study: StudyFile) -> tuple[CellPlan, ...]:
    return tuple(
        CellPlan(name=cell.name, method=cell.method, settings=cell.training, literature=cell.literature)
        for cell in study.all_cells()
    )


def _model_name(experiment: Experiment) -> str:
    """The model without the folder that it lies in on this machine."""
    path = user_path(experiment.model)
    return path.name if path.is_dir() else experiment.model


def _scaled_down(request: StudyRequest, cells: Sequence[CellRun]) -> tuple[str, ...]:
    """In what the cells differ from the study's full size, which is its source's setting."""
    study, lines = request.study, []
    for cell in cells:
        of_source = study.experiment_of(study.cell(cell.name), FULL_SIZE, cell.seed, {})
        full, ran = (
            each.model_dump(mode="json") | {"model": _model_name(each)} for each in (of_source, cell.experiment)
        )
        for path, name in _SCALES.items():
            unsaid = _UNSAID.get(path, _LEFT_OPEN)
            asked, had = (unsaid if found(path, each) is None else found(path, each) for each in (full, ran))
            if asked != had:
                lines.append(f"{name}: {_shown(had)} ({study.reference}: {_shown(asked)})")
    return tuple(dict.fromkeys(lines))


def _shown(setting: Any) -> str:  # noqa: ANN401 - JSON
    return ("on" if setting else "off") if isinstance(setting, bool) else str(setting)
