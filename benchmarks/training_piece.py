"""One measured training, by deploycost or by the plain script, in a process of its own.

Started by `benchmarks.training`, never by hand: it reads a `Question` as JSON from its first argument and answers with
one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from benchmarks.plain_trainer import MAX_LENGTH, PlainSetting, plain_accuracy, plain_trainer
from benchmarks.training import PEERS, Answer, Question
from deploycost.dataset import Dataset, load_dataset
from deploycost.experiment import DatasetSpec, Experiment, MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.models.base import BaseModel, find_base, load_tokenizer
from deploycost.models.encoding import encode
from deploycost.tuning.counters import peak_memory_bytes, resident_memory_bytes
from deploycost.tuning.training import TuningJob, tune

_NS_PER_S = 1_000_000_000
# Enough for the judging that every training ends in; a timed training is not judged by it.
_FEW_TEST_ROWS = 40


class StepTimer(TrainerCallback):
    """Times the steps from `warm_up_steps`, at least one, to `steps`, and reads the memory's mark after the last."""

    def __init__(self, warm_up_steps: int, steps: int) -> None:
        if not 1 <= warm_up_steps < steps:
            raise ValueError(f"{warm_up_steps} warm-up steps of {steps}: expected at least 1, and steps left to time")
        self._ends = (warm_up_steps, steps)
        self._ended_ns: dict[int, tuple[int, int]] = {}
        self._baseline = resident_memory_bytes()
        self.peak_memory_bytes = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401 - its signature
        self.step_ended(state.global_step)

    def step_ended(self, done: int) -> None:
        # Once each: what comes after training is told of as the first of one step.
        if done in self._ends and done not in self._ended_ns:
            self._ended_ns[done] = perf_counter_ns(), process_time_ns()
            # The kernel brings its mark up to date now and then only.
            self.peak_memory_bytes = max(peak_memory_bytes(), resident_memory_bytes()) - self._baseline

    @property
    def durations_s(self) -> tuple[float, float]:
        """By the clock, and of all cores together."""
        (began, cores_began), (ended, cores_ended) = (self._ended_ns[step] for step in self._ends)
        return (ended - began) / _NS_PER_S, (cores_ended - cores_began) / _NS_PER_S


def measure(question: Question) -> Answer:
    """Trains once."""
    batch_size = METHODS[question.method].batch_size
    dataset = _dataset(question, batch_size)
    base = find_base(question.model)
    steps = question.epochs * -(-len(dataset.train) // batch_size)
    timer = StepTimer(question.warm_up_steps, steps)
    with tempfile.TemporaryDirectory() as folder:
        train = _ours if question.side == "ours" else _plain
        accuracy = train(question, base, dataset, timer, folder)
    timed = question.epochs * len(dataset.train) - question.warm_up_steps * batch_size
    texts = encode(load_tokenizer(base), dataset.train.texts, dataset.train.labels, MAX_LENGTH)
    duration_s, core_s = timer.durations_s
    return Answer(
        samples_per_s=timed / duration_s,
        tokens_per_s=timed / duration_s * texts.mean_tokens,
        samples_per_core_s=timed / core_s,
        peak_memory_bytes=timer.peak_memory_bytes,
        accuracy=accuracy,
        test_rows=len(dataset.test),
    )


def _dataset(question: Question, batch_size: int) -> Dataset:
    spec = DatasetSpec(source=question.dataset, train_rows=question.train_rows, test_rows=question.test_rows)
    dataset = load_dataset(spec, question.seed)
    if question.steps is None:
        return dataset
    rows = range(min(len(dataset.train), (question.warm_up_steps + question.steps) * batch_size))
    few = range(min(len(dataset.test), _FEW_TEST_ROWS))
    return replace(dataset, train=dataset.train.take(rows), test=dataset.test.take(few))


def _ours(question: Question, base: BaseModel, dataset: Dataset, timer: StepTimer, folder: str) -> float:
    training = TrainingSpec(epochs=question.epochs, seed=question.seed, max_tokens=MAX_LENGTH)
    experiment = Experiment(model=question.model, methods=(question.method,), training=training)
    job = TuningJob(experiment, question.method, base, dataset, fingerprint="benchmark")
    record = tune(job, Path(folder), lambda done, *_: timer.step_ended(done))
    return record.scores.accuracy


def _plain(question: Question, base: BaseModel, dataset: Dataset, timer: StepTimer, folder: str) -> float:
    method = METHODS[question.method]
    setting = PlainSetting(
        method=PEERS.get(question.method, "full"),
        place=base.place,
        model_type=base.model_type,
        labels=len(dataset.label_names),
        batch_size=method.batch_size,
        learning_rate=_plain_learning_rate(question.method),
        epochs=question.epochs,
        seed=question.seed,
        output_folder=folder,
    )
    trainer = plain_trainer(setting, dataset.train, [timer])
    trainer.train()
    return plain_accuracy(trainer, setting, dataset.test)


def _plain_learning_rate(method: MethodName) -> float:
    peer = METHODS[method if method in PEERS else "full"]
    return peer.prompt_learning_rate or peer.learning_rate


def main() -> None:
    """Answers the question in the first argument."""
    # The frameworks print as they go; the answer stands alone on standard output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    answers.write(json.dumps(asdict(measure(Question(**json.loads(sys.argv[1]))))))
    answers.close()


if __name__ == "__main__":
    main()
