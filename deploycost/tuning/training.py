"""One base model, one method: train it with transformers' `Trainer`, judge it, keep what was learnt and measured."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from deploycost.dataset import Dataset
from deploycost.encoder_shape import shape_of
from deploycost.environment import machine_facts, now
from deploycost.errors import NoAnswer
from deploycost.experiment import Experiment, MethodName
from deploycost.methods import METHODS
from deploycost.models.adapter_folder import save
from deploycost.models.base import BaseModel, load_tokenizer
from deploycost.models.classifier import TunedClassifier, build, set_compute_dtype
from deploycost.models.encoding import EncodedTexts, logits_of
from deploycost.models.low_rank import start_from_data
from deploycost.models.recipe import Recipe
from deploycost.models.scoring import score
from deploycost.records import Scores, TrainingMemory, TuningRecord
from deploycost.training_memory import Setting, load_of, predict
from deploycost.tuning.batches import Padder
from deploycost.tuning.checkpoints import CheckpointFolder, Stateful
from deploycost.tuning.counters import Watch, gpu_uuid
from deploycost.tuning.judging import EpochJudge
from deploycost.tuning.ranks import RankKeeper, plan_ranks
from deploycost.tuning.recipes import recipe_for, told_hyper_parameters
from deploycost.tuning.settings import (
    arithmetic_of,
    batch_size_of,
    half_precision,
    optimiser_for,
    require_compiler,
    steps_of,
    training_arguments,
)
from deploycost.tuning.stability import StabilityGuard
from deploycost.tuning.telemetry import LossMeter, StepClock
from deploycost.tuning.tokens import TokenCache
from deploycost.tuning.trackers import Tracking, log_epoch, require_tracker, tracked
from deploycost.tuning.trainer import Keeping, ResumableTrainer

LOGITS_FILE = "trained_logits.safetensors"
# How many texts EVA looks at: directions in which inputs vary settle within a few hundred.
_EVA_ROWS = 256

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TuningJob:
    """What one call of `tune` is given.

    Checkpoints, token ids and a tracker's files go to folders of their own, made when needed; without a folder for
    them, checkpoints and token ids are not kept. A checkpoint that is there is taken up.
    """

    experiment: Experiment
    method: MethodName
    base: BaseModel
    dataset: Dataset
    fingerprint: str
    checkpoints: Path | None = None
    token_cache: Path | None = None
    tracking: Path = Path("tracking")


@dataclass(frozen=True)
class Material:
    """What a method is trained from: token ids of both splits, and the recipe of the network."""

    train: EncodedTexts
    test: EncodedTexts
    recipe: Recipe
    predicted_memory: TrainingMemory

    @property
    def train_tokens(self) -> int:
        """Real tokens of the training split: no padding, no virtual tokens."""
        return sum(map(len, self.train.input_ids))


@dataclass
class _Course:
    """What is measured while a classifier trains, and kept over interruptions."""

    judge: EpochJudge
    clock: StepClock
    losses: LossMeter
    watch: Watch
    guard: StabilityGuard
    ranks: RankKeeper | None
    trainer: ResumableTrainer = field(init=False)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint keeps of it."""
        parts: dict[str, Stateful] = {
            "judge": self.judge, "clock": self.clock, "losses": self.losses, "watch": self.watch, "guard": self.guard,
        }  # fmt: skip
        return parts if self.ranks is None else parts | {"ranks": self.ranks}


