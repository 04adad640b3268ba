"""Questions about methods before anything is trained: gathers the encoder's shape, the device and the studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deploycost.base_model import locate_model
from deploycost.encoder_shape import EncoderShape, shape_of
from deploycost.environment import has_fast_bf16, machine_facts
from deploycost.errors import UserError, unknown_name
from deploycost.experiment import DatasetSpec, Experiment, MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.projecting.method_evidence import KnownStudy
from deploycost.projecting.method_outlook import MethodQuestion
from deploycost.records import read_record
from deploycost.study_record import StudyRecord, cell_run_folder, machine_name
from deploycost.training_memory import Device, Setting, load_of, predict, trainable_parameters
from deploycost.units import GIB, bytes_text
from deploycost.user_path import user_path
from deploycost.verdicts import MethodFacts
from deploycost.workspace import Run, open_run
from pricing.book import load_book

# A label more is one row of the classifier: a few KiB, whatever the method.
_LABELS = 4


@dataclass(frozen=True)
class TrainingDevice:
    """What is trained on: `memory_bytes` is that of one accelerator, None where it is not known.

    `machine` is the one at hand, as studies name it; None where it is another.
    """

    name: str
    kind: Device
    memory_bytes: int | None = None
    machine: str | None = None


def training_device(name: str | None) -> TrainingDevice:
    """The device of that name: cpu, cuda or an accelerator of the price book; None: this machine's.

    Raises:
        UserError: there is no such device.
    """
    if name is None:
        facts = machine_facts()
        gpu = facts.gpu_model
        return TrainingDevice(gpu or "cpu", "cuda" if gpu else "cpu", machine=machine_name(facts))
    if name.lower() in ("cpu", "cuda"):
        return TrainingDevice(name.lower(), "cuda" if name.lower() == "cuda" else "cpu")
    memories = _accelerator_memories()
    known = {accelerator.lower(): accelerator for accelerator in memories}
    if name.lower() not in known:
        raise unknown_name("device", name, ["cpu", "cuda", *memories])
    accelerator = known[name.lower()]
    return TrainingDevice(accelerator, "cuda", memories[accelerator])


def known_studies(runs_dir: Path) -> tuple[list[KnownStudy], list[str]]:
    """The user's own studies, the newest first, then those that came with the product.

    Returns:
        The studies, and a line for each of the user's that is damaged or of another format and so left out.
    """
    own, left_out = [], []
    for path in _own_results(runs_dir):
        try:
            own.append(KnownStudy(read_record(path, StudyRecord), own=True))
        except UserError as error:
            left_out.append(f"left out as evidence: {error}")
    own.sort(key=lambda study: study.record.made_at, reverse=True)
    return [*own, *(KnownStudy(record, own=False) for record in shipped_results())], left_out


def shipped_results() -> list[StudyRecord]:
    """The results of studies that come with the product, by name."""
    folder = resources.files("deploycost") / "studies" / "results"
    if not folder.is_dir():
        return []
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".json")), key=lambda each: each.name)
    return [StudyRecord.model_validate_json(each.read_text(encoding="utf-8")) for each in files]


def usual_experiment(runs_dir: Path, run: str | None) -> Experiment | None:
    """What a question is about unless it says: the run named, else the user's newest run or study, whichever was
    changed last; None where there is neither.

    Of a study, what all its cells have in common.

    Raises:
        UserError: there is no run of that name, or a record is damaged.
    """
    changed = {path: path.stat().st_mtime_ns for path in (*runs_dir.glob("*/experiment.yaml"), *_own_results(runs_dir))}
    newest = max(changed, key=changed.__getitem__, default=None)
    if run is not None or (newest is not None and newest.name == "experiment.yaml"):
        return open_run(runs_dir, run).experiment()
    return None if newest is None else _experiment_of(read_record(newest, StudyRecord), runs_dir)


def _experiment_of(study: StudyRecord, runs_dir: Path) -> Experiment:
    """What the cells of a study have in common, from their runs: there the model and the texts have their place and
    not only their name. Of a study without its runs, the names."""
    runs = [Run(cell_run_folder(runs_dir, each.slug, each.experiment_digest)) for each in study.results]
    cells = [run.experiment() for run in runs if run.experiment_path.exists()]
    if not cells:
        return Experiment(model=study.base_model, dataset=DatasetSpec(source=study.dataset))
    every = [cell.training.model_dump(mode="json") for cell in cells]
    common = {name: value for name, value in every[0].items() if all(each[name] == value for each in every)}
    return Experiment(model=cells[0].model, dataset=cells[0].dataset, training=TrainingSpec.model_validate(common))


def method_question(experiment: Experiment, device: TrainingDevice, *, dataset_is_known: bool) -> MethodQuestion:
    """The question which method to train by, with the base model's shape and the device in it.

    `dataset_is_known` is whether the experiment's data set is the user's own word. The budget is
    `training.dynamic.memory_budget`, or the accelerator's memory where that is less. The method `dynamic` is asked
    about at its mean rank.

    Raises:
        UserError: there is no budget, the model cannot be had, or its architecture is not understood.
    """
    asked, there = experiment.training.dynamic.memory_budget, device.memory_bytes
    budgets = [size for size in (asked, there) if size is not None]
    if not budgets:
        raise UserError("no memory budget to choose a method by: give --memory-budget, as in 4GiB")
    capped = asked is not None and there is not None and there < asked
    shape = _shape(experiment.model)
    dynamic = experiment.training.dynamic.model_copy(update={"memory_budget": None})
    training = experiment.training.model_copy(update={"dynamic": dynamic})
    return MethodQuestion(
        memory_budget_bytes=min(budgets),
        max_accuracy_drop=experiment.quote.max_accuracy_drop,
        base_model=_plain_name(experiment.model),
        dataset=experiment.dataset.model_copy(update={"source": _plain_name(experiment.dataset.source)}),
        dataset_is_known=dataset_is_known,
        shape=shape,
        training=training,
        setting=_setting(training, shape, device),
        machine=device.machine,
        budget_note=f"{bytes_text(there)} is all that a {device.name} has, of {bytes_text(asked)} asked for; "
        if capped
        else "",
    )


def method_facts(
    experiment: Experiment, device: TrainingDevice, flags: Callable[[MethodName], dict[str, str]]
) -> list[MethodFacts]:
    """Every method with its settings in an experiment and what it takes; `flags` gives a method's with their values.

    Raises:
        UserError: the model cannot be had, or its architecture is not understood.
    """
    shape, training = _shape(experiment.model), experiment.training
    setting = _setting(training, shape, device)
    facts = []
    for name, method in METHODS.items():
        load, rates = load_of(method, training, shape, setting), method.learning_rates(training.learning_rate)
        facts.append(
            MethodFacts(
                method=name,
                summary=method.summary,
                serving_cost=method.serving_cost,
                flags=flags(name),
                batch_size=load.batch_size,
                learning_rate=rates.weights,
                prompt_learning_rate=rates.virtual_tokens or None,
                singular_value_learning_rate=rates.singular_values or None,
                bits=method.bits(training.bits),
                trainable_parameters=trainable_parameters(shape, load),
                head_parameters=shape.head_parameters(_LABELS),
                predicted_memory=predict(shape, load),
            )
        )
    return facts


def _own_results(runs_dir: Path) -> list[Path]:
    return list(runs_dir.glob("study-*/study.json"))


def _shape(model: str) -> EncoderShape:
    return shape_of(locate_model(model).place)


def _setting(training: TrainingSpec, shape: EncoderShape, device: TrainingDevice) -> Setting:
    return Setting(
        labels=_LABELS,
        tokens=min(training.max_tokens, shape.positions),
        half_precision=training.mixed_precision and (device.kind == "cuda" or has_fast_bf16()),
        device=device.kind,
    )


def _plain_name(source: str) -> str:
    """The name without the folder that it lies in on this machine, as records have it."""
    path = user_path(source)
    return path.resolve().name if path.exists() else source


def _accelerator_memories() -> dict[str, int]:
    """Bytes of each accelerator of the price book, the least where cards of one name differ."""
    memories: dict[str, int] = {}
    for offer in load_book().offers:
        if offer.accelerator_name and offer.accelerator_memory_gib:
            size = int(offer.accelerator_memory_gib * GIB)
            memories[offer.accelerator_name] = min(size, memories.get(offer.accelerator_name, size))
    return dict(sorted(memories.items()))
