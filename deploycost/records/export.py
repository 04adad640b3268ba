"""What exporting leaves behind: how far an artifact is from the model that it was made of."""

from __future__ import annotations

from typing import Literal

from deploycost.environment import MachineFacts
from deploycost.records.base import Record
from deploycost.records.checks import FORMAT_VERSION
from deploycost.records.scores import AnyScores, accuracy_of


class Parity(Record):
    """How far an artifact's logits are from the trained model's, on the whole test split.

    `relative_error` is the root mean square of the difference over the standard deviation of the trained model's
    logits about each row's mean; `agreement_ratio` is the share of rows where both name the same label, and
    `agreement_high` the upper end of its 95 % interval: a few rows on the edge between two labels refuse nothing.
    Where each label is judged for itself, or the answer is a number, the spread is about each column's mean; rows
    agree that get the same labels, all of them, or numbers less than half that spread apart.
    """

    relative_error: float
    relative_error_limit: float
    agreement_ratio: float
    agreement_high: float
    agreement_limit: float

    @property
    def ok(self) -> bool:
        """Whether both figures are within their limits, as far as the rows can tell."""
        return self.relative_error <= self.relative_error_limit and self.agreement_high >= self.agreement_limit


class AccuracyDrop(Record):
    """What an artifact gives up against the trained model on the same test rows, 0..1, with its 95 % interval.

    Of accuracy, which counts whole answers where there are several labels: `lost_rows` only the trained model gets
    right, `won_rows` only the artifact. Of explained variance (R2) where the answers are numbers: `lost_rows` are
    further from the true number than the trained model's, `won_rows` nearer. `limit` is what may be given up.
    """

    measure: Literal["accuracy", "explained variance"] = "accuracy"
    value: float
    low: float
    high: float
    lost_rows: int
    won_rows: int
    limit: float

    @property
    def refused(self) -> bool:
        """Whether more than the limit is given up, as surely as the rows can tell."""
        return self.low > self.limit

    @property
    def flagged(self) -> bool:
        """Whether more than the limit seems to be given up, which chance may account for."""
        return not self.refused and self.value > self.limit


class VocabularyTrim(Record):
    """What cutting the embedding table to the task's words came to, on the test split.

    `unseen_texts` are those that are split into other tokens than before, for a word that no training text has; the
    accuracies are on these alone, of the trained model and of the artifact, None where there are none.
    """

    tokens_before: int
    tokens_kept: int
    saved_bytes: int
    unseen_texts: int
    unseen_agreement_ratio: float | None
    unseen_accuracy: float | None
    unseen_trained_accuracy: float | None
    mean_tokens_ratio: float


class ExportRecord(Record):
    """One servable artifact of one tuned model: `runs/NAME/METHOD/ARTIFACT/export.json`.

    Calibration errors are expected ones over 15 equal-width bins (Guo et al., 2017), of the artifact's scores and of
    the trained model's; of each label's where each is judged for itself, None of numbers. `calibration` names the texts
    that a quantiser watched. `shared_bytes` of `size_bytes` are in files that another artifact of the method held
    already, kept on the disk once.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    variant: str
    method: str
    artifact: str
    engine: str
    precision: str
    scores: AnyScores
    parity: Parity
    size_bytes: int
    export_s: float
    bundle_digest: str
    mean_tokens: float
    machine: MachineFacts
    finished_at: str
    calibration_error: float | None = None
    trained_calibration_error: float | None = None
    accuracy_drop: AccuracyDrop | None = None
    calibration: str = ""
    shared_bytes: int = 0
    vocabulary: VocabularyTrim | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, 0..1; None where it is unknown or the answers are numbers."""
        return accuracy_of(self.scores)


class ExportRefusal(Record):
    """An artifact that was refused when it was last made: `refused.json` in the place of its `export.json`.

    `reason` is the line that was told; the figures are those it was judged by, None where it did not come to them.
    `model_fingerprint` names the model that it was made of.
    """

    format_version: int = FORMAT_VERSION
    fingerprint: str
    model_fingerprint: str
    variant: str
    artifact: str
    reason: str
    parity: Parity | None = None
    accuracy_drop: AccuracyDrop | None = None
    finished_at: str
