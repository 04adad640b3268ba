"""How a model is judged while it trains: on rows spread over the whole test split, after each epoch."""

from __future__ import annotations

import math
from typing import Any

from deploycost.models.classifier import TunedClassifier
from deploycost.models.encoding import EncodedTexts, logits_of
from deploycost.models.scoring import score
from deploycost.records import EpochScores

# Enough rows to draw a curve by; the final scores are always of the whole test split.
_CURVE_ROWS = 1000


class EpochJudge:
    """Judges a classifier after each epoch and keeps the scores.

    `batch_size` is of training: larger batches would raise the memory of the process above what training takes.
    """

    def __init__(self, classifier: TunedClassifier, test: EncodedTexts, batch_size: int) -> None:
        self._classifier = classifier
        self._batch_size = batch_size
        rows = curve_rows(len(test))
        self._curve = EncodedTexts(
            tuple(test.input_ids[row] for row in rows), tuple(test.labels[row] for row in rows), test.pad_token_id
        )
        self.epochs: list[EpochScores] = []

    def judge(self, epoch: float, train_loss: float | None, duration_s: float) -> EpochScores:
        """The scores after an epoch of this loss that took so long."""
        scores = score(self._curve.labels, logits_of(self._classifier, self._curve, self._batch_size))
        self.epochs.append(EpochScores(epoch=epoch, train_loss=train_loss, scores=scores, duration_s=duration_s))
        return self.epochs[-1]

    @property
    def final_loss(self) -> float:
        """The mean loss of the last epoch; not a number where none of its losses was one."""
        loss = self.epochs[-1].train_loss
        return math.nan if loss is None else loss

    @property
    def summary(self) -> str:
        """How it stands, for people who wait."""
        if not self.epochs:
            return "training"
        return f"accuracy {self.epochs[-1].scores.accuracy:.3f} after epoch {len(self.epochs)}"

    def state_dict(self) -> dict[str, Any]:
        """The judgements so far."""
        return {"epochs": [epoch.model_dump(mode="json") for epoch in self.epochs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from earlier judgements."""
        self.epochs = [EpochScores.model_validate(epoch) for epoch in state["epochs"]]


def curve_rows(rows: int) -> range:
    """The rows of a test split that an epoch is judged on: evenly spread, so that a split sorted by class will do."""
    return range(0, rows, -(-rows // _CURVE_ROWS))
