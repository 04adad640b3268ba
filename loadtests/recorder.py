"""Turns the moments of each request into a `ProbeResult`: in integers, to the digits that its histograms keep.

An hour at hundreds of requests per second is millions of them. The last ones are kept as they were told, older ones
are counted where they belong, so that memory has a bound and the load is not held up by arithmetic at any one moment.
"""

from __future__ import annotations

from collections import Counter, deque
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
# So many finished requests are kept as they were told. What is counted while there is load must have been finished
# before the window ended, and no more than are in flight at once (`probe.MOST_IN_FLIGHT`) finish after that.
KEPT_REQUESTS = 20_000
# Bits of a value that a histogram of three significant digits tells apart.
_KEPT_BITS = 11


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
class _Cell:
    """Requests that were due in one part of the window: latencies in microseconds, of good answers."""

    requests: int = 0
    late: int = 0
    failed: int = 0
    latency_us: Counter[int] = field(default_factory=Counter)


@dataclass
class _Counts:
    """Requests that have been counted, of a window from `start_ns` on, `span_ns` of which are cut into slices.

    A busy nanosecond is one of one request in flight.
    """

    plan: ProbePlan
    start_ns: int
    span_ns: int
    inside: int = 0
    busy_ns: int = 0
    warmup_requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    service_us: Counter[int] = field(default_factory=Counter)
    dispatch_us: Counter[int] = field(default_factory=Counter)
    answers: list[tuple[int, str]] = field(default_factory=list)
    cells: list[_Cell] = field(default_factory=lambda: [_Cell() for _ in range(SLICES)])

    @property
    def requests(self) -> int:
        """Those of the window."""
        return sum(cell.requests for cell in self.cells)

    @property
    def latency_us(self) -> Counter[int]:
        """Latencies of all good answers."""
        total: Counter[int] = Counter()
        for cell in self.cells:
            total.update(cell.latency_us)
        return total

    def add(self, sent: Sent, answer: Answer, end_ns: int) -> None:
        """Count a request of a window that ends, or is to end, at `end_ns`."""
        self.busy_ns += max(0, min(sent.done_ns, end_ns) - max(sent.due_ns, self.start_ns))
        self.inside += not answer.error and self.start_ns <= sent.done_ns <= end_ns
        if sent.due_ns < self.start_ns:
            self.warmup_requests += 1
            return
        cell = self.cells[min(SLICES - 1, (sent.due_ns - self.start_ns) * SLICES // self.span_ns)]
        cell.requests += 1
        if answer.error:
            cell.failed += 1
            self.errors[answer.error] += 1
            return
        latency_ns = sent.done_ns - sent.due_ns
        cell.late += latency_ns > self.plan.late_ms * NS_PER_MS
        cell.latency_us[_kept_us(latency_ns)] += 1
        self.service_us[_kept_us(sent.done_ns - sent.sent_ns)] += 1
        self.dispatch_us[_kept_us(sent.sent_ns - sent.due_ns)] += 1
        if len(self.answers) < self.plan.answers:
            self.answers.append((sent.text, answer.label))


@dataclass
class Recorder:
    """Collects the requests of one probe whose measured window starts at `window_start_ns`, once that is known.

    `seen` are those that are not counted yet.
    """

    plan: ProbePlan
    window_start_ns: int = _NOT_YET
    warmup_s: float = 0.0
    steady: bool = False
    seen: deque[tuple[Sent, Answer]] = field(default_factory=deque)
    _counts: _Counts | None = None

    def open_window(self, start_ns: int, warmup_s: float, steady: bool) -> None:
        """Measure from this moment on, after a warm-up that lasted so long and ended in a steady state or not."""
        self.window_start_ns, self.warmup_s, self.steady = start_ns, warmup_s, steady

    def record(self, sent: Sent, answer: Answer) -> None:
        """Keep a finished request; one due in the warm-up counts only as load on the server."""
        self.seen.append((sent, answer))
        if len(self.seen) > KEPT_REQUESTS and self.window_start_ns != _NOT_YET:
            # As if it lasted as long as was planned: how else it may end shows only at its end.
            planned_ns = round(self.plan.duration_s * NS_PER_S)
            self._counts = self._counts or _Counts(self.plan, self.window_start_ns, planned_ns)
            self._counts.add(*self.seen.popleft(), self.window_start_ns + planned_ns)

    @property
    def requests(self) -> int:
        """Requests of the measured window that are finished."""
        counted = self._counts.requests if self._counts else 0
        return counted + sum(sent.due_ns >= self.window_start_ns for sent, _ in self.seen)

    def latencies_ms(self) -> list[float]:
        """Latencies of all good answers of the warm-up so far, in the order the requests were due."""
        good = sorted((sent for sent, answer in self.seen if not answer.error), key=lambda sent: sent.due_ns)
        return [(sent.done_ns - sent.due_ns) / NS_PER_MS for sent in good]

    def result(self, planned: int, window_end_ns: int, gave_up: str, client_cpu_ratio: float) -> ProbeResult:
        """All that was recorded, for a window that ended at `window_end_ns`.

        Where a probe of very many requests was given up, its slices are those of the window that was planned.
        """
        counts = self._all_counted(window_end_ns)
        window_s = max(window_end_ns - self.window_start_ns, 1) / NS_PER_S
        slices = [
            Slice(requests=cell.requests, late=cell.late, failed=cell.failed, latency=_encoded(cell.latency_us))
            for cell in counts.cells
        ]
        return ProbeResult(
            mode=self.plan.mode,
            rate_rps=self._rate_rps(planned) if self.plan.mode == "open" else counts.inside / window_s,
            planned=planned,
            requests=counts.requests,
            late=sum(each.late for each in slices),
            errors=dict(counts.errors),
            achieved_rps=counts.inside / window_s,
            window_s=window_s,
            gave_up=gave_up,
            latency=_encoded(counts.latency_us),
            service=_encoded(counts.service_us),
            dispatch=_encoded(counts.dispatch_us),
            mean_in_flight=counts.busy_ns / NS_PER_S / window_s,
            client_cpu_ratio=client_cpu_ratio,
            medians_ms=[each.median_ms for each in slices],
            slices=slices,
            warmup_s=self.warmup_s,
            warmup_requests=counts.warmup_requests,
            steady=self.steady,
            texts_per_request=self.plan.texts_per_request,
            answers=counts.answers,
        )

    def _all_counted(self, window_end_ns: int) -> _Counts:
        span_ns = max(window_end_ns - self.window_start_ns, 1)
        self._counts = self._counts or _Counts(self.plan, self.window_start_ns, span_ns)
        while self.seen:
            self._counts.add(*self.seen.popleft(), window_end_ns)
        return self._counts

    def _rate_rps(self, planned: int) -> float:
        # A trace that is replayed as it was recorded has the rate it has.
        return self.plan.rate_rps or planned / self.plan.duration_s


def _kept_us(value_ns: int) -> int:
    """Microseconds as a histogram keeps them: the least value that it does not tell from this one."""
    value_us = max(1, (value_ns + 500) // 1000)
    lost_bits = max(0, value_us.bit_length() - _KEPT_BITS)
    return value_us >> lost_bits << lost_bits


def _encoded(times_of: Counter[int]) -> str:
    histogram: HdrHistogram = new_histogram()
    for value_us, times in times_of.items():
        histogram.record_value(value_us, times)
    return encoded(histogram)
