"""`python -m loadtests`: Locust, ready to run probe after probe, as told on stdin in lines of JSON.

Locust takes a second or two to start, and a search for a capacity needs a dozen probes. Each line
`{"host": ..., "plan": {...}}` is answered on stdout by one line: the result, or `{"error": ...}`. Before the first, a
line `{"event": "ready"}` comes out. The process ends when stdin does, so it cannot outlive who started it.

With `--workers N` a Locust master is ready instead, and N workers of its own beside it; with `--expect-workers M` it
also waits for M that are started elsewhere, by the command on the line `{"event": "waiting", "command": ...}`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gevent.queue import Queue
    from locust.env import Environment

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Locust imports from the folder that it is started in before all others, whatever Python is told, and reads settings
# there: it is started where this package lies.
_HOME = LOCUSTFILE.parents[1]
_LOCUST = (sys.executable, "-P", "-m", "locust", "-f", str(LOCUSTFILE))
LOOPBACK = "127.0.0.1"
# Beyond a probe's own time, for Locust to start and stop.
GRACE_S = 10.0
# How long workers may take to connect: those of our own, and those that a person starts.
OWN_WORKERS_DEADLINE_S = 60.0
EXPECTED_WORKERS_DEADLINE_S = 600.0
_POLL_S = 0.05
_ANY_ADDRESS = ("0.0.0.0", "*", "::")  # noqa: S104 - names to know, not to bind to

Prober = Callable[[dict[str, Any]], str]


def main() -> None:
    """Serves probes until stdin ends."""
    options = _options()
    if options.join:
        _become_worker(options.join, options.port)
    import gevent
    from gevent.queue import Empty, Queue

    lines: Queue[bytes] = Queue()
    gevent.spawn(_read_into, lines)
    try:
        prober = _crew_prober(options) if options.workers or options.expect_workers else _own_prober()
    except (OSError, RuntimeError) as error:
        _say({"error": str(error)})
        # At once: an orderly exit would wait for the thread that reads stdin.
        os._exit(2)
    _say({"event": "ready"})
    while True:
        line = lines.get()
        try:
            text = prober(json.loads(line))
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        except Empty:
            text = json.dumps({"error": "the probe did not end in time"})
        print(text, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("--workers", type=int, default=0, help="processes that send, beside this one; 0: this one does")
    parser.add_argument("--expect-workers", type=int, default=0, help="workers that are started elsewhere")
    parser.add_argument("--bind", default=LOOPBACK, help="address that workers elsewhere connect to")
    parser.add_argument("--port", type=int, default=0, help="port that workers connect to; 0 for any free one")
    parser.add_argument("--join", default="", help="be a worker: of the one who listens on this address, and --port")
    return parser.parse_args()


def _say(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _environment() -> Environment:
    from locust.env import Environment

    from loadtests.crew import OnePerWorker
    from loadtests.locustfile import EndpointUser

    environment = Environment(user_classes=[EndpointUser])
    environment.dispatcher_class = OnePerWorker
    return environment


def _own_prober() -> Prober:
    """What has the user of this process do one probe, and tells its result; it raises what is wrong with the plan."""
    from gevent.queue import Queue

    from loadtests.crew import longest_s
    from loadtests.job import Job
    from loadtests.locustfile import job_done, jobs
    from loadtests.plan import ProbePlan
    from loadtests.result import ProbeResult, write_result
    from loadtests.workload import read_material

    environment = _environment()
    results: Queue[tuple[ProbeResult | None, str]] = Queue()
    job_done.add_listener(lambda job, result, error: results.put((result, error)))
    environment.create_local_runner().start(1, spawn_rate=1)

    def probe(command: dict[str, Any]) -> str:
        plan = ProbePlan(**command["plan"])
        jobs.put(Job(command["host"], plan, read_material(plan)))
        result, error = results.get(timeout=longest_s(plan) + GRACE_S)
        if result is None:
            raise ValueError(error)
        return write_result(result)

    return probe


def _crew_prober(options: argparse.Namespace) -> Prober:
    """The same with workers, which are connected by then.

    Raises:
        RuntimeError: the address cannot be bound to, or workers did not connect in time.
    """
    from locust.exception import RPCError

    from loadtests.crew import Crew
    from loadtests.plan import ProbePlan
    from loadtests.result import write_result
    from loadtests.workload import read_material

    environment = _environment()
    try:
        runner = environment.create_master_runner(options.bind, options.port)
    except (RPCError, OSError) as error:
        raise RuntimeError(f"cannot listen for workers on {options.bind}:{options.port}: {error}") from None
    port = runner.server.port
    own = [_start_worker(port) for _ in range(options.workers)]
    if options.expect_workers:
        host = socket.gethostname() if options.bind in _ANY_ADDRESS else options.bind
        command = f"python -m loadtests --join {host} --port {port}"
        _say({"event": "waiting", "command": command, "workers": options.expect_workers})
    _wait_for(runner, own, options.workers + options.expect_workers, bool(options.expect_workers))
    crew = Crew(runner, dead=lambda: sum(worker.poll() is not None for worker in own))
    runner.start(1, spawn_rate=1)

    def probe(command: dict[str, Any]) -> str:
        plan = ProbePlan(**command["plan"])
        return write_result(crew.run(command["host"], plan, read_material(plan)))

    return probe


def _joining(host: str, port: int) -> list[str]:
    """Locust's options by which a worker finds its master."""
    return ["--worker", "--master-host", host, "--master-port", str(port)]


def _become_worker(host: str, port: int) -> None:
    command = [*_LOCUST, *_joining(host, port)]
    os.chdir(_HOME)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _start_worker(port: int) -> subprocess.Popen[bytes]:
    from loadtests.locustfile import PARENT_VARIABLE

    return subprocess.Popen(
        [*_LOCUST, *_joining(LOOPBACK, port), "--loglevel", "ERROR"],
        cwd=_HOME,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _wait_for(runner: Any, own: list[subprocess.Popen[bytes]], number: int, expected: bool) -> None:  # noqa: ANN401
    import gevent

    left_s = EXPECTED_WORKERS_DEADLINE_S if expected else OWN_WORKERS_DEADLINE_S
    while len(runner.clients.ready) < number:
        dead = [worker for worker in own if worker.poll() is not None]
        if dead or left_s <= 0:
            told = f"a worker ended with {dead[0].returncode}" if dead else f"{len(runner.clients.ready)} connected"
            raise RuntimeError(f"the load generator waits for {number} workers in vain: {told}")
        gevent.sleep(_POLL_S)
        left_s -= _POLL_S


def _read_into(lines: Queue[bytes]) -> None:
    import gevent

    pool = gevent.get_hub().threadpool
    while line := pool.apply(sys.stdin.buffer.readline):
        lines.put(line)
    # At once, even in the middle of a probe: nobody is left to read its result.
    os._exit(0)


if __name__ == "__main__":
    main()
