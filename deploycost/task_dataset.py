"""Texts for a model that is brought: with one label, several labels or a number each, or with none at all.

Labels of several are lists of names or ids, or `a|b`; an empty one gives none. Rows are checked, told and split as in
`deploycost.dataset`, but for classes: texts of these tasks have none to be balanced.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from random import Random
from typing import Any

from deploycost.dataset import TEST_RATIO, Dataset, LabelledTexts, listed, load_dataset, shuffled
from deploycost.dataset_source import FoundDataset, FoundSplit, find_dataset
from deploycost.errors import UserError
from deploycost.experiment import DatasetSpec

# Two of them are held out, to judge artifacts by.
MIN_TEXTS = 10
SEPARATOR = "|"


def load_texts(spec: DatasetSpec, seed: int) -> Dataset[Any]:
    """The data set that `spec` asks for, as models that are brought are judged on it; the labels may be missing.

    Of the task single-label it is what `load_dataset` gives, where there are labels. Labels are an id, a
    tuple of ids, or a number; None of all texts where the source has no column of labels and none was asked for.

    Raises:
        UserError: the source is missing, out of reach or unreadable, or all mistakes in its rows, in one line.
    """
    found = find_dataset(spec, labels_needed=False)
    if spec.task == "single-label" and found.labelled:
        return load_dataset(spec, seed)
    names = _label_names(found, spec)
    splits = [found.train] if found.test is None else [found.train, found.test]
    problems: list[str] = []
    train, *rest = [_read(split, found, spec, names, problems) for split in splits]
    if problems:
        raise UserError(f"data set {found.name!r}: {'; '.join(problems)}; rows count from 1 without the header")
    train, test, note = (train, rest[0], "test split as given") if rest else _split(found.name, train, seed)
    notes = [note]
    if not found.labelled:
        notes.append(f"no column {spec.label_column!r}: without labels accuracy stays unknown (see --label-column)")
    train = _sample(train, spec.train_rows, "--train-rows", seed)
    test = _sample(test, spec.test_rows, "--test-rows", seed)
    content = [spec.task, names, train.texts, train.labels, test.texts, test.labels]
    return Dataset(
        name=found.name,
        label_names=names,
        names_in_id_order=found.label_names is not None,
        train=train,
        test=test,
        fingerprint=hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest(),
        description=f"{found.name}: {len(train):,} texts set aside, {len(test):,} to judge by; {'; '.join(notes)}.",
        generated=found.generated,
    )


def _label_names(found: FoundDataset, spec: DatasetSpec) -> tuple[str, ...]:
    """The names that the source gives, else the sorted values of all rows; of numbers the name of their column."""
    if not found.labelled:
        return found.label_names or ()
    if spec.task == "regression":
        return (spec.label_column,)
    if found.label_names is not None:
        return found.label_names
    splits = [found.train, *([found.test] if found.test else [])]
    given = {value for split in splits for label in split.labels for value in _several(label) or ()}
    return tuple(str(value) for value in sorted(given, key=lambda value: (isinstance(value, str), value)))


def _read(
    split: FoundSplit, found: FoundDataset, spec: DatasetSpec, names: Sequence[str], problems: list[str]
) -> LabelledTexts[Any]:
    """A split with its labels read; adds what is wrong with its rows to `problems`."""
    bad: dict[str, list[int]] = {}
    ids: dict[Any, int] = {name: at for at, name in enumerate(names)}
    if found.label_names is not None:
        ids |= {at: at for at in range(len(names))}
    else:
        ids |= {int(name): at for name, at in list(ids.items()) if name.isdecimal()}
    labels: list[Any] = []
    for row, (text, label) in enumerate(zip(split.texts, split.labels, strict=True), start=1):
        if not isinstance(text, str) or not text.strip():
            bad.setdefault("text that is empty or no string", []).append(row)
        if not found.labelled:
            labels.append(None)
        elif spec.task == "regression":
            labels.append(_number(label))
            if labels[-1] is None:
                bad.setdefault("label that is not a number", []).append(row)
        else:
            values = _several(label)
            labels.append(tuple(sorted({ids[value] for value in values or () if value in ids})))
            if values is None:
                bad.setdefault("label that is no list of names and no 'a|b'", []).append(row)
            elif any(value not in ids for value in values):
                bad.setdefault(f"label other than {listed(names)}", []).append(row)
    problems += [f"{split.place} has no rows"] if not split.texts else []
    problems += [f"{split.place}: {len(rows)} x {kind} (row {listed(rows)})" for kind, rows in bad.items()]
    return LabelledTexts(tuple(split.texts), tuple(labels))


def _several(label: Any) -> list[Any] | None:  # noqa: ANN401 - a cell of the user's data
    """The labels in a cell, names or whole numbers; None where it holds something else."""
    if isinstance(label, str):
        label = [part.strip() for part in label.split(SEPARATOR) if part.strip()]
        label = [int(part) if part.isdecimal() and str(int(part)) == part else part for part in label]
    if isinstance(label, int) and not isinstance(label, bool):
        label = [label]
    if not isinstance(label, list):
        return None
    fit = all(isinstance(part, int | str) and not isinstance(part, bool) and part != "" for part in label)
    return label if fit else None


def _number(label: Any) -> float | None:  # noqa: ANN401 - a cell of the user's data
    if isinstance(label, bool):
        return None
    try:
        value = float(label)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _split(name: str, rows: LabelledTexts[Any], seed: int) -> tuple[LabelledTexts[Any], LabelledTexts[Any], str]:
    """The part set aside, the part to judge by, and what was done: 80/20 of distinct texts."""
    first_at: dict[str, int] = {}
    for at, text in enumerate(rows.texts):
        first_at.setdefault(text, at)
    if len(first_at) < MIN_TEXTS:
        raise UserError(f"data set {name!r} has {len(first_at)} distinct texts; expected at least {MIN_TEXTS}")
    drawn = shuffled(first_at.values(), Random(seed))
    size = round(TEST_RATIO * len(drawn))
    note = f"80/20 split made here (seed {seed}; dropped {len(rows) - len(drawn)} repeated texts)"
    return rows.take(drawn[size:]), rows.take(drawn[:size]), note


def _sample(rows: LabelledTexts[Any], wanted: int | None, flag: str, seed: int) -> LabelledTexts[Any]:
    if wanted is None:
        return rows
    if wanted > len(rows):
        raise UserError(f"{flag} {wanted}: expected at most {len(rows)}, all there are")
    return rows.take(sorted(shuffled(range(len(rows)), Random(seed))[:wanted]))
