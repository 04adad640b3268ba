"""What serving a model as an artifact does to its answers: accuracy given up, and how far its scores can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from deploycost.records import AccuracyDrop
from serving.predictions import softmax

CALIBRATION_BINS = 15
_Z_95 = 1.959963984540054


def calibration_error(labels: Sequence[int], logits: NDArray[np.float32], bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, 0..1, of logits [rows, labels] against true label ids.

    The mean over equal-width bins of the highest score, weighted by the rows in each, of the distance between the mean
    score and the share of right answers (Guo et al., 2017, equation 3).
    """
    scores = softmax(logits)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == np.asarray(labels)
    # Bins are open at the lower end: a score of exactly 0.2 belongs to the third of fifteen.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    distances = [
        abs(float(confidence[place == at].sum() - right[place == at].sum()))
        for at in range(bins)
        if (place == at).any()
    ]
    return sum(distances) / len(confidence)


def accuracy_drop(
    labels: Sequence[int], trained: NDArray[np.float32], served: NDArray[np.float32], limit: float
) -> AccuracyDrop:
    """How much accuracy an artifact gives up against the model it came from, on the same rows.

    Only rows that one of the two gets right and the other wrong say anything (McNemar, 1947). The 95 % interval is
    Agresti and Min's (2005) for paired shares, with half a row added to each of the four kinds.
    """
    truth = np.asarray(labels)
    was_right, is_right = trained.argmax(axis=1) == truth, served.argmax(axis=1) == truth
    lost, won = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
    rows = len(truth)
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
