"""What serving a model as an artifact does to its answers: accuracy given up, and how far its scores can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploycost.models.scoring import right_answers, right_decisions
from deploycost.records import AccuracyDrop
from serving.bundle import Task
from serving.predictions import sigmoid, softmax

CALIBRATION_BINS = 15
_Z_95 = 1.959963984540054


def calibration_error(
    labels: Sequence[Any],
    logits: NDArray[np.float32],
    task: Task = "single-label",
    bins: int = CALIBRATION_BINS,
) -> float | None:
    """Expected calibration error, 0..1, of logits [rows, labels] against true labels; None of numbers.

    The mean over equal-width bins of the highest score, weighted by the rows in each, of the distance between the mean
    score and the share of right answers (Guo et al., 2017, equation 3). Where each label is judged for itself, each is
    an answer, by its score where it is given and by what is left to 1 where it is not.
    """
    if task == "regression":
        return None
    if task == "multi-label":
        given = sigmoid(logits).ravel()
        confidence, right = np.maximum(given, 1 - given), right_decisions(labels, logits).ravel()
    else:
        confidence, right = softmax(logits).max(axis=1), right_answers(task, labels, logits)
    # Bins are open at the lower end: a score of exactly 0.2 belongs to the third of fifteen.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    distances = [
        abs(float(confidence[place == at].sum() - right[place == at].sum()))
        for at in range(bins)
        if (place == at).any()
    ]
    return sum(distances) / len(confidence)


def accuracy_drop(
    labels: Sequence[Any],
    trained: NDArray[np.float32],
    served: NDArray[np.float32],
    limit: float,
    task: Task = "single-label",
) -> AccuracyDrop | None:
    """How much an artifact gives up against the model it came from, on the same rows: of accuracy, which counts whole
    answers where there are several labels; of a number, of the share of its variance that is explained.

    Only rows that one of the two gets right and the other wrong say anything (McNemar, 1947). The 95 % interval is
    Agresti and Min's (2005) for paired shares, with half a row added to each of the four kinds.

    None where the true numbers are all the same, so that there is nothing to explain.
    """
    if task == "regression":
        return _explained_drop(np.asarray(labels, dtype=np.float64), trained[:, 0], served[:, 0], limit)
    was_right, is_right = (right_answers(task, labels, logits) for logits in (trained, served))
    lost, won = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
    rows = len(was_right)
    smoothed, lost_s, won_s = rows + 2, lost + 0.5, won + 0.5
    centre = (lost_s - won_s) / smoothed
    spread = _Z_95 * sqrt(max(lost_s + won_s - (lost_s - won_s) ** 2 / smoothed, 0.0)) / smoothed
    return AccuracyDrop(
        value=(lost - won) / rows,
        low=max(centre - spread, -1.0),
        high=min(centre + spread, 1.0),
        lost_rows=lost,
        won_rows=won,
        limit=limit,
    )


def _explained_drop(
    true: NDArray[np.float64], trained: NDArray[np.float32], served: NDArray[np.float32], limit: float
) -> AccuracyDrop | None:
    """What is given up of R2, 1 less the mean squared error over the variance of the true numbers.

    The mean of what each row's squared error grows by, in units of that variance, with the usual 95 % interval of a
    mean of paired differences; the variance is taken as known.
    """
    variance = float(true.var())
    if variance == 0:
        return None
    errors = [np.square(told.astype(np.float64) - true) for told in (trained, served)]
    more = (errors[1] - errors[0]) / variance
    value, spread = float(more.mean()), _Z_95 * float(more.std(ddof=1)) / sqrt(len(more))
    return AccuracyDrop(
        measure="explained variance",
        value=value,
        low=value - spread,
        high=value + spread,
        lost_rows=int((more > 0).sum()),
        won_rows=int((more < 0).sum()),
        limit=limit,
    )
