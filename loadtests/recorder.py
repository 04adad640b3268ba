"""Turns the moments of each request into a `ProbeResult`: raw, in integers, without rounding on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

from loadtests.plan import ProbePlan
from loadtests.result import ProbeResult, Slice, encoded, new_histogram

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
# Enough to tell a trend from noise, and to estimate over how long latencies are alike; the tail needs more requests.
SLICES = 60
_NOT_YET = 1 << 62


class Answer(NamedTuple):
    """What came back: what it says of the text as one word, or the kind of error."""

    label: str = ""
    error: str = ""


class Sent(NamedTuple):
    """One request's moments, on the `perf_counter_ns` clock, and the number of its text."""

    text: int
    due_ns: int
    sent_ns: int
    done_ns: int


@dataclass
class Recorder:
    """Collects the requests of one probe whose measured window starts at `window_start_ns`, once that is known.

    While there is load nothing is done but to keep what is told: all arithmetic waits for the end.
    """

    plan: ProbePlan
    window_start_ns: int = _NOT_YET
    warmup_s: float = 0.0
    steady: bool = False
    seen: list[tuple[Sent, Answer]] = field(default_factory=list)

    def open_window(self, start_ns: int, warmup_s: float, steady: bool) -> None:
        """Measure from this moment on, after a warm-up that lasted so long and ended in a steady state or not."""
        self.window_start_ns, self.warmup_s, self.steady = start_ns, warmup_s, steady

    def record(self, sent: Sent, answer: Answer) -> None:
        """Keep a finished request; one due in the warm-up counts only as load on the server."""
        self.seen.append((sent, answer))

    @property
    def requests(self) -> int:
        """Requests of the measured window that are finished."""
        return sum(sent.due_ns >= self.window_start_ns for sent, _ in self.seen)

    def latencies_ms(self) -> list[float]:
        """Latencies of all good answers so far, in the order the requests were due."""
        good = sorted((sent for sent, answer in self.seen if not answer.error), key=lambda sent: sent.due_ns)
        return [(sent.done_ns - sent.due_ns) / NS_PER_MS for sent in good]

    def result(self, planned: int, window_end_ns: int, gave_up: str, client_cpu_ratio: float) -> ProbeResult:
        """All that was recorded, for a window that ended at `window_end_ns`."""
        start_ns = self.window_start_ns
        window_s = max(window_end_ns - start_ns, 1) / NS_PER_S
        inside = sum(not answer.error and start_ns <= sent.done_ns <= window_end_ns for sent, answer in self.seen)
        busy_ns = sum(max(0, min(sent.done_ns, window_end_ns) - max(sent.due_ns, start_ns)) for sent, _ in self.seen)
        measured = [pair for pair in self.seen if pair[0].due_ns >= start_ns]
        good = [(sent, answer) for sent, answer in measured if not answer.error]
        slices = self._slices(measured, window_end_ns)
        return ProbeResult(
            mode=self.plan.mode,
            rate_rps=self._rate_rps(planned) if self.plan.mode == "open" else inside / window_s,
            planned=planned,
            requests=len(measured),
            late=self._late(good),
            errors=dict(Counter(answer.error for _, answer in measured if answer.error)),
            achieved_rps=inside / window_s,
            window_s=window_s,
            gave_up=gave_up,
            latency=_encoded(sent.done_ns - sent.due_ns for sent, _ in good),
            service=_encoded(sent.done_ns - sent.sent_ns for sent, _ in good),
            dispatch=_encoded(sent.sent_ns - sent.due_ns for sent, _ in good),
            mean_in_flight=busy_ns / NS_PER_S / window_s,
            client_cpu_ratio=client_cpu_ratio,
            medians_ms=[each.median_ms for each in slices],
            slices=slices,
            warmup_s=self.warmup_s,
            warmup_requests=len(self.seen) - len(measured),
            steady=self.steady,
            texts_per_request=self.plan.texts_per_request,
            answers=[(sent.text, answer.label) for sent, answer in good[: self.plan.answers]],
        )

    def _rate_rps(self, planned: int) -> float:
        # A trace that is replayed as it was recorded has the rate it has.
        return self.plan.rate_rps or planned / self.plan.duration_s

    def _late(self, good: Iterable[tuple[Sent, Answer]]) -> int:
        limit_ns = self.plan.late_ms * NS_PER_MS
        return sum(sent.done_ns - sent.due_ns > limit_ns for sent, _ in good)

    def _slices(self, measured: Sequence[tuple[Sent, Answer]], window_end_ns: int) -> list[Slice]:
        parts: list[list[tuple[Sent, Answer]]] = [[] for _ in range(SLICES)]
        window_ns = max(window_end_ns - self.window_start_ns, 1)
        for pair in measured:
            parts[min(SLICES - 1, (pair[0].due_ns - self.window_start_ns) * SLICES // window_ns)].append(pair)
        return [self._slice(part) for part in parts]

    def _slice(self, part: Sequence[tuple[Sent, Answer]]) -> Slice:
        good = [pair for pair in part if not pair[1].error]
        latency = _encoded(sent.done_ns - sent.due_ns for sent, _ in good)
        return Slice(requests=len(part), late=self._late(good), failed=len(part) - len(good), latency=latency)


def _encoded(values_ns: Iterable[int]) -> str:
    histogram: HdrHistogram = new_histogram()
    for value_us, times in Counter(max(1, (value_ns + 500) // 1000) for value_ns in values_ns).items():
        histogram.record_value(value_us, times)
    return encoded(histogram)
