"""Where the time of training steps goes: a few profiled steps, their trace, and a table of operators."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import count, cycle, islice
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile
from transformers import set_seed

from deploycost.environment import machine_facts, now
from deploycost.methods import METHODS
from deploycost.models.classifier import TunedClassifier, build, set_compute_dtype
from deploycost.models.encoding import EncodedTexts, batches_by_length
from deploycost.models.recipe import RankSchedule
from deploycost.records import ProfileRecord
from deploycost.tuning.counters import gpu_uuid
from deploycost.tuning.operators import RANGES, operator_times
from deploycost.tuning.ranks import RankKeeper
from deploycost.tuning.settings import batch_size_of, half_precision, optimiser_for
from deploycost.tuning.training import TuningJob, prepare

WARM_UP_STEPS, STEPS = 3, 6
TRACE_FILE = "trace.json.gz"
# As transformers' Trainer clips them unless told otherwise.
_MAX_GRADIENT_NORM = 1.0
_NS_PER_MS = 1_000_000

# Ids [batch, tokens], mask [batch, tokens], labels [batch].
Batch = tuple[Tensor, Tensor, Tensor]


def profile(job: TuningJob, folder: Path) -> ProfileRecord:
    """Profiles a few training steps of the method and writes `trace.json.gz` into `folder`, an existing one.

    The steps are of a short training of their own, at the settings of the real one but never compiled, on texts of
    about the median length; what it learns is thrown away. On a GPU the times are of its kernels: what they leave of
    `step_ms` is time in which it waited.

    Returns:
        The record; the caller writes it, last. Its fingerprint is the job's. `step_ms` is the mean wall time of the
        profiled steps, without the loading of batches.

    Raises:
        UserError: the method does not fit the base model.
    """
    step, batches = _rehearsal(job)
    for batch in batches[:WARM_UP_STEPS]:
        step(batch)
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch_profile(activities=activities) as profiler:
        durations_ms = [_timed_ms(step, batch) for batch in batches[WARM_UP_STEPS:]]
    profiler.export_chrome_trace(str(folder / TRACE_FILE))
    return ProfileRecord(
        fingerprint=job.fingerprint,
        method=job.method,
        slug=job.experiment.method_slug(job.method),
        steps=STEPS,
        step_ms=statistics.fmean(durations_ms),
        times=operator_times(profiler.events() or (), STEPS, on_device=on_gpu),
        trace_file=TRACE_FILE,
        machine=machine_facts(gpu_uuid=gpu_uuid()),
        finished_at=now(),
    )


def _rehearsal(job: TuningJob) -> tuple[Callable[[Batch], None], list[Batch]]:
    """A training step at the job's own settings, and the batches to take it with."""
    spec, method = job.experiment.training, METHODS[job.method]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    material = prepare(job)
    set_seed(spec.seed)
    classifier = build(job.base, material.recipe).to(device).train()
    if spec.gradient_checkpointing:
        classifier.checkpoint_activations()
    step = _stepper(
        classifier,
        optimiser_for(classifier, method, spec),
        half_precision(spec),
        _allocator(classifier, material.recipe.ranks),
    )
    return step, _median_batches(material.train, batch_size_of(method, spec), device)


def _median_batches(encoded: EncodedTexts, batch_size: int, device: torch.device) -> list[Batch]:
    """Batches for all steps of the texts whose lengths are nearest to the median; few texts are repeated."""
    rows_needed = (WARM_UP_STEPS + STEPS) * batch_size
    by_length = sorted(range(len(encoded)), key=lambda row: len(encoded.input_ids[row]))
    start = max(0, (len(by_length) - rows_needed) // 2)
    rows = list(islice(cycle(by_length[start : start + rows_needed]), rows_needed))
    chosen = EncodedTexts(
        tuple(encoded.input_ids[row] for row in rows), tuple(encoded.labels[row] for row in rows), encoded.pad_token_id
    )
    return [
        (ids.to(device), mask.to(device), torch.tensor([chosen.labels[row] for row in places], device=device))
        for places, ids, mask in batches_by_length(chosen, batch_size)
    ]


def _allocator(classifier: TunedClassifier, ranks: RankSchedule | None) -> Callable[[], None]:
    """What allocated ranks do after each update: take importance, and now and then set ranks anew.

    The steps that count are those right after ranks have warmed up, where most of a training's steps lie.
    """
    if ranks is None:
        return lambda: None
    keeper, steps = RankKeeper(classifier, ranks, None), count(ranks.warm_up_steps)
    return lambda: keeper.on_optimizer_step(None, SimpleNamespace(global_step=next(steps)), None)


def _stepper(
    classifier: TunedClassifier,
    optimiser: torch.optim.Optimizer,
    precision: torch.dtype | None,
    allocate: Callable[[], None],
) -> Callable[[Batch], None]:
    """One training step as transformers' Trainer makes it, its phases named in the trace."""
    set_compute_dtype(classifier, precision or torch.float32)
    device_type = next(classifier.parameters()).device.type
    scaler = torch.amp.GradScaler(device_type, enabled=precision is torch.float16)
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]

    def step(batch: Batch) -> None:
        """Forward, backward and update on one batch."""
        with (
            record_function(RANGES["forward"]),
            torch.autocast(device_type, dtype=precision, enabled=precision is not None),
        ):
            loss = classifier(*batch).loss
        with record_function(RANGES["backward"]):
            scaler.scale(loss).backward()
        with record_function(RANGES["update"]):
            scaler.unscale_(optimiser)
            clip_grad_norm_(trained, _MAX_GRADIENT_NORM)
            scaler.step(optimiser)
            scaler.update()
            allocate()
            optimiser.zero_grad()

    return step


def _timed_ms(step: Callable[[Batch], None], batch: Batch) -> float:
    began_ns = perf_counter_ns()
    step(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (perf_counter_ns() - began_ns) / _NS_PER_MS
