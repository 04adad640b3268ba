"""What training took, by method: time, rates, memory beside its prediction, energy, and scores by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.records import EpochScores, TuningRecord
from deploycost.reporting.content import peak_training_bytes, predictable_peak_bytes
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import UNKNOWN_MARK, number, percent_number
from deploycost.units import MIB, seconds_text

_COLUMNS = (
    Column("method", text=True),
    Column("training time", "time", below=True),
    Column("samples/s"),
    Column("tokens/s", below=True),
    Column("step p50 ms", "p50 ms"),
    Column("step p95 ms", "p95 ms", below=True),
    Column("peak MiB"),
    Column("over start MiB", "over start", below=True),
    Column("predicted MiB", "predicted"),
    Column("error %", below=True),
    Column("trained", "trained"),
    Column("and head", below=True),
)
_EPOCH_COLUMNS = (
    Column("method", text=True),
    Column("epoch"),
    Column("training loss", "loss"),
    Column("accuracy %", "acc. %"),
    Column("F1 %"),
    Column("precision %", "prec. %"),
    Column("recall %"),
    Column("time s"),
)
# So many steps are named; the rest are counted.
_STEPS_NAMED = 5


def training(tunings: Sequence[TuningRecord]) -> Grid:
    """Each fine-tuning: how long, how fast, how much memory against the prediction, how many parameters it trained."""
    energy = any(tuning.energy_joules is not None for tuning in tunings)
    columns = (*_COLUMNS, *((Column("energy kJ", "kJ"),) if energy else ()))
    rows = tuple(_training_row(tuning, with_energy=energy) for tuning in tunings)
    gpu = any(tuning.peak_gpu_memory_bytes is not None for tuning in tunings)
    notes = [
        "Rates are over the time in epochs, without judging; tokens are real ones, without padding.",
        "peak: of torch's allocator on the GPU."
        if gpu
        else "peak: of the process; over start: beyond what it held before the model was loaded.",
        "predicted: over start, by the memory model before training; error: of that prediction.",
        "trained: parameters that were trained, the head's apart.",
        *_energy_notes(tunings),
        *event_notes(tunings),
    ]
    return Grid("Training", columns, rows, tuple(notes))


def epochs(tunings: Sequence[TuningRecord]) -> Grid:
    """Loss and scores after every epoch of every method."""
    rows = tuple(_epoch_row(tuning.slug, epoch) for tuning in tunings for epoch in tuning.epochs)
    notes = ("Scores after an epoch are of a sample of the test split, evenly drawn; time is of training alone.",)
    return Grid("Training, epoch by epoch", _EPOCH_COLUMNS, rows, notes)


def event_notes(tunings: Sequence[TuningRecord]) -> tuple[str, ...]:
    """What befell a training that a reader of its figures must know: stops, and steps that went astray."""
    told = []
    for tuning in tunings:
        if tuning.resumed_at_steps:
            steps = ", ".join(map(str, tuning.resumed_at_steps))
            told.append(f"{tuning.slug} was stopped and went on from its checkpoint at step {steps}.")
        if tuning.unstable_steps:
            told.append(_unstable(tuning))
    return tuple(told)


def _training_row(tuning: TuningRecord, *, with_energy: bool) -> tuple[str, ...]:
    peak = peak_training_bytes(tuning)
    compared = predictable_peak_bytes(tuning)
    predicted = tuning.predicted_memory.total if tuning.predicted_memory else None
    cells = (
        tuning.slug,
        seconds_text(tuning.training_s),
        number(tuning.samples_per_s),
        number(tuning.tokens_per_s),
        number(tuning.step_ms_p50),
        number(tuning.step_ms_p95),
        _mib(peak),
        _mib(compared),
        _mib(predicted),
        _signed_percent(predicted, compared),
        f"{tuning.trainable_parameters - tuning.head_parameters:,}",
        f"{tuning.head_parameters:,}",
    )
    return (*cells, number(_thousandth(tuning.energy_joules))) if with_energy else cells


def _mib(count: float | None) -> str:
    return UNKNOWN_MARK if count is None else f"{count / MIB:,.0f}"


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _signed_percent(predicted: float | None, measured: float | None) -> str:
    return UNKNOWN_MARK if predicted is None or not measured else f"{100 * (predicted / measured - 1):+.0f}"


def _energy_notes(tunings: Sequence[TuningRecord]) -> tuple[str, ...]:
    counted = [tuning for tuning in tunings if tuning.energy_joules is not None]
    sources = ", ".join(dict.fromkeys(tuning.energy_source for tuning in counted))
    return (f"Energy of training as counted by {sources}.",) if counted else ()


def _epoch_row(slug: str, epoch: EpochScores) -> tuple[str, ...]:
    scores = epoch.scores
    return (
        slug,
        f"{epoch.epoch:g}",
        number(epoch.train_loss),
        *(percent_number(share, 2) for share in (scores.accuracy, scores.macro_f1, scores.precision, scores.recall)),
        number(epoch.duration_s),
    )


def _unstable(tuning: TuningRecord) -> str:
    steps = tuning.unstable_steps
    remedies = [
        f"{count} {remedy}"
        for remedy in ("undone", "damped")
        if (count := sum(step.remedy == remedy for step in steps))
    ]
    named = "; ".join(f"step {step.step}: {step.reason}" for step in steps[:_STEPS_NAMED])
    more = f"; {len(steps) - _STEPS_NAMED} more" if len(steps) > _STEPS_NAMED else ""
    plural = "s" if len(steps) > 1 else ""
    return f"{tuning.slug}: {len(steps)} unstable step{plural} ({', '.join(remedies)}). {named}{more}."
