"""Runs one probe in gevent greenlets: an open loop that sends what is due when it is due, or a closed loop.

Locust's own users are a closed loop: each waits for its answer before it sends again, so a slow server is offered
less and its tail looks short. Here one Locust user sends every request in a greenlet of its own, and a request's
latency starts when it was due.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import gevent
from gevent.pool import Group

from loadtests.arrivals import NS_PER_S, arrival_offsets_ns
from loadtests.plan import ProbePlan
from loadtests.recorder import NS_PER_MS, Answer, Recorder, Sent
from loadtests.result import ProbeResult
from loadtests.workload import seeded_order

Send = Callable[[bytes], Answer]
# Each request in flight holds a socket: beyond this a probe would measure the client's limits.
MOST_IN_FLIGHT = 900
# Between the decision to start and the first request that can be due.
HEAD_START_NS = 20 * NS_PER_MS
UNANSWERED = Answer(error="no answer in time")


def run_probe(plan: ProbePlan, bodies: list[bytes], send: Send) -> ProbeResult:
    """What came of the probe. `send` sends a body, waits in its greenlet for the answer, and judges it."""
    return _OpenLoop(plan, bodies, send).run() if plan.mode == "open" else _run_closed(plan, bodies, send)


class _OpenLoop:
    """One open-loop probe under way."""

    def __init__(self, plan: ProbePlan, bodies: list[bytes], send: Send) -> None:
        seconds = plan.warmup_s + plan.duration_s
        offsets = arrival_offsets_ns(plan.arrivals, plan.rate_rps, seconds, plan.seed)
        self._plan, self._bodies, self._send = plan, bodies, send
        self._start_ns = time.perf_counter_ns() + HEAD_START_NS
        self._end_ns = self._start_ns + round(seconds * NS_PER_S)
        self._due_ns = [self._start_ns + offset for offset in offsets]
        self._recorder = Recorder(plan, self._start_ns + round(plan.warmup_s * NS_PER_S))
        self._planned = sum(due >= self._recorder.window_start_ns for due in self._due_ns)
        # Requests in flight: number of the text and moment sent, by number of the request.
        self._in_flight: dict[int, tuple[int, int]] = {}
        # Measured requests whose deadline has not passed yet, and those of the passed that missed it.
        self._undecided: deque[int] = deque()
        self._in_time: set[int] = set()
        self._missed = 0

    def run(self) -> ProbeResult:
        """Send everything that is due, or give up; then wait for answers, at most the plan's drain time."""
        order, group = seeded_order(len(self._bodies), self._plan.seed), Group()
        cpu_s, gave_up = time.process_time(), ""
        for number, due_ns in enumerate(self._due_ns):
            # Sleeping also lets answers in, so it is done even where the next request is overdue.
            gevent.sleep(max(0, due_ns - time.perf_counter_ns()) / NS_PER_S)
            if gave_up := self._hopeless():
                break
            if due_ns >= self._recorder.window_start_ns:
                self._undecided.append(number)
            group.start(gevent.Greenlet(self._request, number, next(order)))
        else:
            gevent.sleep(max(0, self._end_ns - time.perf_counter_ns()) / NS_PER_S)
        window_end_ns = min(time.perf_counter_ns(), self._end_ns)
        cpu_ratio = (time.process_time() - cpu_s) * NS_PER_S / max(1, window_end_ns - self._start_ns)
        group.join(timeout=self._plan.drain_s)
        self._record_unanswered()
        group.kill()
        return self._recorder.result(self._planned, window_end_ns, gave_up, cpu_ratio)

    def _request(self, number: int, text: int) -> None:
        due_ns, sent_ns = self._due_ns[number], time.perf_counter_ns()
        self._in_flight[number] = (text, sent_ns)
        answer = self._send(self._bodies[text])
        done_ns = time.perf_counter_ns()
        if self._in_flight.pop(number, None) is None:
            return
        if not answer.error and done_ns - due_ns <= self._plan.late_ms * NS_PER_MS:
            self._in_time.add(number)
        self._recorder.record(Sent(text, due_ns, sent_ns, done_ns), answer)

    def _hopeless(self) -> str:
        """Why the rest of the probe cannot change its verdict, or nothing.

        Every measured request is judged once, when its deadline passes, so requests still unanswered count too.
        """
        deadline_ns = time.perf_counter_ns() - self._plan.late_ms * NS_PER_MS
        while self._undecided and self._due_ns[self._undecided[0]] < deadline_ns:
            number = self._undecided.popleft()
            self._missed += number not in self._in_time
            self._in_time.discard(number)
        if self._missed > self._plan.give_up_ratio * self._planned:
            return f"{self._missed} of {self._planned} requests were already late or failed"
        if len(self._in_flight) > MOST_IN_FLIGHT:
            return f"more than {MOST_IN_FLIGHT} requests were in flight"
        return ""

    def _record_unanswered(self) -> None:
        now_ns = time.perf_counter_ns()
        for number, (text, sent_ns) in self._in_flight.items():
            self._recorder.record(Sent(text, self._due_ns[number], sent_ns, now_ns), UNANSWERED)
        self._in_flight.clear()


def _run_closed(plan: ProbePlan, bodies: list[bytes], send: Send) -> ProbeResult:
    start_ns = time.perf_counter_ns()
    recorder = Recorder(plan, start_ns + round(plan.warmup_s * NS_PER_S))
    end_ns = recorder.window_start_ns + round(plan.duration_s * NS_PER_S)
    order = seeded_order(len(bodies), plan.seed)
    waiting: dict[int, tuple[int, int]] = {}

    def user(number: int) -> None:
        """Sends the next request as soon as the last is answered, until the probe ends."""
        while (sent_ns := time.perf_counter_ns()) < end_ns:
            text = next(order)
            waiting[number] = (text, sent_ns)
            answer = send(bodies[text])
            del waiting[number]
            recorder.record(Sent(text, sent_ns, sent_ns, time.perf_counter_ns()), answer)
            gevent.sleep(0)

    cpu_s, group = time.process_time(), Group()
    for number in range(plan.concurrency):
        group.start(gevent.Greenlet(user, number))
    group.join(timeout=plan.warmup_s + plan.duration_s)
    cpu_ratio = (time.process_time() - cpu_s) * NS_PER_S / (time.perf_counter_ns() - start_ns)
    group.join(timeout=plan.drain_s)
    now_ns = time.perf_counter_ns()
    for text, sent_ns in list(waiting.values()):
        recorder.record(Sent(text, sent_ns, sent_ns, now_ns), UNANSWERED)
    group.kill()
    return recorder.result(recorder.requests, end_ns, "", cpu_ratio)
