"""The Locust side of a probe: command-line options, one user for each process, and Locust's own events and statistics.

Runs under plain Locust too, alone, with `--processes`, or as `--master` and `--worker` on several machines:

    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 --rate-rps 50 --result probe.json

The rate is that of the whole test. Each process has one user, whatever `--users` says: it sends its share.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import gevent
from gevent.queue import Queue
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import EventHook
from locust.rpc import Message
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests.crew import Crew, OnePerWorker
from loadtests.job import Job, job_from
from loadtests.plan import ProbePlan, plan_from
from loadtests.protocol import Exchange, address_of
from loadtests.result import ProbeResult, write_result
from loadtests.workload import read_material

# What the user of this process has to do.
jobs: Queue[Job] = Queue()
# Fired with `job: Job` and `result: ProbeResult`, or `error: str`, when the user of this process has done one.
job_done = EventHook()
# Tells a worker who its parent is, if it shall end with it.
PARENT_VARIABLE = "LOADTEST_PARENT"
_PARENT_POLL_S = 0.5


class RequestFailed(Exception):  # noqa: N818 - what Locust's tables show
    """A request without a good answer, as Locust counts them: equal ones are one line."""


class EndpointUser(User):
    """Takes one job after another. Each is a stream of requests, however many are in flight at a time."""

    @task
    def work(self) -> None:
        """Wait for a job, do it, and tell what came of it."""
        job = jobs.get()
        try:
            result = job.run(self.tell)
        except ValueError as error:
            job_done.fire(job=job, result=None, error=str(error))
        else:
            job_done.fire(job=job, result=result, error="")

    def tell(self, exchange: Exchange, duration_ms: float, received: int, error: str) -> None:
        """Have Locust count a request."""
        self.environment.events.request.fire(
            request_type=exchange.method,
            name=exchange.path,
            response_time=duration_ms,
            response_length=received,
            exception=RequestFailed(error) if error else None,
            context={},
        )


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Give Locust an option, with an environment variable `LOADTEST_NAME`, for each field of a plan."""
    group = parser.add_argument_group("probe options")
    for name, item in ProbePlan.__dataclass_fields__.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(item.default),
            default=item.default,
            choices=item.metadata["choices"],
            help=item.metadata["help"],
            env_var=f"LOADTEST_{name.upper()}",
        )
    group.add_argument("--result", default="", help="JSON file for the result", env_var="LOADTEST_RESULT")


@events.init.add_listener
def take_part(environment: Environment, **_: object) -> None:
    """Under plain Locust: a test is one probe, done here or shared out over the workers."""
    environment.dispatcher_class = OnePerWorker
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        join_crew(runner)
    elif isinstance(runner, MasterRunner):
        crew = Crew(runner)
        environment.events.test_start.add_listener(lambda **_: gevent.spawn(_lead, environment, crew))
        environment.events.test_stopping.add_listener(lambda **_: crew.interrupt("the test was stopped"))
    else:
        environment.events.test_start.add_listener(lambda **_: _begin(environment))
        job_done.add_listener(lambda job, result, error: _finish(environment, result, error))


def join_crew(runner: WorkerRunner) -> None:
    """Have a worker take its shares from its master, and tell what it found."""
    under_way: dict[int, Job] = {}

    def take(msg: Message, **_: object) -> None:
        job = job_from(msg.data)
        number = job.number

        def announce(window_unix_s: float, steady: bool) -> None:
            runner.send_message("probe_steady", {"number": number, "unix_s": window_unix_s, "steady": steady})

        job.share.announce = announce if job.share.parts > 1 else None
        under_way.clear()
        under_way[number] = job
        _give(job)

    def open_window(msg: Message, **_: object) -> None:
        if job := under_way.get(msg.data["number"]):
            job.share.steady, job.share.window_unix_s = msg.data["steady"], msg.data["unix_s"]

    def stop(msg: Message, **_: object) -> None:
        if job := under_way.get(msg.data["number"]):
            job.share.stop = msg.data["reason"]

    def told(job: Job, result: ProbeResult | None, error: str) -> None:
        text = write_result(result) if result is not None else ""
        runner.send_message("probe_part", {"number": job.number, "result": text, "error": error})

    runner.register_message("probe_share", take)
    runner.register_message("probe_window", open_window)
    runner.register_message("probe_stop", stop)
    job_done.add_listener(told)
    if parent := os.environ.get(PARENT_VARIABLE):
        gevent.spawn(_end_with, int(parent))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        gevent.sleep(_PARENT_POLL_S)
    os._exit(1)


def _begin(environment: Environment) -> None:
    try:
        _give(_asked(environment))
    except ValueError as error:
        _finish(environment, None, str(error))


def _give(job: Job) -> None:
    """Have the user of this process do a job, and none that was left undone when a test was stopped."""
    while not jobs.empty():
        jobs.get_nowait()
    jobs.put(job)


def _lead(environment: Environment, crew: Crew) -> None:
    try:
        job = _asked(environment)
        result, error = crew.run(job.url, job.plan, job.material), ""
    except (ValueError, RuntimeError) as wrong:
        result, error = None, str(wrong)
    _finish(environment, result, error)


def _asked(environment: Environment) -> Job:
    """What the options ask for.

    Raises:
        ValueError: something impossible; one line.
    """
    plan = plan_from(vars(environment.parsed_options))
    url = environment.host or ""
    address_of(url)
    return Job(url, plan, read_material(plan))


def _finish(environment: Environment, result: ProbeResult | None, error: str) -> None:
    """Write the result where `--result` says, and end the test with the probe."""
    options, runner = environment.parsed_options, environment.runner
    if result is not None and options is not None and options.result:
        try:
            _write(Path(options.result), write_result(result) + "\n")
        except OSError as wrong:
            error = f"cannot write {options.result}: {wrong.strerror or wrong}"
    if error or (result is not None and result.lost_workers):
        environment.process_exit_code = 2 if error else 1
        told = error or f"{result.lost_workers} of {result.workers} workers died" if result is not None else error
        logging.getLogger(__name__).error(told)
    if isinstance(runner, LocalRunner | MasterRunner):
        # From a greenlet of its own: the runner stops the users, and this may be one.
        gevent.spawn(runner.quit if options is not None and options.headless else runner.stop)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
