"""Which method to fine-tune with, before anything is trained: the memory model against a budget, studies for the rest.

The rule: of the methods that fit the budget and keep accuracy, by estimate, within the limit, the cheapest to serve;
of those about as cheap the fastest to train; of those about as fast the most accurate. A method without evidence is
taken to keep accuracy, but never preferred over one with evidence; nor is one that fits only with smaller batches than
asked for over one like it that fits as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from deploycost.encoder_shape import EncoderShape
from deploycost.experiment import Experiment, MethodName, TrainingSpec
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
from deploycost.training_memory import Setting, TrainingLoad, load_of, predict, trainable_parameters
from deploycost.units import MIB, bytes_text, points
from deploycost.verdicts import MethodAdvice, MethodOutlook

# Costs and speeds nearer than this are told apart by noise.
_SERVING_TOLERANCE, _SPEED_TOLERANCE = 0.01, 0.05
_ROUNDING = 1e-9
_UNKNOWN = Figure(value=None, basis="assumed")
_NO_EVIDENCE = "no study measured it beside full"


@dataclass(frozen=True)
class MethodQuestion:
    """What is to be trained on what, within which limits; `dataset` None where it is not said."""

    memory_budget_bytes: int
    max_accuracy_drop: float
    base_model: str
    dataset: str | None
    shape: EncoderShape
    training: TrainingSpec
    setting: Setting


def advise(question: MethodQuestion, studies: Sequence[KnownStudy]) -> MethodAdvice:
    """What is known of every method, the one to choose, and why.

    `choice` is None where none fits or none keeps accuracy; `reason` then says what would change that.
    """
    outlooks = tuple(outlook(question, method, studies) for method in METHODS)
    fitting = [each for each in outlooks if each.fits]
    accurate = [each for each in fitting if _keeps(question, each)]
    if accurate:
        pool = _most_certain(question, accurate)
        chosen = _first(pool)
        reason, doubts = _reason(question, chosen, fitting, pool), _doubts(question, chosen)
    else:
        chosen, doubts = None, ()
        reason = _why_none_is_accurate(question, fitting) if fitting else _why_none_fits(question, studies)
    return MethodAdvice(
        base_model=question.base_model,
        dataset=question.dataset,
        device=question.setting.device,
        memory_budget_bytes=question.memory_budget_bytes,
        max_accuracy_drop=question.max_accuracy_drop,
        outlooks=outlooks,
        choice=chosen.slug if chosen else None,
        reason=reason,
        doubts=doubts,
        evidence=_used(question, studies),
    )


def outlook(question: MethodQuestion, method: MethodName, studies: Sequence[KnownStudy]) -> MethodOutlook:
    """What is known of one method, with the first settings that fit the budget, else with those asked for."""
    tried = list(_settings(question, method))
    figures = [_memory(question, method, spec, studies) for spec in tried]
    fitting = [i for i, (memory, _) in enumerate(figures) if (memory.value or 0) <= question.memory_budget_bytes]
    at = fitting[0] if fitting else 0
    (memory, memory_source), spec = figures[at], tried[at]
    evidence = best_evidence(studies, _asked(question, method))
    drop, drop_source = _accuracy_drop(method, evidence, same_batch=spec.batch_size == tried[0].batch_size)
    speed, speed_source = _speed(question, method, evidence, adapted=at > 0)
    serving, serving_source = _serving(question, method, evidence, studies)
    load = load_of(METHODS[method], spec, question.shape, question.setting)
    return MethodOutlook(
        method=method,
        slug=_slug(question, method),
        trainable_parameters=trainable_parameters(question.shape, load),
        batch_size=load.batch_size,
        gradient_checkpointing=spec.gradient_checkpointing,
        adapted=at > 0,
        fits=bool(fitting),
        memory_bytes=memory,
        memory_source=memory_source,
        accuracy_drop=drop,
        accuracy_source=drop_source,
        training_speed_ratio=speed,
        training_source=speed_source,
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


def _settings(question: MethodQuestion, method: MethodName) -> Iterator[TrainingSpec]:
    """The settings asked for, then those that take less and less memory: checkpointing first, as it changes no
    result, then smaller batches, which train differently."""
    asked, batch = question.training, _batch_size(question, method)
    checkpointing = (True,) if asked.gradient_checkpointing else (False, True)
    while batch >= 1:
        for on in checkpointing:
            yield asked.model_copy(update={"batch_size": batch, "gradient_checkpointing": on})
        batch //= 2


def _memory(
    question: MethodQuestion, method: MethodName, spec: TrainingSpec, studies: Sequence[KnownStudy]
) -> tuple[Figure, str]:
    source = "gpu" if question.setting.device == "cuda" else "process"
    load = load_of(METHODS[method], spec, question.shape, question.setting)
    predicted = predict(question.shape, load).total
    measured = measured_memory(studies, _asked(question, method), predicted, source)
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
    source = "gpu" if question.setting.device == "cuda" else "process"
    if any(each.memory_source != source for each in evidence.method):
        return _UNKNOWN, f"measured on another kind of device only ({evidence.source})"
    return evidence.training_speed_ratio, evidence.source


def _serving(
    question: MethodQuestion, name: MethodName, evidence: Evidence | None, studies: Sequence[KnownStudy]
) -> tuple[Figure, str]:
    method = METHODS[name]
    if _merges(method):
        return Figure(value=1.0, basis="projected"), "the very graph of full once merged"
    measured = evidence.serving_cost_ratio if evidence else None
    if evidence and measured and evidence.slug == _slug(question, name):
        return measured, evidence.source
    tokens = mean_tokens(studies, question.dataset)
    load = load_of(method, question.training, question.shape, question.setting)
    ratio = serving_work_ratio(question.shape, load, tokens or question.setting.tokens)
    return Figure(value=ratio, basis="projected" if tokens else "assumed"), (
        f"multiplications for a text of {tokens or question.setting.tokens:.0f} tokens"
    )


def _merges(method: Method) -> bool:
    return method.prompting == "none" and not method.bottlenecks


def _asked(question: MethodQuestion, method: MethodName) -> Asked:
    return Asked(method, _slug(question, method), question.base_model, question.dataset)


def _slug(question: MethodQuestion, method: MethodName) -> str:
    return Experiment(training=question.training).method_slug(method)


def _most_certain(question: MethodQuestion, accurate: Sequence[MethodOutlook]) -> list[MethodOutlook]:
    """Those with evidence, batches as asked; else those with evidence; else batches as asked; else all."""

    def certainty(each: MethodOutlook) -> tuple[bool, bool]:
        return each.has_evidence, each.batch_size == _batch_size(question, each.method)

    most = max(map(certainty, accurate))
    return [each for each in accurate if certainty(each) == most]


def _batch_size(question: MethodQuestion, method: str) -> int:
    usual = next(each.batch_size for name, each in METHODS.items() if name == method)
    return question.training.batch_size or usual


def _first(pool: Sequence[MethodOutlook]) -> MethodOutlook:
    cheap = _cheapest(pool)
    fastest = max(_pace(each) for each in cheap)
    fast = [each for each in cheap if _pace(each) >= fastest * (1 - _SPEED_TOLERANCE)]
    return min(fast, key=lambda each: (each.accuracy_drop.value or 0.0, -_pace(each)))


def _cheapest(pool: Sequence[MethodOutlook]) -> list[MethodOutlook]:
    least = min(_cost(each) for each in pool)
    return [each for each in pool if _cost(each) <= least * (1 + _SERVING_TOLERANCE)]


def _keeps(question: MethodQuestion, each: MethodOutlook) -> bool:
    """Whether it keeps accuracy within the limit by estimate; without evidence that is assumed."""
    # Accuracies are ratios of counts: what differs by less is equal.
    return (each.accuracy_drop.value or 0.0) <= question.max_accuracy_drop + _ROUNDING


def _cost(each: MethodOutlook) -> float:
    # Nothing is cheaper than the bare graph: a ratio measured below 1 is noise.
    return max(1.0, each.serving_cost_ratio.value or 1.0)


def _pace(each: MethodOutlook) -> float:
    # Unknown counts as slower than anything known.
    return each.training_speed_ratio.value or 0.0


def _reason(
    question: MethodQuestion, chosen: MethodOutlook, fitting: Sequence[MethodOutlook], pool: Sequence[MethodOutlook]
) -> str:
    known = [each for each in fitting if each.has_evidence]
    kept = sum(_keeps(question, each) for each in known)
    limit = points(question.max_accuracy_drop)
    cheap = _cheapest(pool)
    adapted = sum(each.adapted for each in fitting)
    only = f", {adapted} of them only with checkpointing or smaller batches" if adapted else ""
    told = [
        f"{len(fitting)} of {len(METHODS)} methods train within {bytes_text(question.memory_budget_bytes)}{only}",
        f"of these {kept} lose at most {limit} to full by estimate, {len(known) - kept} more than that, and of "
        f"{len(fitting) - len(known)} it is not known",
        f"{_pool_text(question, chosen)}, the cheapest to serve: {', '.join(each.slug for each in cheap)}",
    ]
    if len(cheap) > 1:
        told.append(f"of these {chosen.slug} {_pace_text(chosen, cheap)}")
    return "; ".join(told) + "."


def _pool_text(question: MethodQuestion, chosen: MethodOutlook) -> str:
    known = "those that keep to the limit" if chosen.has_evidence else "those of which it is not known"
    smaller = chosen.batch_size != _batch_size(question, chosen.method)
    return f"among {known}{', with smaller batches than asked for' if smaller else ''}"


def _pace_text(chosen: MethodOutlook, cheap: Sequence[MethodOutlook]) -> str:
    fastest = max(cheap, key=_pace)
    if not _pace(fastest):
        return "comes first in the table, as no speed of training is known"
    ratio = "" if fastest.method == "full" else f" ({_pace(fastest):.2f} times as fast as full)"
    if fastest.slug == chosen.slug:
        return f"trains fastest{ratio}"
    return f"is the most accurate that trains about as fast as the fastest, {fastest.slug}{ratio}"


def _doubts(question: MethodQuestion, chosen: MethodOutlook) -> tuple[str, ...]:
    told = []
    drop, memory = chosen.accuracy_drop, chosen.memory_bytes
    if drop.value is None:
        told.append(f"No study measured the accuracy of {chosen.slug}: that it keeps to the limit is assumed.")
    elif drop.high is not None and drop.high > question.max_accuracy_drop:
        told.append(
            f"The interval of its accuracy drop reaches {points(drop.high)}: the limit of "
            f"{points(question.max_accuracy_drop)} may be missed."
        )
    if drop.value is not None and drop.basis == "projected":
        told.append("Its accuracy was measured on another data set than yours.")
    if drop.value is not None and drop.basis == "assumed":
        told.append("Its accuracy was measured with other hyper-parameters or another base model.")
    if memory.high is not None and memory.high > question.memory_budget_bytes:
        told.append(
            f"Trainings took up to {memory.high / (memory.value or 1):.2f} times what was predicted: "
            f"{bytes_text(memory.high)} would not fit."
        )
    if chosen.adapted:
        told.append("It fits only with the settings shown, which train slower than those asked for.")
    return tuple(told)


def _why_none_is_accurate(question: MethodQuestion, fitting: Sequence[MethodOutlook]) -> str:
    nearest = min(fitting, key=lambda each: each.accuracy_drop.value or 0.0)
    return (
        f"none of the {len(fitting)} methods that train within {bytes_text(question.memory_budget_bytes)} loses at "
        f"most {points(question.max_accuracy_drop)} to full: the nearest is {nearest.slug} with "
        f"{points(nearest.accuracy_drop.value or 0.0)}; relax --max-accuracy-drop or give a larger --memory-budget"
    )


def _why_none_fits(question: MethodQuestion, studies: Sequence[KnownStudy]) -> str:
    least = [
        (_memory(question, method, spec, studies)[0].value or 0.0, _slug(question, method), spec)
        for method in METHODS
        for spec in _settings(question, method)
    ]
    needed, slug, spec = min(least, key=lambda each: each[0])
    checkpointing = " and gradient checkpointing" if spec.gradient_checkpointing else ""
    return (
        f"no method trains {question.base_model} within {bytes_text(question.memory_budget_bytes)}: the smallest is "
        f"{slug} with batches of {spec.batch_size}{checkpointing}; give --memory-budget {ceil(needed / MIB)}MiB, or a "
        "smaller --model"
    )


def _used(question: MethodQuestion, studies: Sequence[KnownStudy]) -> tuple[str, ...]:
    found = (best_evidence(studies, _asked(question, method)) for method in METHODS if method != "full")
    return tuple(dict.fromkeys(each.study.description for each in found if each))
