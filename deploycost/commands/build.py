"""`deploycost build`: tune, merge, export, quantise, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from deploycost import answers, pipeline, sources
from deploycost.commands.options import BringFlags, BuildFlags, ExportFlags, Place, asked, require_readers
from deploycost.commands.output import say, show, show_json, width
from deploycost.errors import NoAnswer
from deploycost.records import Variant
from deploycost.reporting.tables import fidelity_table, model_tables, score_tables, training_tables
from deploycost.workspace import DEFAULT_RUN_NAME, Run, new_run


def build(
    experiment: Annotated[Path | None, Parameter(help="YAML file of an experiment; flags go over it.")] = None,
    *,
    place: Place | None = None,
    flags: BuildFlags | None = None,
    export: ExportFlags | None = None,
    bring: BringFlags | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Fine-tune, merge, export, quantise and verify variants, or bring a model (--from) that is trained already. What
    is done is kept.

    Example: deploycost build --method stacked --model minilm --dataset demo
    Example: deploycost build --from my-model/ --dataset tickets.csv
    """
    place = place or Place()
    run = new_run(place.runs_dir, place.run or DEFAULT_RUN_NAME)
    wanted = asked(run, experiment, flags, export, bring=bring)
    if wanted.methods:
        require_readers(flags, wanted.methods)
    found = sources.gather(wanted)
    with run.locked():
        run.adopt(found.experiment)
        refused = sources.build(run, found, say)
        slugs = sources.slugs_of(found.experiment)
        built = [variant for variant in pipeline.variants_of(run) if variant.tuning.slug in slugs]
        tunings = [tuning for tuning in answers.tunings_of(run) if tuning.slug in slugs]
    if json:
        trainings = [tuning.model_dump(mode="json") for tuning in tunings]
        show_json({"variants": [as_json(run, variant) for variant in built], "trainings": trainings})
    else:
        served = [fidelity_table(built, width()), *score_tables(built, width())] if built else []
        show(
            *model_tables(tuple(built), None, width()),
            *training_tables(tunings, answers.profiles_of(run, tunings), width()),
            *served,
        )
    if refused:
        raise NoAnswer("; ".join(refused))
    return 0


def as_json(run: Run, variant: Variant) -> dict[str, Any]:
    """One variant as `build --json` and scripts know it."""
    tuning, export = variant.tuning, variant.export
    scores = export.scores.model_dump() if export.scores is not None else {}
    return {
        "variant": variant.name,
        "method": tuning.method,
        "artifact": export.artifact,
        "task": tuning.task,
        "accuracy": export.accuracy,
        **{name: scores.get(name) for name in ("macro_f1", "precision", "recall")},
        "scores": scores or None,
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
