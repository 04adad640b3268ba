"""Which cores the server and the client get, and how fast and how much our own a core is at the moment."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil

_KERNEL_BYTES = 4 << 20
_KERNEL_REPEATS = 9


@dataclass(frozen=True)
class CorePlan:
    """Cores of the server and of the client; both empty where this system cannot pin."""

    server: tuple[int, ...]
    client: tuple[int, ...]

    @property
    def apart(self) -> bool:
        """Whether the client leaves the server's cores alone."""
        return bool(self.server) and not set(self.server) & set(self.client)


def plan_cores(server_threads: int, client_workers: int = 0) -> CorePlan:
    """The first `server_threads` cores that we may use for the server, the last one for the client.

    Workers of the client get a core each, as far as there are cores that the server leaves.
    """
    if not hasattr(os, "sched_getaffinity"):
        return CorePlan((), ())
    allowed = sorted(os.sched_getaffinity(0))
    left = max(1, len(allowed) - server_threads)
    return CorePlan(tuple(allowed[:server_threads]), tuple(allowed[-min(max(1, client_workers), left) :]))


def cores_of(pid: int | None) -> tuple[int, ...]:
    """Cores that a process which is not ours stays on, as far as that can be told."""
    if pid is None or not hasattr(os, "sched_getaffinity"):
        return ()
    try:
        return tuple(sorted(os.sched_getaffinity(pid)))
    except OSError:
        return ()


@contextmanager
def on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """Keep the calling thread on these cores for a while; nothing where none are given."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def kernel_s(cores: tuple[int, ...]) -> float:
    """Seconds that a fixed piece of work takes on one of the cores: the median of several, about 50 ms in all.

    A hash over memory: it slows down with the clock and with a neighbour's use of the core, which is what it is for.
    """
    content = bytes(_KERNEL_BYTES)
    with on_cores(cores[:1]):
        return median(_timed_hash(content) for _ in range(_KERNEL_REPEATS))


@dataclass(frozen=True)
class HostState:
    """How the machine behaved meanwhile: change of its speed, and share of CPU time that its host took, if told."""

    duration_s: float
    drift_ratio: float
    steal_ratio: float | None


class HostWatch:
    """Watches the machine from its construction until `finish`; the cores must be idle at both moments."""

    def __init__(self, cores: tuple[int, ...]) -> None:
        self._cores, self._start_s = cores, time.perf_counter()
        self._kernel_s, self._steal_s = kernel_s(cores), _steal_s()

    def finish(self) -> HostState:
        """What was seen since."""
        duration_s, steal_s = time.perf_counter() - self._start_s, _steal_s()
        stolen_s = None if steal_s is None or self._steal_s is None else steal_s - self._steal_s
        return HostState(
            duration_s=duration_s,
            drift_ratio=abs(kernel_s(self._cores) / self._kernel_s - 1),
            steal_ratio=None if stolen_s is None else stolen_s / (duration_s * (psutil.cpu_count() or 1)),
        )


def _steal_s() -> float | None:
    # Linux only; psutil leaves the field out elsewhere.
    return getattr(psutil.cpu_times(), "steal", None)


def _timed_hash(content: bytes) -> float:
    start_ns = time.perf_counter_ns()
    hashlib.sha256(content).digest()
    return (time.perf_counter_ns() - start_ns) / 1e9
