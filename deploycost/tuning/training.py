"""One base model, one method: train it with transformers' `Trainer`, judge it, keep what was learnt and measured."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from deploycost.dataset import Dataset
from deploycost.environment import machine_facts, now
from deploycost.errors import NoAnswer
from deploycost.experiment import Experiment, MethodName, TrainingSpec
from deploycost.models.adapters import Recipe, TunedClassifier, build, save, set_compute_dtype
from deploycost.models.base import BaseModel, load_tokenizer
from deploycost.models.encoding import EncodedTexts, encode, logits_of
from deploycost.models.scoring import score
from deploycost.records import EpochScores, TuningRecord
from deploycost.tuning.methods import METHODS, Method, recipe_for
from deploycost.tuning.telemetry import StepClock, peak_memory_bytes, resident_memory_bytes

# Enough rows to draw a curve by; the final scores are always of the whole test split.
_CURVE_ROWS = 1000
LOGITS_FILE = "trained_logits.safetensors"


@dataclass(frozen=True)
class TuningJob:
    """What one call of `tune` is given."""

    experiment: Experiment
    method: MethodName
    base: BaseModel
    dataset: Dataset
    fingerprint: str


@dataclass(frozen=True)
class _Material:
    train: EncodedTexts
    curve: EncodedTexts
    test: EncodedTexts
    tokenizer: PreTrainedTokenizerFast


Progress = Callable[[int, int, str], None]


def tune(job: TuningJob, folder: Path, progress: Progress) -> TuningRecord:
    """Trains by one method and fills `folder` with the adapter and the trained model's logits on the test split.

    Args:
        job: What to train, on what.
        folder: An existing empty folder.
        progress: Told (steps done, steps in all, what is happening).

    Returns:
        The record; the caller writes it, last.

    Raises:
        UserError: the method does not fit the base model.
        NoAnswer: training diverged; nothing is kept.
    """
    baseline_memory = resident_memory_bytes()
    spec, method = job.experiment.training, METHODS[job.method]
    slug = job.experiment.method_slug(job.method)
    recipe = recipe_for(method, job.base.name, job.dataset.label_names, spec)
    set_seed(spec.seed)
    classifier = build(job.base, recipe)
    material = _prepare(job, recipe)
    epochs, clock = _train(classifier, material, method, spec, progress)
    progress(1, 1, "judging on the whole test split")
    set_compute_dtype(classifier, torch.float32)
    logits = logits_of(classifier, material.test)
    if not np.isfinite(logits).all():
        raise NoAnswer(f"{slug}: training diverged, the model's answers are not numbers; give a lower --learning-rate")
    save(classifier, recipe, folder)
    save_logits(logits, folder)
    trainable, head, total = _count_parameters(classifier, job.base)
    return TuningRecord(
        fingerprint=job.fingerprint,
        method=job.method,
        slug=slug,
        base_model=job.base.name,
        label_names=job.dataset.label_names,
        dataset=job.dataset.name,
        dataset_fingerprint=job.dataset.fingerprint,
        dataset_description=job.dataset.description,
        dataset_generated=job.dataset.generated,
        train_rows=len(material.train),
        hyper_parameters=_told_hyper_parameters(method, spec),
        scores=score(material.test.labels, logits),
        epochs=tuple(epochs),
        training_s=clock.training_s,
        samples_per_s=len(material.train) * len(epochs) / clock.training_s,
        step_ms_p50=clock.step_ms(50),
        baseline_memory_bytes=baseline_memory,
        # The kernel brings its high-water mark up to date now and then only, not at each reading.
        peak_memory_bytes=max(baseline_memory, peak_memory_bytes()),
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        trainable_parameters=trainable,
        head_parameters=head,
        total_parameters=total,
        mean_tokens=material.test.mean_tokens,
        machine=machine_facts(),
        finished_at=now(),
    )


def save_logits(logits: NDArray[np.float32], folder: Path) -> None:
    """Keeps the trained model's logits on the test split, which every artifact is held against."""
    save_file({"logits": np.ascontiguousarray(logits)}, folder / LOGITS_FILE)


