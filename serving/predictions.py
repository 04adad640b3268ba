"""What is answered of one text, by task: one label, any number of labels, or a number."""

from collections.abc import Callable, Mapping, Sequence
from math import exp
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.bundle import Manifest, Task

_Numbers = dict[str, float]


class EncodedText(NamedTuple):
    """Token ids of one text, special tokens included, and whether tokens had to be dropped."""

    token_ids: list[int]
    truncated: bool


class Prediction(msgspec.Struct, frozen=True):
    """What a model that chooses one label says of one text.

    `scores` holds the softmax over all labels, in the bundle's order, 0..1; `score` is that of `label`, the highest.
    `tokens` is what was fed to the model, special tokens included; `truncated` says that the text was longer. `logits`,
    the scores before the softmax, are there where they were asked for.
    """

    label: str
    score: float
    scores: _Numbers
    tokens: int
    truncated: bool
    logits: _Numbers | msgspec.UnsetType = msgspec.UNSET


class MultiLabelPrediction(msgspec.Struct, frozen=True):
    """What a model that judges each label for itself says of one text.

    `scores` holds the sigmoid of each label, in the bundle's order, 0..1, which need not add up to 1; `labels` are
    those whose score reaches the bundle's threshold, none of them or all. The rest is as in `Prediction`.
    """

    labels: list[str]
    scores: _Numbers
    tokens: int
    truncated: bool
    logits: _Numbers | msgspec.UnsetType = msgspec.UNSET


class NumberPrediction(msgspec.Struct, frozen=True):
    """What a regression says of one text: a number, in `scores` and `logits` under its name too, as it is."""

    value: float
    scores: _Numbers
    tokens: int
    truncated: bool
    logits: _Numbers | msgspec.UnsetType = msgspec.UNSET


AnyPrediction = Prediction | MultiLabelPrediction | NumberPrediction


def describe(manifest: Manifest, encoded: Sequence[EncodedText], logits: NDArray[np.float32]) -> list[AnyPrediction]:
    """The predictions that `logits` [texts, labels] of the manifest's model stand for."""
    scale, describe_one = _TASKS[manifest.task]
    return [describe_one(manifest, text, row) for text, row in zip(encoded, scale(logits), strict=True)]


def told(prediction: AnyPrediction) -> str:
    """A prediction as one word to be compared: its label, its labels joined by `|`, or its number."""
    if isinstance(prediction, Prediction):
        return prediction.label
    return "|".join(prediction.labels) if isinstance(prediction, MultiLabelPrediction) else repr(prediction.value)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities over the last axis, in double precision, from scores of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability that each score stands for by itself, in double precision, of the same shape."""
    with np.errstate(over="ignore"):  # infinity is the right power of a score that low
        return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def _shares(logits: NDArray[np.float32]) -> list[list[float]]:
    """As `softmax`, row by row: of few labels, and between two runs of a model, that takes a fifth of the time."""
    rows = []
    for row in logits.tolist():
        largest = max(row)
        powers = [exp(score - largest) for score in row]
        total = sum(powers)
        rows.append([power / total for power in powers])
    return rows


def _one_label(manifest: Manifest, text: EncodedText, row: list[float]) -> Prediction:
    score = max(row)
    scores = dict(zip(manifest.labels, row, strict=True))
    return Prediction(manifest.labels[row.index(score)], score, scores, len(text.token_ids), text.truncated)


def _any_labels(manifest: Manifest, text: EncodedText, row: list[float]) -> MultiLabelPrediction:
    assert manifest.threshold is not None, "a sealed bundle of several labels has one"  # noqa: S101 - for the types
    chosen = [label for label, score in zip(manifest.labels, row, strict=True) if score >= manifest.threshold]
    scores = dict(zip(manifest.labels, row, strict=True))
    return MultiLabelPrediction(chosen, scores, len(text.token_ids), text.truncated)


def _number(manifest: Manifest, text: EncodedText, row: list[float]) -> NumberPrediction:
    (value,) = row
    return NumberPrediction(value, {manifest.labels[0]: value}, len(text.token_ids), text.truncated)


# How logits become scores, and a row of scores a prediction.
_TASKS: Final[
    Mapping[
        Task,
        tuple[
            Callable[[NDArray[np.float32]], list[list[float]]],
            Callable[[Manifest, EncodedText, list[float]], AnyPrediction],
        ],
    ]
] = {
    "single-label": (_shares, _one_label),
    "multi-label": (lambda logits: sigmoid(logits).tolist(), _any_labels),
    "regression": (lambda logits: logits.tolist(), _number),
}
