"""The null server's timetables, on a clock that stands still until it is moved."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, cast

import pytest

from loadtests.null_server import Batches, Fault, Timetable


class Clock:
    """As much of an event loop as a timetable uses; `advance` runs what is due."""

    def __init__(self) -> None:
        self.now_s, self._order = 0.0, count()
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        heappush(self._due, (when, next(self._order), callback, args))

    def advance(self, until_s: float, late_s: float = 0.0) -> None:
        while self._due and self._due[0][0] <= until_s:
            when, _, callback, args = heappop(self._due)
            self.now_s = max(self.now_s, when + late_s)
            callback(*args)
        self.now_s = max(self.now_s, until_s)


def served(arrivals_s: list[float], most: int, late_s: float = 0.0) -> list[float]:
    """When each request was answered by a server that takes 1 s and 0.5 s for each in a batch."""
    clock, batches, done = Clock(), Batches(1.0, 0.5, most), [0.0] * len(arrivals_s)
    loop = cast("asyncio.AbstractEventLoop", clock)
    for number, arrival_s in enumerate(arrivals_s):
        clock.advance(arrival_s, late_s)

        def answer(number: int = number) -> None:
            done[number] = batches.free_s

        batches.arrive(loop, answer)
    clock.advance(100, late_s)
    return done


def test_who_waits_together_is_served_together() -> None:
    # The first alone, until 1.5; the two that waited then share a batch of 2 s.
    assert served([0.0, 0.2, 0.4], most=8) == pytest.approx([1.5, 3.5, 3.5])
    assert served([0.0, 0.2, 0.4], most=1) == pytest.approx([1.5, 3.0, 4.5])
    assert served([0.0, 10.0], most=8) == pytest.approx([1.5, 11.5])


def test_a_late_timer_does_not_add_up() -> None:
    assert served([0.0, 0.2, 0.4], most=1, late_s=0.01) == pytest.approx([1.5, 3.0, 4.5])


def test_one_by_one() -> None:
    table = Timetable(1.0, exponential=False, servers=2, source=Random(0))
    assert [table.finish_s(now_s) for now_s in (0.0, 0.0, 0.5, 5.0)] == [1.0, 1.0, 2.0, 6.0]


def test_a_fault_begins_after_so_many() -> None:
    assert not Fault("", 0, seen=5).begun
    assert not Fault("die", 5, seen=5).begun
    assert Fault("die", 5, seen=6).begun
