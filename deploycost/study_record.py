"""What a study leaves behind: every cell on every seed, the literature's figures beside them, and what follows.

`runs/study-NAME/study.json`. It names no folder of the machine it was made on, so that it can be shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from deploycost.environment import MachineFacts
from deploycost.experiment import DatasetSpec, MethodName, TrainingSpec
from deploycost.methods import METHODS, decisive_fields
from deploycost.records import FORMAT_VERSION, EpochScores, Figure, ProfileRecord, RankHistory, Record, Scores

Verdict = Literal["agrees", "disagrees", "cannot tell"]
Direction = Literal["higher", "lower", "equal"]
MetricName = Literal[
    "accuracy",
    "macro_f1",
    "precision",
    "recall",
    "accuracy_epoch_1",
    "training_s",
    "samples_per_s",
    "tokens_per_s",
    "steps_per_s",
    "step_ms_p50",
    "step_ms_p95",
    "memory_bytes",
    "nvml_memory_bytes",
    "predicted_memory_bytes",
    "trainable_parameters",
    "trainable_ratio",
    "final_rank",
    "unstable_steps",
    "accuracy_int8",
    "request_ms_fp32",
    "request_ms_int8",
    "capacity_rps",
    "usd_per_million",
]


# What makes a training slower or leaner and is not meant to change what it learns.
_OF_SPEED_ALONE = ("gradient_checkpointing", "mixed_precision", "compile")
_TOLD_APART = ("seed", "epochs", "batch_size", "learning_rate")


class TrainingConditions(Record):
    """What decides, beside base model and texts, what a training by a method learns and how fast.

    `train_rows` None is all rows that there are. `settings` holds all else that the method reads and that changes what
    it learns, under the names of `TrainingSpec`.
    """

    epochs: int
    train_rows: int | None
    batch_size: int
    learning_rate: float
    settings: dict[str, Any]

    def differences(self, asked: TrainingConditions) -> list[str]:
        """In what these conditions are not those asked for, in words: `2 epochs, not 5`."""
        told = []
        if self.epochs != asked.epochs:
            told.append(f"{self.epochs} epochs, not {asked.epochs}")
        if self.train_rows != asked.train_rows:
            told.append(f"{_rows(self.train_rows)} training rows, not {_rows(asked.train_rows)}")
        if self.batch_size != asked.batch_size:
            told.append(f"batches of {self.batch_size}, not {asked.batch_size}")
        if self.learning_rate != asked.learning_rate:
            told.append(f"learning rate {self.learning_rate:g}, not {asked.learning_rate:g}")
        names = dict.fromkeys((*self.settings, *asked.settings))
        other = [name for name in names if self.settings.get(name) != asked.settings.get(name)]
        return [*told, *([f"other {', '.join(other)}"] if other else [])]


def conditions_of(method: MethodName, spec: TrainingSpec, dataset: DatasetSpec) -> TrainingConditions:
    """The conditions that a method trains under: where nothing is asked for, its own defaults."""
    fields = decisive_fields(METHODS[method], spec)
    return TrainingConditions(
        epochs=spec.epochs,
        train_rows=dataset.train_rows,
        batch_size=spec.batch_size or METHODS[method].batch_size,
        learning_rate=METHODS[method].learning_rates(spec.learning_rate).weights,
        settings={name: value for name, value in fields.items() if name not in (*_OF_SPEED_ALONE, *_TOLD_APART)},
    )


def _rows(count: int | None) -> str:
    return "all" if count is None else f"{count:,}"


class ServedArtifact(Record):
    """One artifact of a cell as it is served.

    `request_ms_p50` is the median time of one text at a time on one core, without HTTP. `capacity_rps` is known where
    it was load-tested; `usd_per_million` too (a floor: at saturation, on the cheapest machine asked for that keeps the
    objective and has the memory), `certified` being that load test's verdict.
    """

    artifact: str
    accuracy: float
    request_ms_p50: float | None = None
    capacity_rps: Figure | None = None
    certified: bool | None = None
    usd_per_million: Figure | None = None
    priced_on: str = ""


class CellMeasurement(Record):
    """What training one cell with one seed came to.

    `memory_bytes` is the peak over what the process held before the model was loaded (`memory_source` process), or
    the peak of the framework's allocator on a GPU (`memory_source` gpu); `nvml_memory_bytes` is the driver's count
    there. Trainable parameters include the head's.
    """

    scores: Scores
    training_s: float
    samples_per_s: float
    tokens_per_s: float
    memory_bytes: int
    memory_source: Literal["process", "gpu"]
    nvml_memory_bytes: int | None = None
    predicted_memory_bytes: int | None
    trainable_parameters: int
    head_parameters: int
    total_parameters: int
    step_ms_p50: float
    step_ms_p95: float
    epochs: tuple[EpochScores, ...]
    ranks: RankHistory | None = None
    unstable_steps: int = 0
    profile: ProfileRecord | None = None
    served: tuple[ServedArtifact, ...] = ()
    conditions: TrainingConditions
    machine: MachineFacts
    finished_at: str

    @property
    def machine_name(self) -> str:
        """What it was trained on, as far as that sets its speed: `Xeon, 1 core`, or the GPU."""
        return machine_name(self.machine)

    @property
    def trainable_ratio(self) -> float:
        """Trainable parameters, the head among them, over all parameters."""
        return self.trainable_parameters / self.total_parameters


def machine_name(facts: MachineFacts) -> str:
    """A machine as far as it sets the speed of training: its GPU, else its processor and the cores in use."""
    return facts.gpu_model or f"{facts.cpu_model}, {facts.cpu_cores} core{'s' if facts.cpu_cores > 1 else ''}"


class CellResult(Record):
    """One cell on one seed: `measured`, or the one line in `error` that says why not.

    Both are there where training went well and an artifact or a load test did not. `experiment_digest` marks all that
    decides the result (model, rows, method, hyper-parameters, seed).
    """

    name: str
    method: str
    slug: str
    experiment_digest: str
    seed: int
    measured: CellMeasurement | None = None
    error: str | None = None


def cell_run_folder(runs_dir: Path, slug: str, experiment_digest: str) -> Path:
    """Where the run of a cell lies: `runs/cells/SLUG-DIGEST`, so that it is not taken for a run of the user's."""
    return runs_dir / "cells" / f"{slug}-{experiment_digest}"


