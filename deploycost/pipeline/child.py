"""The child process (`deploycost.worker`) that trains and exports one method: its job, its memory, and its answer.

The frameworks are never loaded here, each method's peak memory is its own, and a method that is killed for memory takes
nothing else with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from deploycost.errors import DeploycostError, NoAnswer, UserError
from deploycost.experiment import Experiment, Frozen, MethodName, TrainingSpec
from deploycost.methods import METHODS
from deploycost.units import MIB

# For glibc's allocator: memory once got is kept. Steps would else give it back and have it zeroed anew each time, for a
# tenth of their duration and the same peak (docs/results/training-speed.md). Other C libraries pay no heed.
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1024 * MIB), "MALLOC_TRIM_THRESHOLD_": str(2048 * MIB - 1)}


class WorkerJob(Frozen):
    """What the child process of one method is told, on its standard input."""

    run_folder: Path
    experiment: Experiment
    method: MethodName
    tuning_fingerprint: str


class WorkerOutcome(Frozen):
    """What the child process of one method answers, on its standard output."""

    error: str | None = None
    exit_code: int = 0


def memory_advice(method: MethodName, training: TrainingSpec) -> str:
    """The flags under which training by a method takes less memory, as the end of a sentence that says `give`."""
    size = training.batch_size or METHODS[method].batch_size
    ways = [f"--batch-size {size // 2}"] if size > 1 else []
    ways += [] if training.gradient_checkpointing else ["--gradient-checkpointing"]
    if METHODS[method].bits(training.bits) != 4:
        ways += ["--bits 4" if METHODS[method].quantisable else "--method qlora --bits 4"]
    return ", or ".join([*ways, "a smaller --max-tokens"])


def worker_environment() -> dict[str, str]:
    """The environment of the process that trains: ours, and how its heap is kept where the user has not said."""
    return {**_HEAP, **os.environ}


def run_worker(job: Frozen, name: str, memory_advice: str) -> None:
    """Has the child process do a job: that of `name`, which takes less memory by what `memory_advice` says.

    Raises:
        UserError: it cannot be done.
        NoAnswer: an artifact was refused.
        DeploycostError: the child died.
    """
    # Its stderr is ours: progress bars go straight to the user's terminal. -P: what lies in the user's folder is not
    # taken for one of our modules.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "deploycost.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=worker_environment(),
    )
    try:
        answer, _ = child.communicate(job.model_dump_json())
    except BaseException:
        child.terminate()
        child.wait()
        raise
    _raise_outcome(name, memory_advice, answer, child.returncode)


def _raise_outcome(name: str, memory_advice: str, answer: str, return_code: int) -> None:
    try:
        outcome = WorkerOutcome(**json.loads(answer))
    except (ValueError, TypeError):
        hint = f"killed for memory? give {memory_advice}" if return_code == -9 else "see the lines above"
        raise DeploycostError(
            f"building {name!r} ended without an answer (exit status {return_code}): {hint}; "
            "finished stages are kept, the same command goes on from them"
        ) from None
    if outcome.error is not None:
        raise (NoAnswer if outcome.exit_code == NoAnswer.exit_code else UserError)(outcome.error)
