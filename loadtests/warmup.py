"""Which part of a probe one process does, and from when on it is measured: what processes must agree on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.plan import ProbePlan
from loadtests.recorder import NS_PER_S, Recorder
from loadtests.steady import is_overrun, is_steady

# A server that is not steady after so many times the least warm-up is measured as it is, and the result says so.
LONGEST_WARMUP_RATIO = 4
LOOK_EVERY_NS = NS_PER_S // 10
# Between the decision and the moment it is about, for the word of it to reach the other processes.
NOTICE_S = 0.3
# So long a process waits for that word beyond the longest warm-up, before it goes on without.
PATIENCE_NS = NS_PER_S


@dataclass
class Share:
    """The part of a probe that one process does: every `parts`-th request, from number `part` on.

    `start_unix_s` is when all begin, 0 for at once. Part 0 decides when the measured window begins and tells it by
    `announce`; whoever hands on its word sets `window_unix_s` and `steady` in every share, and `stop` to end a probe.
    """

    part: int = 0
    parts: int = 1
    start_unix_s: float = 0.0
    announce: Callable[[float, bool], None] | None = None
    window_unix_s: float = 0.0
    steady: bool = False
    stop: str = ""


class Warmup:
    """Finds the moment when the measured window of a recorder begins."""

    def __init__(self, plan: ProbePlan, share: Share, recorder: Recorder, start_ns: int) -> None:
        self._plan, self._share, self._recorder, self._start_ns = plan, share, recorder, start_ns
        self._next_look_ns = start_ns + round(plan.warmup_s * NS_PER_S)
        self._end_ns = start_ns + longest_warmup_ns(plan)
        self._told = False
        self.over = False
        if not plan.warmup_s:
            self._begin(start_ns, steady=False)

    def look(self) -> None:
        """Find out whether the window has been decided on, or can be. It may begin a little later than now."""
        now_ns = time.perf_counter_ns()
        if self.over:
            return
        if self._share.window_unix_s:
            self._begin(perf_ns(self._share.window_unix_s), self._share.steady)
        elif self._share.part and now_ns >= self._end_ns + PATIENCE_NS:
            self._begin(now_ns, steady=False)
        elif not self._share.part and not self._told and now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_EVERY_NS
            latencies_ms = self._recorder.latencies_ms()
            steady = is_steady(latencies_ms)
            broken = not latencies_ms and bool(self._recorder.seen)
            if steady or broken or is_overrun(latencies_ms, self._plan.late_ms) or now_ns >= self._end_ns:
                self._decide(now_ns, steady)

    def _decide(self, now_ns: int, steady: bool) -> None:
        if self._share.announce is None:
            self._begin(now_ns, steady)
        else:
            self._told = True
            self._share.announce(time.time() + NOTICE_S, steady)

    def _begin(self, window_ns: int, steady: bool) -> None:
        self.over = True
        self._recorder.open_window(window_ns, (window_ns - self._start_ns) / NS_PER_S, steady)


def longest_warmup_ns(plan: ProbePlan) -> int:
    """The longest that a warm-up lasts where no other process has a say."""
    return round(LONGEST_WARMUP_RATIO * plan.warmup_s * NS_PER_S)


def perf_ns(unix_s: float) -> int:
    """A moment of wall-clock time on this process's `perf_counter_ns` clock."""
    return time.perf_counter_ns() + round((unix_s - time.time()) * NS_PER_S)
