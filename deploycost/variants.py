"""The finished variants of a run, from its records alone: light enough for commands that only reckon."""

from __future__ import annotations

from pathlib import Path

from deploycost.records import (
    BroughtRecord,
    ExportRecord,
    ExportRefusal,
    LoadRecord,
    ModelRecord,
    TuningRecord,
    Variant,
    read_record,
)
from deploycost.workspace import Run


def variants_of(run: Run) -> list[Variant]:
    """All finished variants of a run, each with its load record if it has one.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in run.record_paths("export.json"):
        tuning = _model_record(path.parents[1])
        if tuning is None:
            continue  # being made anew
        export = read_record(path, ExportRecord)
        load = read_record(path.with_name("load.json"), LoadRecord) if path.with_name("load.json").exists() else None
        if load is not None and load.bundle_digest != export.bundle_digest:
            load = None  # of an earlier bundle
        found.append(Variant(tuning=tuning, export=export, load=load))
    return found


def refusals_of(run: Run) -> list[ExportRefusal]:
    """The artifacts of a run's models that were refused when they were last made.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in run.record_paths("refused.json"):
        model, refusal = _model_record(path.parents[1]), read_record(path, ExportRefusal)
        if model is not None and model.fingerprint == refusal.model_fingerprint:
            found.append(refusal)
    return found


def _model_record(folder: Path) -> ModelRecord | None:
    if (folder / "tuning.json").exists():
        return read_record(folder / "tuning.json", TuningRecord)
    return read_record(folder / "brought.json", BroughtRecord) if (folder / "brought.json").exists() else None
