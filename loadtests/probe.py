"""Runs one probe in gevent greenlets: an open loop that sends what is due when it is due, or a closed loop.

Locust's own users are a closed loop: each waits for its answer before it sends again, so a slow server is offered
less and its tail looks short. Here one Locust user sends every request in a greenlet of its own, and a request's
latency starts when it was due.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

import gevent
from gevent.pool import Group

from loadtests.alarm import Alarm
from loadtests.arrivals import NS_PER_S, arrival_offsets_ns
from loadtests.backlog import Backlog
from loadtests.plan import ProbePlan
from loadtests.recorder import NS_PER_MS, Answer, Recorder, Sent
from loadtests.result import ProbeResult
from loadtests.warmup import LOOK_EVERY_NS, PATIENCE_NS, Share, Warmup, longest_warmup_ns, perf_ns
from loadtests.workload import seeded_order

# Sends the request of this number and waits for its answer.
Send = Callable[[int], Answer]
# Each request in flight holds a socket, and the system gives a process only so many: beyond them a probe would measure
# the client's limits.
MOST_IN_FLIGHT = 5000
_OTHER_FILES = 100
# Nobody waits for an answer longer than this.
NETWORK_TIMEOUT_NS = 30 * NS_PER_S
# Between the decision to start and the first request that can be due.
HEAD_START_NS = 20 * NS_PER_MS
UNANSWERED = Answer(error="no answer in time")
# Warm-up arrivals are other ones than those of the window that follows.
_WARMUP_SEED = 1_000_003


class _InFlight(NamedTuple):
    text: int
    due_ns: int
    sent_ns: int
    greenlet: gevent.Greenlet


def run_probe(
    plan: ProbePlan, texts: Sequence[int], send: Send, share: Share | None = None, trace_s: Sequence[float] = ()
) -> ProbeResult:
    """What came of the probe, or of a share of it.

    `texts` has the number of the (first) text of each request that can be sent; `send` takes a position in it.
    """
    share = share or Share()
    return (
        _OpenLoop(plan, texts, send, share, trace_s).run()
        if plan.mode == "open"
        else _ClosedLoop(plan, texts, send, share).run()
    )


def most_in_flight() -> int:
    """How many requests this process may have in flight, as many as it wants if the system lets it."""
    if sys.platform == "win32":
        return MOST_IN_FLIGHT
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_IN_FLIGHT + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MOST_IN_FLIGHT if soft == resource.RLIM_INFINITY else min(MOST_IN_FLIGHT, soft - _OTHER_FILES)


def window_offsets_ns(plan: ProbePlan, trace_s: Sequence[float] = ()) -> list[int]:
    """When the requests of the measured window are due, in nanoseconds from its start."""
    return arrival_offsets_ns(plan.arrivals, plan.rate_rps, plan.duration_s, plan.seed, trace_s)


def _start_ns(share: Share) -> int:
    soon_ns = time.perf_counter_ns() + HEAD_START_NS
    return max(soon_ns, perf_ns(share.start_unix_s)) if share.start_unix_s else soon_ns


class _OpenLoop:
    """One open-loop probe under way."""

    def __init__(
        self, plan: ProbePlan, texts: Sequence[int], send: Send, share: Share, trace_s: Sequence[float]
    ) -> None:
        self._plan, self._texts, self._send, self._share = plan, texts, send, share
        warmup_s = (longest_warmup_ns(plan) + 2 * PATIENCE_NS) / NS_PER_S if plan.warmup_s else 0.0
        warm = arrival_offsets_ns(plan.arrivals, plan.rate_rps, warmup_s, plan.seed + _WARMUP_SEED, trace_s)
        self._warmup_offsets_ns = self._own(warm if warmup_s else [])
        self._offsets_ns = self._own(window_offsets_ns(plan, trace_s))
        self._warmup_order = self._own_order(plan.seed + _WARMUP_SEED)
        self._order = self._own_order(plan.seed)
        self._start_ns = _start_ns(share)
        self._recorder = Recorder(plan)
        self._warmup = Warmup(plan, share, self._recorder, self._start_ns)
        self._most_in_flight = most_in_flight()
        # Late are answers that came too late or were failures; who is still waited for is not among them.
        self._sent = self._answered = self._late = 0
        self._backlog = self._watched_backlog()
        self._gave_up = ""
        # Requests in flight, by their number; they are in the order they were sent.
        self._in_flight: dict[int, _InFlight] = {}
        # Measured requests whose deadline has not passed yet, and those of the passed that missed it.
        self._undecided: deque[tuple[int, int]] = deque()
        self._in_time: set[int] = set()
        self._missed = 0

    def run(self) -> ProbeResult:
        """Send everything that is due, or give up; then wait for answers, at most the plan's drain time."""
        cpu_s = time.process_time()
        with Alarm() as alarm:
            self._warm_up(alarm)
            start_ns = self._recorder.window_start_ns
            end_ns = start_ns + round(self._plan.duration_s * NS_PER_S)
            self._measure(alarm, start_ns)
            if not self._gave_up:
                alarm.wait_until(end_ns)
        now_ns = time.perf_counter_ns()
        window_end_ns = min(now_ns, end_ns)
        cpu_ratio = (time.process_time() - cpu_s) * NS_PER_S / max(1, now_ns - self._start_ns)
        gevent.joinall([each.greenlet for each in self._in_flight.values()], timeout=self._plan.drain_s)
        self._record_unanswered()
        return self._recorder.result(len(self._offsets_ns), window_end_ns, self._gave_up, cpu_ratio)

    def _watched_backlog(self) -> Backlog | None:
        """Of this process's share. A trace may bring more than the server bears for a while, and less after it."""
        plan = self._plan
        if not plan.hopeless_ms or plan.arrivals == "trace":
            return None
        return Backlog(
            rate_rps=plan.rate_rps / self._share.parts,
            late_s=plan.late_ms / 1000,
            hopeless_s=plan.hopeless_ms / 1000,
            end_s=plan.warmup_s + plan.duration_s,
            late_ratio=plan.give_up_ratio,
        )

    def _own(self, offsets_ns: list[int]) -> array[int]:
        # Eight bytes each: of an hour there may be millions.
        return array("q", offsets_ns[self._share.part :: self._share.parts])

    def _own_order(self, seed: int) -> Iterator[int]:
        return islice(seeded_order(len(self._texts), seed), self._share.part, None, self._share.parts)

    def _warm_up(self, alarm: Alarm) -> None:
        """Sends until the measured window begins; what is due after that is not sent."""
        for offset_ns in (*self._warmup_offsets_ns, longest_warmup_ns(self._plan) + 3 * PATIENCE_NS):
            due_ns = self._start_ns + offset_ns
            while not self._gave_up:
                self._warmup.look()
                if self._warmup.over and due_ns >= self._recorder.window_start_ns:
                    return
                if (now_ns := time.perf_counter_ns()) >= due_ns:
                    break
                alarm.wait_until(min(due_ns, now_ns + LOOK_EVERY_NS))
            self._gave_up = self._gave_up or self._hopeless()
            if self._gave_up:
                break
            self._start_request(due_ns, next(self._warmup_order))
        if not self._warmup.over:
            # Given up before anything was measured: the later half of what there was tells how far off the rate is.
            half_ns = (time.perf_counter_ns() - self._start_ns) // 2
            self._recorder.open_window(self._start_ns + half_ns, half_ns / NS_PER_S, steady=False)

    def _measure(self, alarm: Alarm, start_ns: int) -> None:
        for offset_ns in () if self._gave_up else self._offsets_ns:
            due_ns = start_ns + offset_ns
            # Waiting also lets answers in, so it is done even where the next request is overdue.
            alarm.wait_until(due_ns)
            if gave_up := self._hopeless():
                self._gave_up = gave_up
                return
            self._undecided.append((self._sent, due_ns))
            self._start_request(due_ns, next(self._order))

    def _start_request(self, due_ns: int, body: int) -> None:
        gevent.spawn(self._request, self._sent, due_ns, body)
        self._sent += 1

    def _request(self, number: int, due_ns: int, body: int) -> None:
        sent_ns, text = time.perf_counter_ns(), self._texts[body]
        self._in_flight[number] = _InFlight(text, due_ns, sent_ns, cast("gevent.Greenlet", gevent.getcurrent()))
        answer = self._send(body)
        done_ns = time.perf_counter_ns()
        if self._in_flight.pop(number, None) is None:
            return
        if not answer.error and done_ns - due_ns <= self._plan.late_ms * NS_PER_MS:
            self._in_time.add(number)
        else:
            self._late += 1
        self._answered += 1
        self._recorder.record(Sent(text, due_ns, sent_ns, done_ns), answer)

    def _hopeless(self) -> str:
        """Why the rest of the probe cannot change its verdict, or nothing.

        Every measured request is judged once, when its deadline passes, so requests still unanswered count too.
        """
        now_ns = time.perf_counter_ns()
        deadline_ns = now_ns - self._plan.late_ms * NS_PER_MS
        while self._undecided and self._undecided[0][1] < deadline_ns:
            number, _ = self._undecided.popleft()
            self._missed += number not in self._in_time
            self._in_time.discard(number)
        if self._missed > self._plan.give_up_ratio * len(self._offsets_ns):
            return f"{self._missed} of {len(self._offsets_ns)} requests were already late or failed"
        since_s = (now_ns - self._start_ns) / NS_PER_S
        if self._backlog is not None and self._backlog.wants(since_s):
            overdue = sum(each.due_ns < deadline_ns for each in self._in_flight.values())
            if piled_up := self._backlog.look(since_s, self._sent, self._answered, self._late + overdue):
                return piled_up
        if len(self._in_flight) > self._most_in_flight:
            return f"more than {self._most_in_flight} requests were in flight"
        if self._in_flight and now_ns - next(iter(self._in_flight.values())).sent_ns > NETWORK_TIMEOUT_NS:
            self._record_unanswered(now_ns - NETWORK_TIMEOUT_NS)
        return self._share.stop

    def _record_unanswered(self, sent_before_ns: int | None = None) -> None:
        """Gives up on requests in flight, or on those of them that were sent before a moment."""
        now_ns = time.perf_counter_ns()
        for number, each in list(self._in_flight.items()):
            if sent_before_ns is not None and each.sent_ns >= sent_before_ns:
                return
            del self._in_flight[number]
            self._late += 1
            self._recorder.record(Sent(each.text, each.due_ns, each.sent_ns, now_ns), UNANSWERED)
            each.greenlet.kill(block=False)


