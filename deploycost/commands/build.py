"""`deploycost build`: tune, merge, export, quantise, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from deploycost import answers, pipeline
from deploycost.commands.options import BuildFlags, ExportFlags, Place, asked, require_readers
from deploycost.commands.output import say, show, show_json, width
from deploycost.errors import NoAnswer
from deploycost.records import Variant
from deploycost.reporting.tables import fidelity_table, methods_table, training_tables
from deploycost.workspace import DEFAULT_RUN_NAME, Run, new_run


def build(
    experiment: Annotated[Path | None, Parameter(help="YAML file of an experiment; flags go over it.")] = None,
    *,
    place: Place | None = None,
    flags: BuildFlags | None = None,
    export: ExportFlags | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Fine-tune, merge, export, quantise and verify variants. What is done already is kept.

    Example: deploycost build --method stacked --model minilm --dataset demo
    """
    place = place or Place()
    run = new_run(place.runs_dir, place.run or DEFAULT_RUN_NAME)
    wanted = asked(run, experiment, flags, export)
    require_readers(flags, wanted.methods)
    material = pipeline.gather(wanted)
    with run.locked():
        whole = run.adopt(wanted)
        refused = pipeline.build(run, wanted, material, say)
        slugs = {whole.method_slug(method) for method in wanted.methods}
        built = [variant for variant in pipeline.variants_of(run) if variant.tuning.slug in slugs]
        tunings = [tuning for tuning in answers.tunings_of(run) if tuning.slug in slugs]
    if json:
        trainings = [tuning.model_dump(mode="json") for tuning in tunings]
        show_json({"variants": [as_json(run, variant) for variant in built], "trainings": trainings})
    else:
        served = [methods_table(tuple(built), None, width()), fidelity_table(built, width())] if built else []
        show(*served[:1], *training_tables(tunings, answers.profiles_of(run, tunings), width()), *served[1:])
    if refused:
        raise NoAnswer("; ".join(refused))
    return 0


def as_json(run: Run, variant: Variant) -> dict[str, Any]:
    """One variant as `build --json` and scripts know it."""
    tuning, export = variant.tuning, variant.export
    return {
        "variant": variant.name,
        "method": tuning.method,
        "artifact": export.artifact,
        "accuracy": export.scores.accuracy,
        "macro_f1": export.scores.macro_f1,
        "precision": export.scores.precision,
        "recall": export.scores.recall,
        "training_s": tuning.training_s,
        "peak_memory_bytes": tuning.peak_memory_bytes,
        "trainable_parameters": tuning.trainable_parameters,
        "bundle": str(run.artifact_folder(tuning.slug, export.artifact) / "bundle"),
        "size_bytes": export.size_bytes,
        "parity": export.parity.model_dump(),
        "engine": export.engine,
        "calibration_error": export.calibration_error,
        "trained_calibration_error": export.trained_calibration_error,
        "accuracy_drop": export.accuracy_drop.model_dump() | {"flagged": export.accuracy_drop.flagged}
        if export.accuracy_drop is not None
        else None,
        "calibration": export.calibration,
        "shared_bytes": export.shared_bytes,
        "vocabulary": export.vocabulary.model_dump() if export.vocabulary is not None else None,
    }
