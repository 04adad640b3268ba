"""How answers are judged: the same scores for a model in training and for an artifact that is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from deploycost.records import AnyScores, MultiLabelScores, Parity, RegressionScores, Scores
from deploycost.stats import wilson_interval
from serving.bundle import Task
from serving.predictions import sigmoid

# From this score on a label is given, where each is judged for itself.
THRESHOLD = 0.5
# Two numbers are the same answer that are less than this share of the numbers' own spread apart.
_SAME_NUMBER_RATIO = 0.5


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


def score_task(task: Task, labels: Sequence[Any], logits: NDArray[np.float32]) -> AnyScores:
    """Scores of logits [rows, labels] against true labels of any task; None where the texts have no labels."""
    if labels[0] is None:
        return None
    if task == "single-label":
        return score(labels, logits)
    return _score_numbers(labels, logits) if task == "regression" else _score_several(labels, logits)


def _score_several(labels: Sequence[tuple[int, ...]], logits: NDArray[np.float32]) -> MultiLabelScores:
    true, predicted = _given(labels, logits.shape), decisions(logits)
    averages: dict[str, tuple[float, float, float]] = {}
    for average in ("macro", "micro"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            true,
            predicted,
            average=average,
            zero_division=0,  # pyright: ignore[reportArgumentType] - as above
        )
        averages[average] = (float(precision), float(recall), float(f1))
    return MultiLabelScores(
        accuracy=float((true == predicted).all(axis=1).mean()),
        macro_f1=averages["macro"][2],
        precision=averages["macro"][0],
        recall=averages["macro"][1],
        micro_f1=averages["micro"][2],
        micro_precision=averages["micro"][0],
        micro_recall=averages["micro"][1],
        rows=len(labels),
    )


def _score_numbers(labels: Sequence[float], logits: NDArray[np.float32]) -> RegressionScores:
    true, told = np.asarray(labels, dtype=np.float64), logits[:, 0].astype(np.float64)
    varied = len(true) > 1 and np.ptp(true) > 0 and np.ptp(told) > 0
    linear: Any = pearsonr  # whose answers the library declares no types of
    by_rank: Any = spearmanr
    return RegressionScores(
        mse=float(np.mean((told - true) ** 2)),
        mae=float(np.mean(np.abs(told - true))),
        pearson=float(linear(true, told).statistic) if varied else None,
        spearman=float(by_rank(true, told).statistic) if varied else None,
        rows=len(true),
    )


def decisions(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which labels are given, [rows, labels], where each is judged for itself."""
    return sigmoid(logits) >= THRESHOLD


def right_decisions(labels: Sequence[tuple[int, ...]], logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which decisions are right, [rows, labels], where each label is judged for itself and a row has several."""
    return decisions(logits) == _given(labels, logits.shape)


def right_answers(task: Task, labels: Sequence[Any], logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows get their label, or exactly their labels, as accuracy counts them; of no use where it is a number."""
    if task == "multi-label":
        return np.asarray(right_decisions(labels, logits).all(axis=1))
    return np.asarray(logits.argmax(axis=1) == np.asarray(labels))


def _given(labels: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    given = np.zeros(shape, dtype=np.bool_)
    for row, ids in enumerate(labels):
        given[row, list(ids)] = True
    return given


def compare(
    reference: NDArray[np.float32],
    other: NDArray[np.float32],
    *,
    relative_error_limit: float,
    agreement_limit: float,
    task: Task = "single-label",
) -> Parity:
    """How far `other` logits are from `reference` logits, both [rows, labels].

    The error is relative to the spread of the reference about each row's mean, because a softmax sees only
    differences within a row; of other tasks, whose columns have nothing to do with one another, about each column's.
    A logit that is not a number counts as infinitely far.
    """
    spread = _spread(reference, task)
    with np.errstate(all="ignore"):  # what is not a number is told by the error
        error = float(np.sqrt(np.mean(np.square(reference - other))))
    agreeing = int(same_answers(reference, other, task).sum())
    return Parity(
        relative_error=error / spread if np.isfinite(error) and spread > 0 else float("inf"),
        relative_error_limit=relative_error_limit,
        agreement_ratio=agreeing / len(reference),
        agreement_high=wilson_interval(agreeing, len(reference))[1],
        agreement_limit=agreement_limit,
    )


def same_answers(reference: NDArray[np.float32], other: NDArray[np.float32], task: Task) -> NDArray[np.bool_]:
    """Which rows get the same label by both, exactly the same labels, or numbers near for the spread of `reference`."""
    if task == "single-label":
        return reference.argmax(axis=1) == other.argmax(axis=1)
    if task == "multi-label":
        return (decisions(reference) == decisions(other)).all(axis=1)
    return np.abs(reference - other)[:, 0] < _SAME_NUMBER_RATIO * _spread(reference, task)


def _spread(logits: NDArray[np.float32], task: Task) -> float:
    axis = 1 if task == "single-label" else 0
    with np.errstate(all="ignore"):
        return float((logits - logits.mean(axis=axis, keepdims=True)).std())
