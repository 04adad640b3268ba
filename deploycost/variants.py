"""The finished variants of a run, from its records alone: light enough for commands that only reckon."""

from __future__ import annotations

from deploycost.records import ExportRecord, LoadRecord, TuningRecord, Variant, read_record
from deploycost.workspace import Run


def variants_of(run: Run) -> list[Variant]:
    """All finished variants of a run, each with its load record if it has one.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in run.record_paths("export.json"):
        tuning_path = path.parents[1] / "tuning.json"
        if not tuning_path.exists():
            continue  # being tuned anew
        export = read_record(path, ExportRecord)
        load = read_record(path.with_name("load.json"), LoadRecord) if path.with_name("load.json").exists() else None
        if load is not None and load.bundle_digest != export.bundle_digest:
            load = None  # of an earlier bundle
        found.append(Variant(tuning=read_record(tuning_path, TuningRecord), export=export, load=load))
    return found