class _ClosedLoop:
    """One closed-loop probe under way: users who send again as soon as they are answered."""

    def __init__(self, plan: ProbePlan, texts: Sequence[int], send: Send, share: Share) -> None:
        self._plan, self._texts, self._send, self._share = plan, texts, send, share
        self._order = islice(seeded_order(len(texts), plan.seed), share.part, None, share.parts)
        self._users = len(range(share.part, plan.concurrency, share.parts))
        self._start_ns = _start_ns(share)
        self._recorder = Recorder(plan)
        self._warmup = Warmup(plan, share, self._recorder, self._start_ns)
        self._waiting: dict[int, tuple[int, int]] = {}

    def run(self) -> ProbeResult:
        """Keep the users busy until the window ends; then wait for answers, at most the plan's drain time."""
        gevent.sleep(max(0, self._start_ns - time.perf_counter_ns()) / NS_PER_S)
        cpu_s, group = time.process_time(), Group()
        for number in range(self._users):
            group.start(gevent.Greenlet(self._user, number))
        while not self._warmup.over:
            gevent.sleep(LOOK_EVERY_NS / NS_PER_S)
            self._warmup.look()
        while time.perf_counter_ns() < self._end_ns and not self._share.stop:
            gevent.sleep(min(LOOK_EVERY_NS, max(0, self._end_ns - time.perf_counter_ns())) / NS_PER_S)
        now_ns = time.perf_counter_ns()
        cpu_ratio = (time.process_time() - cpu_s) * NS_PER_S / max(1, now_ns - self._start_ns)
        group.join(timeout=self._plan.drain_s)
        end_ns = min(now_ns, self._end_ns)
        for text, sent_ns in list(self._waiting.values()):
            self._recorder.record(Sent(text, sent_ns, sent_ns, time.perf_counter_ns()), UNANSWERED)
        group.kill()
        return self._recorder.result(self._recorder.requests, end_ns, self._share.stop, cpu_ratio)

    @property
    def _end_ns(self) -> int:
        return self._recorder.window_start_ns + round(self._plan.duration_s * NS_PER_S)

    def _user(self, number: int) -> None:
        while not self._share.stop:
            sent_ns = time.perf_counter_ns()
            if self._warmup.over and sent_ns >= self._end_ns:
                return
            body = next(self._order)
            text = self._texts[body]
            self._waiting[number] = (text, sent_ns)
            answer = self._send(body)
            del self._waiting[number]
            self._recorder.record(Sent(text, sent_ns, sent_ns, time.perf_counter_ns()), answer)
            gevent.sleep(0)
