"""How right a model or an artifact is on one split, by the kind of its answers."""

from __future__ import annotations

from deploycost.records.base import Record


class Scores(Record):
    """Classification scores on one split, 0..1; F1, precision and recall are macro averages over classes."""

    accuracy: float
    macro_f1: float
    precision: float
    recall: float
    rows: int


class MultiLabelScores(Scores):
    """Scores where each label is judged for itself, 0..1.

    `accuracy` is that of whole answers: the share of texts that get exactly their labels, none missing, none too many.
    Macro averages are over labels, micro ones over all decisions.
    """

    micro_f1: float
    micro_precision: float
    micro_recall: float


class RegressionScores(Record):
    """How near a regression's numbers are to the true ones, on one split, in the unit of the number.

    `mse` is the mean squared error, `mae` the mean absolute one; the correlations, -1..1, are Pearson's and Spearman's,
    None where the true numbers or the model's are all the same. There is no accuracy to a number.
    """

    mse: float
    mae: float
    pearson: float | None
    spearman: float | None
    rows: int


# None where the texts have no labels: then nothing is known of how right the answers are.
AnyScores = MultiLabelScores | Scores | RegressionScores | None


def accuracy_of(scores: AnyScores) -> float | None:
    """The share of right answers, 0..1, or None where none is known: texts without labels, or numbers."""
    return scores.accuracy if isinstance(scores, Scores) else None
