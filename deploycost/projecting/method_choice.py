"""Which method to fine-tune with, before anything is trained: the memory model against a budget, studies for the rest.

The rule: of the methods that fit the budget and keep accuracy, by estimate, within the limit, the cheapest to serve;
of those about as cheap the fastest to train; of those about as fast the most accurate. Speed has no say where that of
one of them is not known, or where they were not measured on one machine. A method without evidence is taken to keep
accuracy, but never preferred over one with evidence; nor is one that fits only with smaller batches than asked for over
one like it that fits as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from deploycost.methods import METHODS
from deploycost.projecting.method_evidence import KnownStudy, best_evidence
from deploycost.projecting.method_outlook import (
    MethodQuestion,
    asked_batch_size,
    evidence_asked,
    memory_of,
    outlook,
    settings_tried,
    slug_of,
)
from deploycost.units import MIB, bytes_text, points
from deploycost.verdicts import MethodAdvice, MethodOutlook

# Costs and speeds nearer than this are told apart by noise.
_SERVING_TOLERANCE, _SPEED_TOLERANCE = 0.01, 0.05
_ROUNDING = 1e-9


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
        dataset=question.texts,
        device=question.setting.device,
        memory_budget_bytes=question.memory_budget_bytes,
        max_accuracy_drop=question.max_accuracy_drop,
        outlooks=outlooks,
        choice=chosen.slug if chosen else None,
        reason=f"{question.budget_note}{reason}",
        doubts=doubts,
        evidence=_used(question, studies),
    )


def _most_certain(question: MethodQuestion, accurate: Sequence[MethodOutlook]) -> list[MethodOutlook]:
    """Those with evidence, batches as asked; else those with evidence; else batches as asked; else all."""

    def certainty(each: MethodOutlook) -> tuple[bool, bool]:
        return each.has_evidence, each.batch_size == asked_batch_size(question, each.method)

    most = max(map(certainty, accurate))
    return [each for each in accurate if certainty(each) == most]


def _first(pool: Sequence[MethodOutlook]) -> MethodOutlook:
    cheap = _cheapest(pool)
    paces = _paces(cheap)
    fastest = max(paces.values(), default=0.0)
    fast = [each for each in cheap if paces.get(each.slug, fastest) >= fastest * (1 - _SPEED_TOLERANCE)]
    return min(fast, key=lambda each: (each.accuracy_drop.value or 0.0, -paces.get(each.slug, 0.0)))


def _paces(contenders: Sequence[MethodOutlook]) -> dict[str, float]:
    """Speeds over full's by slug; empty where they cannot be compared: one is unknown, or the machines differ."""
    known = {each.slug: pace for each in contenders if (pace := each.training_speed_ratio.value) is not None}
    return known if len(known) == len(contenders) and len(_machines(contenders)) <= 1 else {}


def _machines(contenders: Sequence[MethodOutlook]) -> set[str]:
    return {each.training_machine for each in contenders if each.training_machine is not None}


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
        told.append(_pace_text(chosen, cheap))
    return "; ".join(told) + "."


def _pool_text(question: MethodQuestion, chosen: MethodOutlook) -> str:
    known = "those that keep to the limit" if chosen.has_evidence else "those of which it is not known"
    smaller = chosen.batch_size != asked_batch_size(question, chosen.method)
    return f"among {known}{', with smaller batches than asked for' if smaller else ''}"


def _pace_text(chosen: MethodOutlook, cheap: Sequence[MethodOutlook]) -> str:
    paces = _paces(cheap)
    if not paces:
        return f"speed of training is left out, as {_why_no_pace(cheap)}: {chosen.slug} {_accuracy_text(chosen, cheap)}"
    fastest = max(paces, key=paces.__getitem__)
    ratio = "" if fastest == "full" else f" ({paces[fastest]:.2f} times as fast as full)"
    if fastest == chosen.slug:
        return f"of these {fastest} trains fastest{ratio}"
    return (
        f"of these {chosen.slug} loses the least accuracy by estimate and trains about as fast as the fastest, "
        f"{fastest}{ratio}"
    )


def _why_no_pace(cheap: Sequence[MethodOutlook]) -> str:
    unknown = [each.slug for each in cheap if each.training_speed_ratio.value is None]
    if unknown:
        return f"that of {', '.join(unknown)} is not known"
    return f"they were measured on different machines ({'; '.join(sorted(_machines(cheap)))})"


def _accuracy_text(chosen: MethodOutlook, cheap: Sequence[MethodOutlook]) -> str:
    if not chosen.has_evidence:
        return "comes first in the table, as no accuracy is known either"
    others = [each for each in cheap if each.slug != chosen.slug]
    least = min((each.accuracy_drop.value or 0.0 for each in others), default=None)
    even = least is not None and least <= (chosen.accuracy_drop.value or 0.0) + _ROUNDING
    return f"loses {'no more' if even else 'the least'} accuracy by estimate{' than any other' if even else ''}"


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
    if chosen.accuracy_differences:
        told.append(f"Its accuracy is {drop.basis}, from a training with {'; '.join(chosen.accuracy_differences)}.")
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
        (memory_of(question, method, spec, studies)[0].value or 0.0, slug_of(question, method), spec)
        for method in METHODS
        for spec in settings_tried(question, method)
    ]
    needed, slug, spec = min(least, key=lambda each: each[0])
    checkpointing = " and gradient checkpointing" if spec.gradient_checkpointing else ""
    return (
        f"no method trains {question.base_model} within {bytes_text(question.memory_budget_bytes)}: the smallest is "
        f"{slug} with batches of {spec.batch_size}{checkpointing}; give --memory-budget {ceil(needed / MIB)}MiB, or a "
        "smaller --model"
    )


def _used(question: MethodQuestion, studies: Sequence[KnownStudy]) -> tuple[str, ...]:
    found = (best_evidence(studies, evidence_asked(question, method)) for method in METHODS if method != "full")
    return tuple(dict.fromkeys(each.study.description for each in found if each))
