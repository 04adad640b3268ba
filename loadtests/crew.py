"""The workers of a Locust master during a probe: who does which share of it, what they found, and who was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from gevent.queue import Empty, Queue
from locust.dispatch import UsersDispatcher
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner
from locust.user import User

from loadtests.job import Job
from loadtests.plan import ProbePlan
from loadtests.probe import window_offsets_ns
from loadtests.result import ProbeResult, merge_results, read_result
from loadtests.warmup import PATIENCE_NS, Share, longest_warmup_ns
from loadtests.workload import Material

# For the shares to arrive and their requests to be made, before the first one is due.
START_NOTICE_S = 0.7
POLL_S = 0.25
GRACE_S = 10.0


class OnePerWorker(UsersDispatcher):
    """Locust's dispatcher, with one user for each process, however many were asked for: a user keeps a process busy."""

    def new_dispatch(
        self, target_user_count: int, spawn_rate: float, user_classes: list[type[User]] | None = None
    ) -> None:
        """Begin to start or stop users."""
        number = len(self._worker_nodes) if target_user_count else 0
        super().new_dispatch(number, max(spawn_rate, number, 1), user_classes)


class Crew:
    """The workers that are connected to a master, as those who do probes.

    `dead` counts those that are known to have died, by whoever started them: Locust itself needs seconds to notice.
    """

    def __init__(self, runner: MasterRunner, dead: Callable[[], int] = lambda: 0) -> None:
        self._runner, self._dead = runner, dead
        self._numbers = count(1)
        self._told: Queue[dict[str, Any]] = Queue()
        self._interrupted = ""
        runner.register_message("probe_part", self._hear)
        runner.register_message("probe_steady", self._pass_on)

    def run(self, url: str, plan: ProbePlan, material: Material) -> ProbeResult:
        """The result of a probe that is shared out over the workers, as one process would have found it.

        A worker that dies ends the probe: the result tells how many were lost, and why it was given up.

        Raises:
            ValueError: a worker refused its share.
            RuntimeError: there is no worker, or none lived to tell.
        """
        workers = self._workers()
        if not workers:
            raise RuntimeError("no worker of the load generator is connected")
        number, start_unix_s = next(self._numbers), time.time() + START_NOTICE_S
        self._interrupted = ""
        for part, worker in enumerate(workers):
            job = Job(url, plan, material, Share(part, len(workers), start_unix_s), number)
            self._runner.send_message("probe_share", job.as_message(), worker)
        parts = self._collect(number, workers, time.monotonic() + START_NOTICE_S + longest_s(plan) + GRACE_S)
        lost = len(workers) - len(parts)
        if not parts:
            raise RuntimeError(self._interrupted or "every worker of the load generator died")
        planned = sum(part.planned for part in parts)
        if plan.mode == "open":
            planned = len(window_offsets_ns(plan, material.trace_s))
        return merge_results(plan, parts, planned, lost)

    def interrupt(self, reason: str) -> None:
        """End the probe that is under way, if any, for a reason."""
        self._interrupted = reason

    def _workers(self) -> list[str]:
        clients = [client for client in self._runner.clients.values() if client.state != STATE_MISSING]
        return [client.id for client in sorted(clients, key=lambda each: self._runner.get_worker_index(each.id))]

    def _collect(self, number: int, workers: list[str], deadline_s: float) -> list[ProbeResult]:
        parts: dict[str, ProbeResult] = {}
        lost: set[str] = set()
        stopped, dead_before, dead = False, self._dead(), 0
        while len(parts) + max(len(lost), dead) < len(workers):
            try:
                told = self._told.get(timeout=POLL_S)
            except Empty:
                told = None
            if told is not None and told["number"] == number:
                if told.get("error"):
                    self._stop(number, "a worker refused its share")
                    raise ValueError(told["error"])
                parts[told["worker"]] = read_result(told["result"])
            alive = self._workers() if time.monotonic() < deadline_s else []
            lost |= {worker for worker in workers if worker not in parts and worker not in alive}
            dead = self._dead() - dead_before
            reason = "a worker of the load generator died" if lost or dead else self._interrupted
            reason = reason or next((part.gave_up for part in parts.values() if part.gave_up), "")
            if reason and not stopped:
                stopped = True
                deadline_s = min(deadline_s, time.monotonic() + GRACE_S)
                self._stop(number, reason)
        return [parts[worker] for worker in workers if worker in parts]

    def _stop(self, number: int, reason: str) -> None:
        self._runner.send_message("probe_stop", {"number": number, "reason": reason})

    def _hear(self, msg: Message, **_: object) -> None:
        self._told.put({**msg.data, "worker": msg.node_id})

    def _pass_on(self, msg: Message, **_: object) -> None:
        self._runner.send_message("probe_window", msg.data)


def longest_s(plan: ProbePlan) -> float:
    """The longest that a probe takes, with all its waiting."""
    return (longest_warmup_ns(plan) + 3 * PATIENCE_NS) / 1e9 + plan.duration_s + plan.drain_s
