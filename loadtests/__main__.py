"""`python -m loadtests`: one Locust process that runs probe after probe, as told on stdin in lines of JSON.

Locust takes a second or two to start, and a search for a capacity needs a dozen probes. Each line
`{"host": ..., "plan": {...}}` is answered on stdout by one line: the result, or `{"error": ...}`. The first line
out is `{"event": "ready"}`. The process ends when stdin does, so it cannot outlive who started it.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gevent.queue import Queue

# Beyond a probe's own time, for Locust to start and stop a user.
GRACE_S = 10.0


def main() -> None:
    """Serves probes until stdin ends."""
    import gevent
    from gevent.queue import Empty, Queue

    lines: Queue[bytes] = Queue()
    answer = _prober()
    gevent.spawn(_read_into, lines)
    print('{"event": "ready"}', flush=True)
    while True:
        line = lines.get()
        try:
            text = answer(line)
        except (ValueError, TypeError, KeyError) as error:
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        except Empty:
            text = json.dumps({"error": "the probe did not end in time"})
        print(text, flush=True)


def _prober() -> Callable[[bytes], str]:
    """What does one probe and says where its result lies; it raises what is wrong with the line."""
    from gevent.queue import Queue
    from locust.env import Environment

    from loadtests.locustfile import EndpointUser, probe_finished
    from loadtests.plan import ProbePlan
    from loadtests.result import ProbeResult, write_result
    from loadtests.workload import read_texts

    environment = Environment(user_classes=[EndpointUser])
    runner = environment.create_local_runner()
    results: Queue[ProbeResult] = Queue()

    def collect(result: ProbeResult) -> None:
        results.put(result)

    def answer(line: bytes) -> str:
        command = json.loads(line)
        plan = ProbePlan(**command["plan"])
        # A mistake shows here, in one line, rather than in a user that Locust would start again and again.
        read_texts(plan.texts)
        environment.host, environment.parsed_options = command["host"], Namespace(**asdict(plan))
        runner.start(1, spawn_rate=1)
        try:
            return write_result(results.get(timeout=plan.warmup_s + plan.duration_s + plan.drain_s + GRACE_S))
        finally:
            runner.stop()

    probe_finished.add_listener(collect)
    return answer


def _read_into(lines: Queue[bytes]) -> None:
    import gevent

    pool = gevent.get_hub().threadpool
    while line := pool.apply(sys.stdin.buffer.readline):
        lines.put(line)
    # At once, even in the middle of a probe: nobody is left to read its result.
    os._exit(0)


if __name__ == "__main__":
    main()