def tune(job: TuningJob, folder: Path, progress: Progress) -> TuningRecord:
    """Trains by one method and fills `folder` with the adapter and the trained model's logits on the test split.

    Args:
        job: What to train, on what.
        folder: An existing empty folder.
        progress: Told (steps done, steps in all, what is happening).

    Returns:
        The record; the caller writes it, last, and then lets go of the checkpoints.

    Raises:
        UserError: the method does not fit the base model, or a checkpoint of another training is in the way.
        NoAnswer: training diverged; nothing is kept.
    """
    spec = job.experiment.training
    require_compiler(spec)
    require_tracker(job.experiment.telemetry.report_to)
    checkpoints = _checkpoints(job)
    newest = checkpoints.newest() if checkpoints is not None else None
    material = prepare(job)
    watch = Watch(gpu=torch.cuda.is_available())
    set_seed(spec.seed)
    classifier = build(job.base, material.recipe)
    if material.recipe.ranks is not None and material.recipe.ranks.eva:
        start_from_data(classifier, _spread_batches(material.train))
    course = _course(job, classifier, material, watch, progress)
    try:
        _train(job, classifier, material, course, Keeping(checkpoints, course.parts, (course.clock, watch), newest))
        progress(1, 1, "judging on the whole test split")
        logits = _finite_logits(classifier, material, course)
    except NoAnswer as answer:
        if checkpoints is not None:
            checkpoints.clear()  # what diverged is nothing to go on from
        raise NoAnswer(f"{job.experiment.method_slug(job.method)}: {answer}") from None
    save(classifier, material.recipe, folder)
    save_logits(logits, folder)
    return _record(job, material, course, score(material.test.labels, logits), _count_parameters(classifier, job.base))


def _checkpoints(job: TuningJob) -> CheckpointFolder | None:
    if job.checkpoints is None:
        return None
    return CheckpointFolder(job.checkpoints, job.fingerprint, arithmetic_of(job.experiment.training))


def _finite_logits(classifier: TunedClassifier, material: Material, course: _Course) -> NDArray[np.float32]:
    set_compute_dtype(classifier, torch.float32)
    logits = logits_of(classifier, material.test)
    if not (np.isfinite(logits).all() and np.isfinite(course.judge.final_loss)):
        raise NoAnswer("training diverged, the model's answers are not numbers; give a lower --learning-rate")
    return logits


