"""Turns the moments of each request into a `ProbeResult`: raw, in integers, without rounding on the way."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median

from hdrh.histogram import HdrHistogram

from loadtests.plan import ProbePlan
from loadtests.result import ProbeResult, new_histogram

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Answer:
    """What came back: what it says of the text as one word, or the kind of error."""

    label: str = ""
    error: str = ""


@dataclass(frozen=True)
class Sent:
    """One request's moments, on the `perf_counter_ns` clock, and the number of its text."""

    text: int
    due_ns: int
    sent_ns: int
    done_ns: int


@dataclass
class Recorder:
    """Collects the requests of one probe whose measured window starts at `window_start_ns`."""

    plan: ProbePlan
    window_start_ns: int
    latency: HdrHistogram = field(default_factory=new_histogram)
    service: HdrHistogram = field(default_factory=new_histogram)
    dispatch: HdrHistogram = field(default_factory=new_histogram)
    late: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answers: list[tuple[int, str]] = field(default_factory=list)
    _latencies_ms: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    _spans_ns: list[tuple[int, int, bool]] = field(default_factory=list)

    def record(self, sent: Sent, answer: Answer) -> None:
        """Count a finished request; one due in the warm-up counts only as load on the server."""
        self._spans_ns.append((sent.due_ns, sent.done_ns, not answer.error))
        if sent.due_ns < self.window_start_ns:
            return
        self.requests += 1
        if answer.error:
            self.errors[answer.error] += 1
            return
        latency_ns = sent.done_ns - sent.due_ns
        _add(self.latency, latency_ns)
        _add(self.service, sent.done_ns - sent.sent_ns)
        _add(self.dispatch, sent.sent_ns - sent.due_ns)
        self.late += latency_ns > self.plan.late_ms * NS_PER_MS
        self._latencies_ms[(sent.due_ns - self.window_start_ns) // NS_PER_S].append(latency_ns / NS_PER_MS)
        if len(self.answers) < self.plan.answers:
            self.answers.append((sent.text, answer.label))

    def result(self, planned: int, window_end_ns: int, gave_up: str, client_cpu_ratio: float) -> ProbeResult:
        """All that was recorded, for a window that ended at `window_end_ns`."""
        window_s = max(window_end_ns - self.window_start_ns, 1) / NS_PER_S
        inside = [done for _, done, good in self._spans_ns if good and self.window_start_ns <= done <= window_end_ns]
        busy_ns = sum(
            max(0, min(done, window_end_ns) - max(due, self.window_start_ns)) for due, done, _ in self._spans_ns
        )
        seconds = range(max(self._latencies_ms, default=-1) + 1)
        return ProbeResult(
            mode=self.plan.mode,
            rate_rps=self.plan.rate_rps if self.plan.mode == "open" else len(inside) / window_s,
            planned=planned,
            requests=self.requests,
            late=self.late,
            errors=dict(self.errors),
            achieved_rps=len(inside) / window_s,
            window_s=window_s,
            gave_up=gave_up,
            latency=_encoded(self.latency),
            service=_encoded(self.service),
            dispatch=_encoded(self.dispatch),
            mean_in_flight=busy_ns / NS_PER_S / window_s,
            client_cpu_ratio=client_cpu_ratio,
            medians_ms=[median(values) if (values := self._latencies_ms.get(second)) else None for second in seconds],
            answers=self.answers,
        )


def _add(histogram: HdrHistogram, value_ns: int) -> None:
    histogram.record_value(max(1, round(value_ns / 1000)))


def _encoded(histogram: HdrHistogram) -> str:
    return histogram.encode().decode("ascii")
