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
from dataclasses import asdict

# Beyond a probe's own time, for Locust to start and stop a user.
GRACE_S = 10.0


def main() -> None:
    """Serve probes until stdin ends."""
    import gevent
    from gevent.queue import Empty, Queue
    from locust.env import Environment

    from loadtests.locustfile import EndpointUser, probe_finished
    from loadtests.plan import ProbePlan
    from loadtests.result import ProbeResult, write_result
    from loadtests.workload import read_texts

    environment = Environment(user_classes=[EndpointUser])
    runner = environment.create_local_runner()
    lines: Queue[bytes] = Queue()
    results: Queue[ProbeResult] = Queue()

    def collect(result: ProbeResult) -> None:
        results.put(result)

    def read() -> None:
        pool = gevent.get_hub().threadpool
        while line := pool.apply(sys.stdin.buffer.readline):
            lines.put(line)
        # At once, even in the middle of a probe: nobody is left to read its result.
        os._exit(0)

    def answer(line: bytes) -> str:
        """Does one probe and says where its result lies, or what was wrong with it."""
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
    gevent.spawn(read)
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


if __name__ == "__main__":
    main()
