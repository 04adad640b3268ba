"""What a study leaves behind: every cell on every seed, the literature's figures beside them, and what follows.

`runs/study-NAME/study.json`. It names no folder of the machine it was made on, so that it can be shipped.
"""

from __future__ import annotations

from typing import Any, Literal

from deploycost.environment import MachineFacts
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


class ServedArtifact(Record):
    """One artifact of a cell as it is served.

    `request_ms_p50` is the median time of one text at a time on one core, without HTTP. `capacity_rps` and
    `usd_per_million` (at saturation, on the cheapest machine asked for) are known where it was load-tested.
    """

    artifact: str
    accuracy: float
    size_bytes: int
    request_ms_p50: float | None = None
    capacity_rps: Figure | None = None
    certified: bool | None = None
    usd_per_million: Figure | None = None
    priced_on: str = ""


class CellMeasurement(Record):
    """What training one cell with one seed came to.

    `memory_bytes` is the peak over what the process held before the model was loaded (`memory_source` process), or
    the peak of the framework's allocator on a GPU (`memory_source` gpu). Trainable parameters include the head's.
    """

    scores: Scores
    training_s: float
    samples_per_s: float
    tokens_per_s: float
    memory_bytes: int
    memory_source: Literal["process", "gpu"]
    predicted_memory_bytes: int | None
    trainable_parameters: int
    head_parameters: int
    total_parameters: int
    step_ms_p50: float
    step_ms_p95: float
    final_loss: float
    epochs: tuple[EpochScores, ...]
    ranks: RankHistory | None = None
    unstable_steps: int = 0
    profile: ProfileRecord | None = None
    served: tuple[ServedArtifact, ...] = ()
    cores: int
    finished_at: str

    @property
    def trainable_ratio(self) -> float:
        """Trainable parameters, the head among them, over all parameters."""
        return self.trainable_parameters / self.total_parameters


class CellResult(Record):
    """One cell on one seed: `measured`, or the one line in `error` that says why not.

    Both are there where training went well and an artifact or a load test did not. `experiment_digest` marks all that
    decides the result (model, rows, method, hyper-parameters, seed); the run of the cell lies in
    `runs/cells/SLUG-DIGEST`.
    """

    name: str
    method: str
    slug: str
    experiment_digest: str
    seed: int
    measured: CellMeasurement | None = None
    error: str | None = None


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
    `ours_low` and `ours_high` are the 95 % interval of the paired difference over `seeds` seeds.
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


class StudyRecord(Record):
    """A whole study: `results` has one entry for each cell and seed, in the order of `cells`, then of `seeds`.

    `train_rows`, `test_rows` and `dataset_description` are those of the first seed (each seed draws its own rows).
    `scaled_down` tells, one a line, in what the study is smaller than the literature's.
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
    epochs: int
    seeds: tuple[int, ...]
    cores_per_cell: int
    cells: tuple[CellPlan, ...]
    results: tuple[CellResult, ...]
    findings: tuple[Finding, ...]
    scaled_down: tuple[str, ...]
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
