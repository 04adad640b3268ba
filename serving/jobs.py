"""What passes between the event loop and the engine's thread: jobs on their way in, reports on their way out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.errors import EngineError, Overloaded
from serving.predictions import AnyPrediction, EncodedText

Failure = EngineError | Overloaded


class Outcome(NamedTuple):
    """What the model says of one text; `logits` [labels] are its scores before any softmax or sigmoid."""

    prediction: AnyPrediction
    logits: NDArray[np.float32]


class Asker(Protocol):
    """Who waits for a job."""

    def done(self, result: "list[Outcome] | Failure") -> None:
        """One outcome per text in order, or what went wrong: told once, on the event loop."""
        ...

    def nearly_done(self, outcomes: list[Outcome]) -> None:
        """The same outcomes, just before and on the engine's thread, where nobody else waits for it."""
        ...


@dataclass(slots=True, eq=False)
class Job:
    """Texts that were asked together. Times are of `time.perf_counter`.

    One that `is_patient` is to begin by its deadline, and may then take as long as it takes; others are to be done.
    """

    texts: Sequence[str]
    work: int
    arrived_s: float
    deadline_s: float
    is_patient: bool
    asker: Asker
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failure: Failure | None = None
    # Set on the event loop: nobody waits for it any more, or it was answered.
    over: bool = False
    # Set on the thread: reported, so that it is reported once.
    reported: bool = False

    def in_order(self) -> list[Outcome]:
        """The outcomes of a job that is complete, one per text."""
        return [self.outcomes[position] for position in range(len(self.texts))]


@dataclass(frozen=True, slots=True)
class Item:
    """One text of a job, ready for the engine."""

    job: Job
    position: int
    encoded: EncodedText


@dataclass(slots=True)
class Report:
    """What the thread did since its last report: jobs that it ended, and the batch it computed, if any.

    It was begun at `start_s`. `compute_s` is all the time of the thread since its last report, tokenising and what
    others took of its core included, waiting for texts not.
    """

    jobs: list[Job] = field(default_factory=list)
    batch: list[Item] = field(default_factory=list)
    start_s: float = 0.0
    compute_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch was, and what it took.

    `tokens` are those of the texts, `padded_tokens` what was computed for them; `work` is as in `serving.deadlines`.
    `queue_s` is how long each text had waited, `compute_s` as in `Report`.
    """

    texts: int
    tokens: int
    padded_tokens: int
    work: int
    compute_s: float
    queue_s: list[float]


class Observer(Protocol):
    """Who wants to know of batches; called on the event loop."""

    def batch_done(self, batch: Batch) -> None:
        """A batch was computed."""
        ...
