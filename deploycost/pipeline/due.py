"""Which stages are due: a stage is done when its record bears the mark of all that decides what comes of it."""

from __future__ import annotations

from pathlib import Path

from deploycost.errors import UserError
from deploycost.experiment import ArtifactName, Experiment, MethodName
from deploycost.exporting.artifacts import standing
from deploycost.methods import METHODS, decisive_fields
from deploycost.pipeline.material import Material
from deploycost.records import (
    ExportRecord,
    ModelRecord,
    ProfileRecord,
    RecordType,
    TuningRecord,
    read_record,
    write_record,
)
from deploycost.workspace import Run, fingerprint, write_text
from serving.bundle import BundleError, open_bundle

# Of the rules by which stages work: raised when a change of ours makes their earlier results stale.
_TUNING_RULES, _EXPORT_RULES = 4, 3


def tuning_fingerprint(experiment: Experiment, method: MethodName, material: Material) -> str:
    """A digest of all that decides what training by `method` comes to."""
    training = decisive_fields(METHODS[method], experiment.training)
    return fingerprint(_TUNING_RULES, material.base.digest, material.dataset.fingerprint, method, training)


def export_fingerprint(tuning: ModelRecord, artifact: ArtifactName, experiment: Experiment) -> str:
    """A digest of all that decides what exporting a tuned or brought model comes to."""
    aware = experiment.export.accuracy_aware and artifact == "openvino-int8"
    choices = experiment.export.model_dump(mode="json") | {"accuracy_aware": aware}
    if aware:  # operators are given back until this limit holds
        choices["max_accuracy_drop"] = experiment.quote.max_accuracy_drop
    return fingerprint(_EXPORT_RULES, tuning.fingerprint, tuning.finished_at, artifact, choices)


def due_stages(run: Run, experiment: Experiment, method: MethodName, tuning_mark: str) -> list[str]:
    """What is not done yet of one method: `tuning`, `profile` where asked for, and the artifacts to be exported."""
    slug = experiment.method_slug(method)
    # What this machine cannot build is refused or left out before (`build`), and never done.
    artifacts: list[ArtifactName] = [name for name in experiment.artifacts if standing(name).ok]
    asked = experiment.telemetry.profile
    profile = ["profile"] if asked and not profile_is_done(run, slug, tuning_mark) else []
    tuning = finished(run.method_folder(slug) / "tuning.json", TuningRecord, tuning_mark)
    if tuning is None or not (run.method_folder(slug) / "adapter").is_dir():
        return ["tuning", *profile, *artifacts]
    return [*profile, *(name for name in artifacts if not export_is_done(run, tuning, name, experiment))]


def begun_at_step(run: Run, slug: str) -> int | None:
    """The step that an interrupted training of a method kept its last checkpoint at, or None."""
    names = [path.name.removeprefix("step-") for path in run.checkpoints_folder(slug).glob("step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def profile_is_done(run: Run, slug: str, tuning_mark: str) -> bool:
    """Whether the method's training steps were profiled under the same inputs."""
    folder = run.method_folder(slug) / "profile"
    record = finished(folder / "profile.json", ProfileRecord, tuning_mark)
    return record is not None and (folder / record.trace_file).is_file()


def export_is_done(run: Run, tuning: ModelRecord, artifact: ArtifactName, experiment: Experiment) -> bool:
    """Whether the artifact was exported from this very tuning, would pass again, and its bundle is as it was sealed."""
    folder = run.artifact_folder(tuning.slug, artifact)
    record = finished(folder / "export.json", ExportRecord, export_fingerprint(tuning, artifact, experiment))
    if record is None:
        return False
    if record.accuracy_drop is not None and record.accuracy_drop.low > experiment.quote.max_accuracy_drop:
        return False  # made when more might be given up: to be refused
    try:
        return open_bundle(folder / "bundle").digest == record.bundle_digest
    except BundleError:
        return False


def tell_limit(run: Run, slug: str, experiment: Experiment) -> None:
    """Writes what may be given up now into the records of artifacts that were judged by another limit.

    What they give up is as it was: whether that is too much is told by the limit.
    """
    limit = experiment.quote.max_accuracy_drop
    for name in experiment.artifacts:
        path = run.artifact_folder(slug, name) / "export.json"
        try:
            record = read_record(path, ExportRecord) if path.exists() else None
        except UserError:
            continue  # damaged: made anew
        if record is not None and record.accuracy_drop is not None and record.accuracy_drop.limit != limit:
            drop = record.accuracy_drop.model_copy(update={"limit": limit})
            write_text(path, write_record(record.model_copy(update={"accuracy_drop": drop})))


def finished(path: Path, kind: type[RecordType], mark: str) -> RecordType | None:
    """The record of a stage that finished with the same inputs, or None."""
    if not path.exists():
        return None
    try:
        record = read_record(path, kind)
    except UserError:
        return None  # damaged or of another format: as good as not done
    return record if getattr(record, "fingerprint", None) == mark else None
