"""Where the models of a run come from: tuned here by methods, or brought. Exports start from the records of either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycost import pipeline
from deploycost.brought_model import BroughtModel, find_brought
from deploycost.dataset import Dataset
from deploycost.encoder_shape import shape_of
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import ArtifactName, Experiment, Frozen, make_experiment
from deploycost.exporting.artifacts import ARTIFACTS, buildable
from deploycost.method_fit import require_fit
from deploycost.pipeline import Material, Say, export_is_done, finished, run_worker, tell_limit
from deploycost.records import BroughtRecord
from deploycost.task_dataset import load_texts
from deploycost.units import MIB
from deploycost.workspace import Run, fingerprint, require_space

# Raised when a change of ours makes earlier results stale.
_BRINGING_RULES = 2
# Two bundles and their unfinished copies; a large encoder needs more.
_SPACE_BYTES = 400 * MIB
LOGITS_FILE = "trained_logits.safetensors"


class BringJob(Frozen):
    """What the child process that reads and exports one brought model is told, on its standard input."""

    run_folder: Path
    experiment: Experiment
    name: str
    bringing_fingerprint: str


@dataclass(frozen=True)
class Sources:
    """What the models of a run are made of. `experiment` is the one asked for, its task settled."""

    experiment: Experiment
    dataset: Dataset[Any]
    tuned: Material | None
    brought: tuple[BroughtModel, ...]


def gather(experiment: Experiment) -> Sources:
    """Finds the data set, the base model where anything is tuned, and the models that are brought.

    Raises:
        UserError: one of them cannot be had, is not fit, the models are not all of one task, or a method does not fit
            its base model.
    """
    brought = tuple(find_brought(spec) for spec in experiment.brought)
    experiment = _settled(experiment, brought)
    if experiment.methods:
        material = pipeline.gather(experiment)
        require_fit(experiment.methods, experiment.training, shape_of(material.base.place), material.base.name)
        return Sources(experiment, material.dataset, material, brought)
    return Sources(experiment, load_texts(experiment.dataset, experiment.training.seed), None, brought)


def build(run: Run, sources: Sources, say: Say) -> list[str]:
    """Makes what is not done yet of each model and its artifacts, in a child process each.

    Returns:
        One line for each artifact that was refused.

    Raises:
        UserError: a model cannot be made; those before it are kept.
    """
    refused = pipeline.build(run, sources.experiment, sources.tuned, say) if sources.tuned else []
    for brought in sources.brought:
        refused += _bring(run, sources, brought, say)
    return refused


def slugs_of(experiment: Experiment) -> set[str]:
    """The folders of all models that an experiment asks for."""
    return {*map(experiment.method_slug, experiment.methods), *(spec.name for spec in experiment.brought)}


def bringing_fingerprint(experiment: Experiment, brought: BroughtModel, dataset: Dataset[Any]) -> str:
    """A digest of all that decides what reading a brought model comes to."""
    spec = brought.spec.model_dump(include={"bits", "max_tokens"})
    return fingerprint(_BRINGING_RULES, brought.digest, spec, experiment.dataset.task, dataset.fingerprint)


def record_in(run: Run, name: str, mark: str) -> BroughtRecord | None:
    """The record of a brought model that was read before under the same inputs, its answers beside it."""
    folder = run.method_folder(name)
    record = finished(folder / "brought.json", BroughtRecord, mark)
    return record if (folder / "answers" / LOGITS_FILE).is_file() else None


def makeable(brought: BroughtModel, artifacts: tuple[ArtifactName, ...]) -> tuple[list[ArtifactName], list[str]]:
    """The artifacts that can be made of a brought model, and a line for each that cannot."""
    of_network = [name for name in artifacts if brought.kind == "onnx" and ARTIFACTS[name].from_network]
    lines = [
        f"{brought.spec.name}.{name} needs a network, and an ONNX file holds only its graph; bring the folder that "
        "the graph was exported from"
        for name in of_network
    ]
    return [name for name in artifacts if name not in of_network], lines


def _bring(run: Run, sources: Sources, brought: BroughtModel, say: Say) -> list[str]:
    experiment, name = sources.experiment, brought.spec.name
    mark = bringing_fingerprint(experiment, brought, sources.dataset)
    names, left_out = buildable(experiment.artifacts)
    for line in left_out:
        say(line)
    artifacts, refused = makeable(brought, names)
    record = record_in(run, name, mark)
    due = [each for each in artifacts if record is None or not export_is_done(run, record, each, experiment)]
    tell_limit(run, name, experiment)
    if record is not None and not due:
        say(f"{name}: done before, kept")
        return refused
    require_space(run.folder, _SPACE_BYTES)
    say(f"{name}: {', '.join([*(['reading'] if record is None else []), *due])}")
    told = experiment.model_copy(update={"artifacts": tuple(artifacts)})
    job = BringJob(run_folder=run.folder, experiment=told, name=name, bringing_fingerprint=mark)
    try:
        run_worker(job, name, "a smaller model, or a machine with more memory")
    except NoAnswer as answer:
        say(str(answer))
        refused.append(str(answer))
    return refused


def _settled(experiment: Experiment, brought: tuple[BroughtModel, ...]) -> Experiment:
    """The experiment with the task of the models that it brings."""
    tasks = {each.spec.name: each.task for each in brought}
    if len(set(tasks.values())) > 1:
        told = ", ".join(f"{name} {task}" for name, task in tasks.items())
        raise UserError(f"one run is of one task, and these models are not ({told}); start another with --run NAME")
    if not tasks:
        return experiment
    content = experiment.model_dump(mode="json")
    content["dataset"]["task"] = next(iter(tasks.values()))
    return make_experiment(content)