def curve_rows(rows: int) -> range:
    """The rows of a test split that an epoch is judged on: evenly spread, so that a split sorted by class will do."""
    return range(0, rows, -(-rows // _CURVE_ROWS))


def _prepare(job: TuningJob, recipe: Recipe) -> _Material:
    tokenizer = load_tokenizer(job.base)
    limit = recipe.text_tokens(job.base, job.experiment.training.max_tokens)
    train, test = job.dataset.train, job.dataset.test
    encoded_test = encode(tokenizer, test.texts, test.labels, limit)
    curve = EncodedTexts(
        tuple(encoded_test.input_ids[row] for row in curve_rows(len(test))),
        tuple(encoded_test.labels[row] for row in curve_rows(len(test))),
        encoded_test.pad_token_id,
    )
    return _Material(encode(tokenizer, train.texts, train.labels, limit), curve, encoded_test, tokenizer)


def _train(
    classifier: TunedClassifier, material: _Material, method: Method, spec: TrainingSpec, progress: Progress
) -> tuple[list[EpochScores], StepClock]:
    epochs: list[EpochScores] = []

    def judge(epoch: float) -> None:
        logits = logits_of(classifier, material.curve)
        epochs.append(EpochScores(epoch=epoch, train_loss=None, scores=score(material.curve.labels, logits)))

    def step(done: int, steps: int) -> None:
        judged = f"accuracy {epochs[-1].scores.accuracy:.3f} after epoch {len(epochs)}" if epochs else "training"
        progress(done, steps, judged)

    if spec.gradient_checkpointing:
        model: Any = classifier.model
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    precision = _mixed_precision(spec)
    set_compute_dtype(classifier, precision or torch.float32)
    clock = StepClock(after_epoch=judge, on_step=step)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=classifier,
            args=_arguments(method, spec, material, precision, scratch),
            train_dataset=material.train,  # pyright: ignore[reportArgumentType] - any sized, indexable dataset will do
            data_collator=DataCollatorWithPadding(material.tokenizer),
            callbacks=[clock],
            optimizers=(_optimizer(classifier, method, spec), None),
        )
        _quieten(trainer)
        trainer.train()
        # Takes the autocast off the model's `forward`, or it would be judged in half precision ever after.
        trainer.accelerator.unwrap_model(classifier, keep_fp32_wrapper=False)
    # Trainer logs an epoch's loss only after its end was announced.
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [epoch.model_copy(update={"train_loss": loss}) for epoch, loss in zip(epochs, losses, strict=True)], clock


def _arguments(
    method: Method, spec: TrainingSpec, material: _Material, precision: torch.dtype | None, scratch: str
) -> TrainingArguments:
    batch_size = spec.batch_size or method.batch_size
    steps = spec.epochs * -(-len(material.train) // batch_size)
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=batch_size,
        warmup_steps=round(spec.warmup_ratio * steps),
        lr_scheduler_type="linear",
        bf16=precision is torch.bfloat16,
        fp16=precision is torch.float16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        seed=spec.seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def _optimizer(classifier: TunedClassifier, method: Method, spec: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only, and virtual tokens at their own rate."""
    base_rate = spec.learning_rate or method.learning_rate
    prompt_rate = base_rate * method.prompt_learning_rate / method.learning_rate
    prompt = list(classifier.prompt.parameters()) if classifier.prompt is not None else []
    own = [p for p in classifier.model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own if p.ndim >= 2], "lr": base_rate, "weight_decay": spec.weight_decay},
        {"params": [p for p in own if p.ndim < 2], "lr": base_rate, "weight_decay": 0.0},
        {"params": prompt, "lr": prompt_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def _mixed_precision(spec: TrainingSpec) -> torch.dtype | None:
    """The half precision that this device multiplies fast, or None: emulated bf16 is slower than fp32."""
    if not spec.mixed_precision:
        return None
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if fast else None


def _quieten(trainer: Trainer) -> None:
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    logging.getLogger("transformers").setLevel(logging.ERROR)


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


def _told_hyper_parameters(method: Method, spec: TrainingSpec) -> dict[str, Any]:
    told: dict[str, Any] = {
        "epochs": spec.epochs,
        "batch_size": spec.batch_size or method.batch_size,
        "learning_rate": spec.learning_rate or method.learning_rate,
        "max_tokens": spec.max_tokens,
        "seed": spec.seed,
    }
    if method.low_rank:
        told |= {"rank": spec.lora.rank, "alpha": spec.lora.scaling_alpha, "dropout": spec.lora.dropout}
    if method.prompted:
        told |= {"virtual_tokens": spec.virtual_tokens}
    if method.quantised:
        told |= {"bits": 4, "quantisation": "nf4, double"}
    return told
