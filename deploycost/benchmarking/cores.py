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


def plan_cores(server_threads: int) -> CorePlan:
    """The first `server_threads` cores that we may use for the server, the last one for the client."""
    if not hasattr(os, "sched_getaffinity"):
        return CorePlan((), ())
    allowed = sorted(os.sched_getaffinity(0))
    return CorePlan(tuple(allowed[:server_threads]), (allowed[-1],))


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


def steal_s() -> float | None:
    """Core-seconds that the hypervisor has given to others since boot, or None where it does not tell."""
    return getattr(psutil.cpu_times(), "steal", None)


def _timed_hash(content: bytes) -> float:
    start_ns = time.perf_counter_ns()
    hashlib.sha256(content).digest()
    return (time.perf_counter_ns() - start_ns) / 1e9
