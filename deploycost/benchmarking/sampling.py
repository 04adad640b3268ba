"""Memory and CPU of a server, read from outside at a low rate: reading them costs the server time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

from deploycost.benchmarking.cores import on_cores
from deploycost.records import MemoryUse

INTERVAL_S = 0.5


@dataclass(frozen=True)
class Sample:
    """One look at a process tree: when (perf_counter), its proportional set size, its CPU time so far."""

    at_s: float
    memory_bytes: int
    cpu_s: float


def sample_tree(pid: int) -> Sample | None:
    """A sample of a process and all its descendants, or None once it is gone.

    Memory is the proportional set size, which counts shared pages once over all who share them; where the system
    does not tell it, the resident set size.
    """
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
        memory_bytes = sum(_memory_bytes(member) for member in members)
        times = [member.cpu_times() for member in members]
    except psutil.Error:
        return None
    return Sample(time.perf_counter(), memory_bytes, sum(item.user + item.system for item in times))


class Sampler:
    """Samples a process tree in a thread, kept off the server's cores, while the context lasts."""

    def __init__(self, pid: int, cores: tuple[int, ...]) -> None:
        self._pid, self._cores = pid, cores
        self._samples: list[Sample] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def memory_use(self, busy: list[tuple[float, float]]) -> MemoryUse:
        """Idle is the first sample, at capacity the most within the `busy` periods, peak the most of all."""
        samples = list(self._samples)
        used = [sample.memory_bytes for sample in samples] or [0]
        inside = [s.memory_bytes for s in samples if any(start <= s.at_s <= end for start, end in busy)]
        return MemoryUse(idle=used[0], at_capacity=max(inside, default=used[-1]), peak=max(used))

    def cpu_ratio(self, busy: list[tuple[float, float]], cores: int) -> float | None:
        """The share of `cores` in use during the `busy` periods, or None where no period holds two samples."""
        used_s = passed_s = 0.0
        for start, end in busy:
            inside = [sample for sample in self._samples if start <= sample.at_s <= end]
            if len(inside) > 1:
                used_s += inside[-1].cpu_s - inside[0].cpu_s
                passed_s += inside[-1].at_s - inside[0].at_s
        return used_s / passed_s / cores if passed_s else None

    def _run(self) -> None:
        with on_cores(self._cores):
            while (sample := sample_tree(self._pid)) is not None:
                self._samples.append(sample)
                if self._stopped.wait(INTERVAL_S):
                    return


def _memory_bytes(process: psutil.Process) -> int:
    full = process.memory_full_info()
    return getattr(full, "pss", full.rss)
