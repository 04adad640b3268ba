"""A training that is killed at the end of a step, in a process of its own: imported by that process by its name."""

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import torch  # noqa: TID253 - in the tests of what is made of the framework

from deploycost.tuning import trainer, training
from deploycost.tuning.trainer import Keeping
from deploycost.tuning.training import TuningJob, tune

# Forked from a server that has imported all this and computed nothing. A fork of the tests' own process would inherit
# the locks of thread pools, torch's and OpenVINO's, without their threads: it hangs or crashes in its first product.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def tune_until_killed(job: TuningJob, folder: Path, step: int, steps: int, *, at_every_step: bool) -> None:
    """Tunes, and is killed at the end of `step`, before it is kept; with checkpoints at every step or as usual."""
    folder.mkdir(parents=True, exist_ok=True)
    # Sums come out alike to the last bit on as many threads only.
    threads = torch.get_num_threads()
    process = _CONTEXT.Process(target=_tune, args=(job, folder, (step, steps), at_every_step, threads))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _tune(job: TuningJob, folder: Path, killed_at: tuple[int, int], at_every_step: bool, threads: int) -> None:
    torch.set_num_threads(threads)
    if at_every_step:
        training.Keeping = partial(Keeping, interval_s=0.0)  # pyright: ignore[reportAttributeAccessIssue]
        trainer._MOST_TIME_RATIO = float("inf")  # pyright: ignore[reportPrivateUsage]

    def kill_at(done: int, of: int, _: str) -> None:
        if (done, of) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    tune(job, folder, kill_at)
