"""What training leaves behind: what a model came to and what that took, or that it was brought."""

from __future__ import annotations

from typing import Any, Literal

from deploycost.environment import MachineFacts
from deploycost.records.base import Record
from deploycost.records.checks import FORMAT_VERSION
from deploycost.records.scores import AnyScores, Scores
from serving.bundle import Task


class EpochScores(Record):
    """What one epoch of training came to; its duration is of training alone, without the judging."""

    epoch: float
    train_loss: float | None
    scores: Scores
    duration_s: float


class TrainingMemory(Record):
    """Where the memory of training goes, in bytes, by the model in `deploycost.training_memory`.

    `workspace` is what the framework holds beside the tensors: allocator slack, kernels, batches.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.workspace


class RankDecision(Record):
    """One change of one matrix's rank in dynamic-rank training; `importance` is AdaLoRA's, summed over its ranks."""

    step: int
    layer: str
    importance: float
    rank_before: int
    rank_after: int
    reason: str


class UnstableStep(Record):
    """A training step that went astray and what was done: its update undone, or damped to the usual size."""

    step: int
    remedy: Literal["undone", "damped"]
    reason: str


class RankHistory(Record):
    """How dynamic-rank training spread its ranks: the budget, each decision, and where it ended."""

    memory_budget_bytes: int | None
    initial_total_rank: int
    final_total_rank: int
    decisions: tuple[RankDecision, ...]
    final_ranks: dict[str, int]


class TuningRecord(Record):
    """One base model fine-tuned by one method: `runs/NAME/METHOD/tuning.json`.

    Rates are over `training_s`, the time in epochs; `tokens_per_s` counts real tokens, no padding. Peaks are of the
    training process from the loading of the model to the last step: `peak_memory_bytes` resident memory by the kernel's
    mark, `peak_pss_bytes` sampled proportional memory, `peak_gpu_memory_bytes` by torch's allocator,
    `peak_gpu_nvml_bytes` by the driver; baselines are of right before. The memory that training takes, which
    `predicted_memory` is of, is `peak_memory_bytes - baseline_memory_bytes`, on a GPU `peak_gpu_memory_bytes`:
    proportional memory moves with what other processes share. Judging and checkpoints between steps are left out, but
    for what the heap keeps of them. `energy_joules` is of the counter named in `energy_source`, None where there is
    none. `resumed_at_steps` are the checkpoints it went on from after being stopped. `mean_tokens` are those of a test
    text as the model is fed it, `whole_mean_tokens` before it is truncated: None where an earlier version left it out.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: str
    slug: str
    base_model: str
    label_names: tuple[str, ...]
    dataset: str
    dataset_fingerprint: str
    dataset_description: str
    dataset_generated: bool
    train_rows: int
    hyper_parameters: dict[str, Any]
    scores: Scores
    epochs: tuple[EpochScores, ...]
    final_loss: float
    training_s: float
    samples_per_s: float
    tokens_per_s: float
    step_ms_p50: float
    step_ms_p95: float
    resumed_at_steps: tuple[int, ...] = ()
    baseline_memory_bytes: int
    peak_memory_bytes: int
    baseline_pss_bytes: int | None
    peak_pss_bytes: int | None
    peak_gpu_memory_bytes: int | None
    peak_gpu_nvml_bytes: int | None
    predicted_memory: TrainingMemory | None
    energy_joules: float | None
    energy_source: str
    trainable_parameters: int
    head_parameters: int
    total_parameters: int
    mean_tokens: float
    whole_mean_tokens: float | None = None
    ranks: RankHistory | None = None
    unstable_steps: tuple[UnstableStep, ...] = ()
    tracker: str = "none"
    machine: MachineFacts
    finished_at: str

    @property
    def task(self) -> Task:
        """What is trained here: a choice of one label."""
        return "single-label"


class BroughtRecord(Record):
    """One trained model that was brought, not tuned here: `runs/NAME/MODEL/brought.json`.

    It stands where a `TuningRecord` may stand. `digest` marks the content of all files it was read from; `notes` say
    what had to be settled, as how its labels were matched. `scores` are its own, before it became any artifact. What
    its training took is not known: those fields are there, and null. Tokens are told as in a `TuningRecord`.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: Literal["brought"] = "brought"
    slug: str
    source: str
    kind: Literal["classifier", "adapter", "onnx"]
    architecture: str
    digest: str
    base_model: str
    task: Task
    label_names: tuple[str, ...]
    dataset: str
    dataset_fingerprint: str
    dataset_description: str
    dataset_generated: bool
    notes: tuple[str, ...]
    max_tokens: int
    scores: AnyScores
    training_s: None = None
    peak_memory_bytes: None = None
    trainable_parameters: None = None
    total_parameters: int
    mean_tokens: float
    whole_mean_tokens: float | None = None
    machine: MachineFacts
    finished_at: str


# What artifacts are made of: a model tuned here, or one that was brought.
ModelRecord = TuningRecord | BroughtRecord


class OperatorTime(Record):
    """Time of one group of operators in one phase of a training step, in milliseconds per step."""

    group: Literal["matmul", "attention", "quantisation", "optimiser", "other"]
    phase: Literal["forward", "backward", "update"]
    time_ms: float
    calls: float


class ProfileRecord(Record):
    """Where the time of training steps goes: `runs/NAME/METHOD/profile/profile.json`, its trace file beside it."""

    format_version: int = FORMAT_VERSION
    fingerprint: str
    method: str
    slug: str
    steps: int
    step_ms: float
    times: tuple[OperatorTime, ...]
    trace_file: str
    machine: MachineFacts
    finished_at: str
