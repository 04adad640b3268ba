"""All artifacts in turns on one core: every round asks each of them for the same, so that ratios hold in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.artifact_subject import BASELINE, Subject
from benchmarks.medians import Median, median_of
from deploycost.benchmarking.child import Child
from deploycost.benchmarking.sampling import sample_tree
from deploycost.encoder_shape import EncoderShape
from deploycost.errors import LoadTestFailed

LENGTHS = (16, 32, 64, 128)
BATCHES = (4, 8, 16, 32)
_DEADLINE_S = 300.0
# Of each length about so much work: enough turns for the clock, not so many that a round outlasts the weather.
_TOKENS_A_TURN = 2048


@dataclass
class Measured:
    """What one artifact did in each round, texts per second; `best_batch` was the fastest of those tried on real texts.

    Memory is the proportional set size of its process alone, after all texts were answered once one by one.
    """

    name: str
    best_batch: int = 1
    memory_bytes: int = 0
    failure: str = ""
    by_length: dict[int, list[float]] = field(default_factory=dict)
    one_by_one: list[float] = field(default_factory=list)
    batched: list[float] = field(default_factory=list)

    def best(self) -> list[float]:
        """Rates on real texts in the better way of the two, by the median."""
        return max(self.one_by_one, self.batched, key=median)


def operations(shape: EncoderShape, tokens: int) -> float:
    """Multiplications and additions of one text: matrices of all layers, and attention; the head is left out."""
    matrices = 2 * tokens * shape.matrix_parameters
    attention = 2 * shape.layers * 2 * tokens * tokens * shape.hidden
    return float(matrices + attention)


def measure_peaks(core: tuple[int, ...]) -> dict[str, float]:
    """Operations per second that a core reaches in each precision, see `benchmarks.peak_rate`."""
    with Child("the peak rate", ("benchmarks.peak_rate",), core, from_folder=True) as child:
        return child.read(_DEADLINE_S)["operations_per_s"]


def measure(
    subjects: Sequence[Subject], texts: Path, core: tuple[int, ...], rounds: int, say: Callable[[str], None]
) -> list[Measured]:
    """Rounds of all artifacts; one that fails is told of and left out, unless it is the baseline.

    Raises:
        LoadTestFailed: the baseline failed.
    """
    found = [_alone(subject, texts, core) for subject in subjects]
    for one in found:
        if one.failure:
            if one.name == BASELINE:
                raise LoadTestFailed(one.failure)
            say(f"left out: {one.failure}")
    present = [(s, one) for s, one in zip(subjects, found, strict=True) if not one.failure]
    with ExitStack() as started:
        children = {s.name: started.enter_context(_started(s, texts, core)) for s, _ in present}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for one in (one for _, one in present):
                _turn(children[one.name], one)
    return found


def cost_ratio(one: Measured, baseline: Measured, *, batched: bool) -> Median:
    """Time per prediction over the baseline's, on real texts, within rounds; each in its better way if `batched`."""
    ours = one.best() if batched else one.one_by_one
    theirs = baseline.best() if batched else baseline.one_by_one
    return median_of([b / a for a, b in zip(ours, theirs, strict=True)])


def _started(subject: Subject, texts: Path, core: tuple[int, ...]) -> Child:
    child = Child(subject.name, ("benchmarks.artifact_loop", str(subject.bundle), str(texts)), core, from_folder=True)
    try:
        child.read(_DEADLINE_S)
    except BaseException:
        child.stop()
        raise
    return child


def _alone(subject: Subject, texts: Path, core: tuple[int, ...]) -> Measured:
    """What is measured once, with nobody beside who shares pages: memory, and which batch is fastest."""
    one = Measured(subject.name)
    try:
        with _started(subject, texts, core) as child:
            rates = {1: _rate(child, {"batch": 1})}
            sample = sample_tree(child.pid)
            if sample is None:
                raise child.death()
            one.memory_bytes = sample.memory_bytes
            rates |= {batch: _rate(child, {"batch": batch}) for batch in BATCHES}
            one.best_batch = max(BATCHES, key=rates.__getitem__)
    except LoadTestFailed as error:
        one.failure = str(error)
    return one


def _turn(child: Child, one: Measured) -> None:
    for tokens in LENGTHS:
        turns = max(4, _TOKENS_A_TURN // tokens)
        one.by_length.setdefault(tokens, []).append(_rate(child, {"batch": 1, "tokens": tokens, "turns": turns}))
    one.one_by_one.append(_rate(child, {"batch": 1}))
    one.batched.append(_rate(child, {"batch": one.best_batch}))


def _rate(child: Child, task: dict[str, int]) -> float:
    child.send(task)
    told = child.read(_DEADLINE_S)
    return told["texts"] / told["seconds"]
