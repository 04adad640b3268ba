"""Memory and CPU of a server, read from outside at a low rate: reading them costs the server time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil

from deploycost.benchmarking.cores import on_cores
from deploycost.benchmarking.meters import GpuMeter
from deploycost.energy_counter import NVML, RAPL, PackageCounter
from deploycost.records import MemoryUse

INTERVAL_S = 0.5
# So long an idle server is watched where there is a counter of energy: four samples.
IDLE_S = 3.5 * INTERVAL_S


@dataclass(frozen=True)
class Sample:
    """One look at a process tree: when (perf_counter), its proportional set size, its CPU time so far.

    Of the machine: seconds that each core was busy so far, and what its counters told; None where there is none.
    """

    at_s: float
    memory_bytes: int
    cpu_s: float
    cores_s: tuple[float, ...] = ()
    gpu_memory_bytes: int | None = None
    package_joules: float | None = None
    gpu_joules: float | None = None


@dataclass(frozen=True)
class Meters:
    """The counters of the machine that there are."""

    package: PackageCounter | None = None
    gpu: GpuMeter | None = None


def sample_tree(pid: int, meters: Meters | None = None) -> Sample | None:
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
    meters = meters or Meters()
    return Sample(
        at_s=time.perf_counter(),
        memory_bytes=memory_bytes,
        cpu_s=sum(item.user + item.system for item in times),
        cores_s=tuple(_busy_s(item) for item in psutil.cpu_times(percpu=True)),
        gpu_memory_bytes=meters.gpu.memory_bytes(member.pid for member in members) if meters.gpu else None,
        package_joules=meters.package.joules() if meters.package else None,
        gpu_joules=meters.gpu.joules() if meters.gpu else None,
    )


class Sampler:
    """Samples a process tree in a thread, kept off the server's cores, while the context lasts."""

    def __init__(self, pid: int, cores: tuple[int, ...], meters: Meters | None = None) -> None:
        self._pid, self._cores, self._meters = pid, cores, meters
        self._samples: list[Sample] = []
        self._idle: list[tuple[float, float]] = []
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

    def watch_idle(self) -> None:
        """Waits while nothing is asked of the server, so that counters of energy tell what idling takes."""
        if self._meters and (self._meters.package or self._meters.gpu):
            began = time.perf_counter()
            self._stopped.wait(IDLE_S)
            self._idle.append((began, time.perf_counter()))

    def memory_use(self, busy: list[tuple[float, float]]) -> MemoryUse:
        """Idle is the first sample, at capacity the most within the `busy` periods, peak the most of all."""
        used = [(sample.at_s, sample.memory_bytes) for sample in list(self._samples)]
        return _memory_use(used or [(0.0, 0)], busy)

    def gpu_memory_use(self, busy: list[tuple[float, float]]) -> MemoryUse | None:
        """As `memory_use`, of what the processes hold on the GPU; None where there is none or they hold nothing."""
        used = [(each.at_s, each.gpu_memory_bytes or 0) for each in list(self._samples)]
        return _memory_use(used, busy) if any(held for _, held in used) else None

    def cpu_ratio(self, busy: list[tuple[float, float]], cores: int) -> float | None:
        """The share of `cores` in use during the `busy` periods, or None where no period holds two samples."""
        rate = self._rate(busy, lambda sample: sample.cpu_s)
        return rate / cores if rate is not None else None

    def core_cpu_ratios(self, busy: list[tuple[float, float]]) -> tuple[float, ...]:
        """The share of the `busy` periods that each core of the machine worked, for whomever."""
        number = min((len(sample.cores_s) for sample in self._samples), default=0)
        rates = [self._rate(busy, lambda sample, core=core: sample.cores_s[core]) for core in range(number)]
        return tuple(min(1.0, rate) for rate in rates if rate is not None)

    def watts(self, busy: list[tuple[float, float]]) -> tuple[float, str] | None:
        """Power during the `busy` periods by the counters that there are, and which; None where there is none."""
        counters = [
            (self._rate(busy, lambda sample: sample.package_joules), RAPL),
            (self._rate(busy, lambda sample: sample.gpu_joules), NVML),
        ]
        told = [(watts, source) for watts, source in counters if watts is not None]
        return (sum(watts for watts, _ in told), " and ".join(source for _, source in told)) if told else None

    def idle_watts(self) -> tuple[float, str] | None:
        """Power by the same counters while the server was watched idle; None where it was not."""
        return self.watts(self._idle)

    def _rate(self, busy: list[tuple[float, float]], counter: Callable[[Sample], float | None]) -> float | None:
        """How fast a counter rose during the periods, per second; None where no period holds two readings."""
        risen = passed_s = 0.0
        for start, end in busy:
            inside = [
                (sample.at_s, value)
                for sample in self._samples
                if start <= sample.at_s <= end and (value := counter(sample)) is not None
            ]
            if len(inside) > 1:
                risen += inside[-1][1] - inside[0][1]
                passed_s += inside[-1][0] - inside[0][0]
        return risen / passed_s if passed_s else None

    def _run(self) -> None:
        with on_cores(self._cores):
            while (sample := sample_tree(self._pid, self._meters)) is not None:
                self._samples.append(sample)
                if self._stopped.wait(INTERVAL_S):
                    return


def _memory_use(used: list[tuple[float, int]], busy: list[tuple[float, float]]) -> MemoryUse:
    inside = [held for at_s, held in used if any(start <= at_s <= end for start, end in busy)]
    return MemoryUse(idle=used[0][1], at_capacity=max(inside, default=used[-1][1]), peak=max(held for _, held in used))


def _busy_s(times: Any) -> float:  # noqa: ANN401 - psutil's named tuple differs by system
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _memory_bytes(process: psutil.Process) -> int:
    full = process.memory_full_info()
    return getattr(full, "pss", full.rss)
