"""The labels of a data set told in those of a model that was brought, whose order and number are its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deploycost.dataset import Dataset, LabelledTexts
from deploycost.errors import UserError
from serving.bundle import Task

# What transformers calls labels that nobody named.
_UNNAMED = re.compile(r"LABEL_\d+")
_NAMED_AT_MOST = 6


def match_labels(
    model_labels: Sequence[str], dataset: Dataset[Any], task: Task
) -> tuple[tuple[str, ...], LabelledTexts[Any], str]:
    """The model's label names, the test texts with labels in the model's ids, and how the two were matched.

    Names are matched as they are, else without regard to case; numbers are the model's ids. A model whose labels have
    no names takes those of a data set that says in which order they stand.

    Raises:
        UserError: they do not match, in one line.
    """
    model, theirs = tuple(model_labels), dataset.label_names
    if task == "regression" or not theirs:
        named = theirs if task == "regression" and len(theirs) == len(model) and _are_unnamed(model) else model
        return tuple(named), dataset.test, ""
    if _are_unnamed(model) and dataset.names_in_id_order and len(theirs) == len(model):
        return theirs, dataset.test, "the model's labels have no names: those of the data set were taken, in id order"
    ids, note = _ids_by_name(model, theirs)
    if ids is None and all(name.isdecimal() and int(name) < len(model) for name in theirs):
        ids, note = [int(name) for name in theirs], "the data set's labels are numbers: taken for the model's ids"
    if ids is None:
        raise UserError(_mismatch(model, theirs))
    return model, LabelledTexts(dataset.test.texts, tuple(_told(label, ids) for label in dataset.test.labels)), note


def _are_unnamed(labels: Sequence[str]) -> bool:
    return all(_UNNAMED.fullmatch(label) for label in labels)


def _ids_by_name(model: Sequence[str], theirs: Sequence[str]) -> tuple[list[int] | None, str]:
    exact = {name: at for at, name in enumerate(model)}
    if all(name in exact for name in theirs):
        return [exact[name] for name in theirs], ""
    folded = {name.casefold(): at for at, name in enumerate(model)}
    if len(folded) == len(model) and all(name.casefold() in folded for name in theirs):
        return [folded[name.casefold()] for name in theirs], "labels were matched without regard to case"
    return None, ""


def _told(label: Any, ids: Sequence[int]) -> Any:  # noqa: ANN401 - an id, or several
    return tuple(sorted(ids[each] for each in label)) if isinstance(label, tuple) else ids[label]


def _mismatch(model: Sequence[str], theirs: Sequence[str]) -> str:
    known = {name.casefold() for name in model}
    strange = [name for name in theirs if name.casefold() not in known]
    advice = (
        'put a labels.json with the names in id order beside the data, as in ["World", "Sports"]'
        if _are_unnamed(model)
        else "rename them in the data, or leave the column of labels out: then accuracy stays unknown"
    )
    are = "is" if len(strange) == 1 else "are"
    return (
        f"the data set's labels do not match the model's: {_listed(strange)} {are} not among {_listed(model)}; {advice}"
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(map(repr, names[:_NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")