def prepare(job: TuningJob) -> Material:
    """What a job is trained from; its ranks are planned where the method has them allocated.

    Raises:
        UserError: the method does not fit the base model, or a memory budget is too small.
    """
    spec, method = job.experiment.training, METHODS[job.method]
    names = job.dataset.label_names
    # Virtual tokens that leave no room for a text are refused when the network is built.
    limit = max(8, recipe_for(method, job.base.name, names, spec).text_tokens(job.base, spec.max_tokens))
    cache = TokenCache(job.token_cache, load_tokenizer(job.base), job.dataset.fingerprint)
    train, test = cache.encode(job.dataset.train, "train", limit), cache.encode(job.dataset.test, "test", limit)
    shape = shape_of(job.base.place)
    setting = Setting(
        labels=len(names),
        tokens=max(map(len, train.input_ids)),
        half_precision=half_precision(spec) is not None,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    ranks = None
    if method.allocated_ranks:
        ranks = plan_ranks(method, spec, shape, setting, steps_of(method, spec, len(train)))
    load = load_of(method, spec, shape, setting, ranks.initial_rank if ranks is not None else None)
    return Material(train, test, recipe_for(method, job.base.name, names, spec, ranks), predict(shape, load))


def save_logits(logits: NDArray[np.float32], folder: Path) -> None:
    """Keeps the trained model's logits on the test split, which every artifact is held against."""
    save_file({"logits": np.ascontiguousarray(logits)}, folder / LOGITS_FILE)


def _spread_batches(texts: EncodedTexts) -> Iterator[dict[str, Tensor]]:
    """Some texts spread evenly over all, so that a split sorted by class will do."""
    pad, size, count = Padder(texts), 32, min(_EVA_ROWS, len(texts))
    rows = [number * len(texts) // count for number in range(count)]
    for start in range(0, count, size):
        yield pad([texts[row] for row in rows[start : start + size]])


def _course(
    job: TuningJob, classifier: TunedClassifier, material: Material, watch: Watch, progress: Progress
) -> _Course:
    spec = job.experiment.training
    judge = EpochJudge(classifier, material.test, batch_size_of(METHODS[job.method], spec))
    losses = LossMeter()

    def after_epoch(epoch: float) -> None:
        with watch.paused():
            judged = judge.judge(epoch, losses.take(), clock.epoch_s[-1])
            log_epoch(course.trainer, judged, material.train_tokens / judged.duration_s)

    clock = StepClock(after_epoch, on_step=lambda done, steps: progress(done, steps, judge.summary))
    ranks = None
    if material.recipe.ranks is not None:
        ranks = RankKeeper(classifier, material.recipe.ranks, spec.dynamic.memory_budget)
    course = _Course(judge, clock, losses, watch, StabilityGuard(classifier, ranks), ranks)
    return course


def _train(job: TuningJob, classifier: TunedClassifier, material: Material, course: _Course, keeping: Keeping) -> None:
    spec, method = job.experiment.training, METHODS[job.method]
    if spec.gradient_checkpointing:
        classifier.checkpoint_activations()
    set_compute_dtype(classifier, half_precision(spec) or torch.float32)
    optimiser = optimiser_for(classifier, method, spec)
    rows = len(material.train)
    tracking = Tracking(job.experiment.telemetry.report_to, job.tracking, job.experiment.method_slug(job.method))
    with (
        tempfile.TemporaryDirectory() as scratch,
        tracked(tracking, steps_of(method, spec, rows)) as logging_arguments,
    ):
        trainer = ResumableTrainer(
            keeping=keeping,
            losses=course.losses,
            model=classifier,
            args=training_arguments(method, spec, rows, scratch, logging_arguments),
            train_dataset=material.train,
            data_collator=Padder(material.train),
            callbacks=[*([course.ranks] if course.ranks is not None else []), course.guard, course.clock],
            optimizers=(optimiser, None),
        )
        course.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        with course.watch:
            trainer.train_or_go_on()
        # Takes the autocast off the model's `forward`, or it would be judged in half precision ever after.
        trainer.accelerator.unwrap_model(classifier, keep_fp32_wrapper=False)


def _record(
    job: TuningJob, material: Material, course: _Course, scores: Scores, parameters: tuple[int, int, int]
) -> TuningRecord:
    spec, method = job.experiment.training, METHODS[job.method]
    epochs, clock = course.judge.epochs, course.clock
    trained, in_head, in_all = parameters
    return TuningRecord(
        fingerprint=job.fingerprint,
        method=job.method,
        slug=job.experiment.method_slug(job.method),
        base_model=job.base.name,
        label_names=job.dataset.label_names,
        dataset=job.dataset.name,
        dataset_fingerprint=job.dataset.fingerprint,
        dataset_description=job.dataset.description,
        dataset_generated=job.dataset.generated,
        train_rows=len(material.train),
        hyper_parameters=told_hyper_parameters(method, spec),
        scores=scores,
        epochs=tuple(epochs),
        final_loss=course.judge.final_loss,
        training_s=clock.training_s,
        samples_per_s=len(material.train) * len(epochs) / clock.training_s,
        tokens_per_s=material.train_tokens * len(epochs) / clock.training_s,
        step_ms_p50=clock.step_ms(50),
        step_ms_p95=clock.step_ms(95),
        resumed_at_steps=course.trainer.resumed_at_steps,
        **vars(course.watch.readings),
        predicted_memory=material.predicted_memory,
        energy_source=course.watch.energy_source,
        trainable_parameters=trained,
        head_parameters=in_head,
        total_parameters=in_all,
        mean_tokens=material.test.mean_tokens,
        whole_mean_tokens=material.test.whole_mean_tokens,
        ranks=course.ranks.history() if course.ranks is not None else None,
        unstable_steps=tuple(course.guard.steps),
        tracker=job.experiment.telemetry.report_to,
        machine=machine_facts(gpu_uuid=gpu_uuid()),
        finished_at=now(),
    )


def _count_parameters(classifier: TunedClassifier, base: BaseModel) -> tuple[int, int, int]:
    """(trained, of those in the head, all); 4-bit weights are packed two to a byte and counted unpacked."""
    trained = head = total = 0
    for name, parameter in classifier.named_parameters():
        if "original_module" in name:
            continue  # PEFT keeps the untrained head beside the trained one
        count = parameter.numel() * (2 if parameter.dtype is torch.uint8 else 1)
        total += count
        if parameter.requires_grad:
            trained += count
            head += count if any(part in base.family.head for part in name.split(".")) else 0
    return trained, head, total