class CellPlan(Record):
    """One cell as asked: its method, what it sets beside the study's common settings, the literature's figures.

    `literature` holds its figures as ratios, seconds, bytes and dollars, not in the units that tables show.
    """

    name: str
    method: str
    settings: dict[str, Any]
    literature: dict[MetricName, float]


class Finding(Record):
    """What the measurements say to one claim of the literature, with the numbers that decide it.

    Scores differ by subtraction (`scale` difference, 0.01 is one point), all else by division (`scale` ratio).
    `ours_low` and `ours_high` are the 95 % interval of the paired difference over `seeds` seeds; of figures that are
    load-tested on one seed, the widest that the load tests' own intervals allow.
    """

    claim: str
    metric: MetricName
    cell: str
    against: str
    expected: Direction
    scale: Literal["difference", "ratio"]
    ours: float | None
    ours_low: float | None
    ours_high: float | None
    seeds: int
    theirs: float | None
    source: str
    verdict: Verdict
    reason: str


class ScenarioChoice(Record):
    """Which cell of a factor serves a scenario's aim best by the measurements, and which one the source chose.

    `alike` are those that the measurements do not tell apart from `cell`; `cell` is None where not all were measured.
    """

    scenario: str
    factor: str
    cell: str | None
    theirs: str | None
    alike: tuple[str, ...] = ()
    verdict: Verdict
    reason: str


class StudyRecord(Record):
    """A whole study: `results` has one entry for each cell and seed, in the order of `cells`, then of `seeds`.

    `train_rows`, `test_rows` and `dataset_description` are those of the first seed; `same_train_rows` and
    `same_test_rows` are whether every seed had these. `reference` is the word for those whose figures stand beside
    ours, `source` who they are; `scaled_down` tells, one a line, in what the study is unlike theirs. `machine` is what
    the study was put together and its requests timed on; each measurement has its own.
    """

    format_version: int = FORMAT_VERSION
    name: str
    question: str
    size: str
    base_model: str
    dataset: str
    dataset_description: str
    dataset_generated: bool
    train_rows: int
    test_rows: int
    same_train_rows: bool
    same_test_rows: bool
    epochs: int
    seeds: tuple[int, ...]
    cores_per_cell: int
    cells: tuple[CellPlan, ...]
    results: tuple[CellResult, ...]
    findings: tuple[Finding, ...]
    choices: tuple[ScenarioChoice, ...] = ()
    scaled_down: tuple[str, ...]
    reference: str
    source: str
    command: str
    machine: MachineFacts
    made_at: str

    def measurements(self, cell: str) -> dict[int, CellMeasurement]:
        """What was measured of one cell, by seed; empty where every seed failed."""
        return {r.seed: r.measured for r in self.results if r.name == cell and r.measured is not None}

    def errors(self, cell: str) -> list[str]:
        """Why seeds of one cell failed, each reason once."""
        return list(dict.fromkeys(r.error for r in self.results if r.name == cell and r.error))
