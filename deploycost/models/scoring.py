"""How answers are judged: the same scores for a model in training and for an artifact that is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from deploycost.records import Parity, Scores
from deploycost.stats import wilson_interval


def score(labels: Sequence[int], logits: NDArray[np.float32]) -> Scores:
    """Accuracy and macro F1, precision and recall (0..1) of logits [rows, labels] against true label ids."""
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels,
        predicted,
        average="macro",
        labels=list(range(logits.shape[1])),
        zero_division=0,  # pyright: ignore[reportArgumentType] - its stub knows only "warn"
    )
    return Scores(
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1),
        precision=float(precision),
        recall=float(recall),
        rows=len(labels),
    )


def compare(
    reference: NDArray[np.float32], other: NDArray[np.float32], *, relative_error_limit: float, agreement_limit: float
) -> Parity:
    """How far `other` logits are from `reference` logits, both [rows, labels].

    The error is relative to the spread of the reference about each row's mean, because a softmax sees only
    differences within a row. A logit that is not a number counts as infinitely far.
    """
    agreeing = int((reference.argmax(axis=1) == other.argmax(axis=1)).sum())
    with np.errstate(all="ignore"):  # what is not a number is told by the error
        spread = float((reference - reference.mean(axis=1, keepdims=True)).std())
        error = float(np.sqrt(np.mean(np.square(reference - other))))
    return Parity(
        relative_error=error / spread if np.isfinite(error) and spread > 0 else float("inf"),
        relative_error_limit=relative_error_limit,
        agreement_ratio=agreeing / len(reference),
        agreement_high=wilson_interval(agreeing, len(reference))[1],
        agreement_limit=agreement_limit,
    )
