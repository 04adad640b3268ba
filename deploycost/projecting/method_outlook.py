"""What is known of each method before it is trained: the memory model against a budget, studies for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploycost.encoder_shape import EncoderShape
from deploycost.experiment import DatasetSpec, Experiment, MethodName, TrainingSpec
from deploycost.methods import METHODS, Method
from deploycost.projecting.method_evidence import (
    Asked,
    Evidence,
    KnownStudy,
    best_evidence,
    mean_tokens,
    measured_memory,
    prediction_ratios,
)
from deploycost.records import Figure, weakest
from deploycost.study_record import conditions_of
from deploycost.training_memory import Setting, TrainingLoad, load_of, predict, trainable_parameters
from deploycost.verdicts import MethodOutlook

_UNKNOWN = Figure(value=None, basis="assumed")
_NO_EVIDENCE = "no study measured it beside full"


@dataclass(frozen=True)
class MethodQuestion:
    """What is to be trained on what, within which limits; `dataset.source` is a name.

    `dataset_is_known` is whether it is the user's own word. `machine` is the one that is trained on, as studies name
    it, None where it is not known. `budget_note` says whose the budget is where it is not the user's.
    """

    memory_budget_bytes: int
    max_accuracy_drop: float
    base_model: str
    dataset: DatasetSpec
    dataset_is_known: bool
    shape: EncoderShape
    training: TrainingSpec
    setting: Setting
    machine: str | None = None
    budget_note: str = ""

    @property
    def texts(self) -> str | None:
        """The name of what is trained on, None where it is not said."""
        return self.dataset.source if self.dataset_is_known else None


def outlook(question: MethodQuestion, method: MethodName, studies: Sequence[KnownStudy]) -> MethodOutlook:
    """What is known of one method, with the first settings that fit the budget, else with those asked for."""
    tried = list(settings_tried(question, method))
    figures = [memory_of(question, method, spec, studies) for spec in tried]
    fitting = [i for i, (memory, _) in enumerate(figures) if (memory.value or 0) <= question.memory_budget_bytes]
    at = fitting[0] if fitting else 0
    (memory, memory_source), spec = figures[at], tried[at]
    evidence = best_evidence(studies, evidence_asked(question, method))
    drop, drop_source = _accuracy_drop(method, evidence, same_batch=spec.batch_size == tried[0].batch_size)
    speed, speed_source = _speed(question, method, evidence, adapted=at > 0)
    serving, serving_source = _serving(question, method, evidence, studies)
    load = load_of(METHODS[method], spec, question.shape, question.setting)
    return MethodOutlook(
        method=method,
        slug=slug_of(question, method),
        trainable_parameters=trainable_parameters(question.shape, load),
        batch_size=load.batch_size,
        gradient_checkpointing=spec.gradient_checkpointing,
        adapted=at > 0,
        fits=bool(fitting),
        memory_bytes=memory,
        memory_source=memory_source,
        accuracy_drop=drop,
        accuracy_source=drop_source,
        accuracy_differences=evidence.differences if evidence and drop.value is not None and method != "full" else (),
        training_speed_ratio=speed,
        training_source=speed_source,
        training_machine=evidence.machine if evidence and speed.value is not None and method != "full" else None,
        serving_cost_ratio=serving,
        serving_source=serving_source,
    )


def serving_work_ratio(shape: EncoderShape, load: TrainingLoad, text_tokens: float) -> float:
    """Multiplications for one text with what a method adds, over those without it.

    A layer's matrices take one multiplication per weight and token; attention two per width, token and key; a
    bottleneck two per its width, the layer's width and token (Vaswani et al., 2017; Houlsby et al., 2019).
    """
    weights = shape.matrix_parameters / shape.layers

    def layer(tokens: float, keys: float) -> float:
        return tokens * (weights + 2 * shape.hidden * keys)

    seen = text_tokens + load.input_tokens
    bottlenecks = 2 * load.bottlenecks_per_layer * load.bottleneck_width * shape.hidden * seen
    work = shape.layers * (layer(seen, seen) + bottlenecks)
    work += load.prompted_layers * seen * 2 * shape.hidden * load.layer_tokens
    return work / (shape.layers * layer(text_tokens, text_tokens))


def settings_tried(question: MethodQuestion, method: MethodName) -> Iterator[TrainingSpec]:
    """The settings asked for, then those that take less and less memory: checkpointing first, as it changes no
    result, then smaller batches, which train differently."""
    asked, batch = question.training, asked_batch_size(question, method)
    checkpointing = (True,) if asked.gradient_checkpointing else (False, True)
    while batch >= 1:
        for on in checkpointing:
            yield asked.model_copy(update={"batch_size": batch, "gradient_checkpointing": on})
        batch //= 2


def memory_of(
    question: MethodQuestion, method: MethodName, spec: TrainingSpec, studies: Sequence[KnownStudy]
) -> tuple[Figure, str]:
    """The peak of training by a method with these settings: measured where a study has it, else by the model."""
    source = _memory_source(question)
    load = load_of(METHODS[method], spec, question.shape, question.setting)
    predicted = predict(question.shape, load).total
    measured = measured_memory(studies, evidence_asked(question, method), predicted, source)
    if measured:
        return measured
    ratios = prediction_ratios(studies, source)
    if not ratios:
        return Figure(value=predicted, basis="projected"), "memory model, not checked on this kind of device"
    told = f"memory model; {len(ratios)} trainings took {min(ratios):.2f} to {max(ratios):.2f} times what it predicts"
    low, high = min(1.0, *ratios), max(1.0, *ratios)
    return Figure(value=predicted, low=predicted * low, high=predicted * high, basis="projected"), told


def _accuracy_drop(method: MethodName, evidence: Evidence | None, *, same_batch: bool) -> tuple[Figure, str]:
    if method == "full":
        if same_batch:
            return Figure(value=0.0), "the reference itself"
        return _UNKNOWN, "with smaller batches it is not the reference"
    if evidence is None:
        return _UNKNOWN, _NO_EVIDENCE
    drop = evidence.accuracy_drop
    if same_batch:
        return drop, evidence.source
    changed = drop.model_copy(update={"basis": weakest(drop.basis, "assumed")})
    return changed, f"{evidence.source}, taken to hold at a smaller batch"


def _speed(
    question: MethodQuestion, method: MethodName, evidence: Evidence | None, *, adapted: bool
) -> tuple[Figure, str]:
    if adapted:
        return _UNKNOWN, "not measured with these settings"
    if method == "full":
        return Figure(value=1.0), "the reference itself"
    if evidence is None:
        return _UNKNOWN, _NO_EVIDENCE
    if evidence.kind != _memory_source(question):
        return _UNKNOWN, f"measured on another kind of device only ({evidence.source})"
    if evidence.machine is None:
        return _UNKNOWN, f"measured on another machine than full was ({evidence.source})"
    if not evidence.batches_are_comparable:
        return _UNKNOWN, f"measured with other batches than full was ({evidence.source})"
    return evidence.training_speed_ratio(question.machine), f"{evidence.source}, on {evidence.machine}"


def _serving(
    question: MethodQuestion, name: MethodName, evidence: Evidence | None, studies: Sequence[KnownStudy]
) -> tuple[Figure, str]:
    method = METHODS[name]
    if _merges(method):
        return Figure(value=1.0, basis="projected"), "the very graph of full once merged"
    measured = evidence.serving_cost_ratio if evidence else None
    if evidence and measured and evidence.slug == slug_of(question, name):
        return measured, evidence.source
    tokens = mean_tokens(studies, question.texts)
    load = load_of(method, question.training, question.shape, question.setting)
    ratio = serving_work_ratio(question.shape, load, tokens or question.setting.tokens)
    return Figure(value=ratio, basis="projected" if tokens else "assumed"), (
        f"multiplications for a text of {tokens or question.setting.tokens:.0f} tokens"
    )


def _merges(method: Method) -> bool:
    return method.prompting == "none" and not method.bottlenecks


def _memory_source(question: MethodQuestion) -> str:
    return "gpu" if question.setting.device == "cuda" else "process"


def evidence_asked(question: MethodQuestion, method: MethodName) -> Asked:
    """The training by a method that the question asks for, as evidence of it is sought."""
    conditions, of_full = (conditions_of(each, question.training, question.dataset) for each in (method, "full"))
    return Asked(method, slug_of(question, method), question.base_model, question.texts, conditions, of_full)


def slug_of(question: MethodQuestion, method: MethodName) -> str:
    """The method's name with the hyper-parameters asked for."""
    return Experiment(training=question.training).method_slug(method)


def asked_batch_size(question: MethodQuestion, method: str) -> int:
    """Rows in a batch as asked for, else as the method has by default."""
    usual = next(each.batch_size for name, each in METHODS.items() if name == method)
    return question.training.batch_size or usual
