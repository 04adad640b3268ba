"""The Locust side of a probe: an HTTP client, command-line options, and Locust's own events and statistics.

Runs under plain Locust too:

    locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000 --rate-rps 50 --result probe.json

Every Locust user is one stream of `--rate-rps` arrivals with a seed of its own; one user is enough for most tests.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import FastHttpUser, FastResponse
from locust.env import Environment
from locust.event import EventHook
from locust.exception import StopUser
from locust.runners import LocalRunner

from loadtests.plan import ProbePlan, plan_from
from loadtests.probe import MOST_IN_FLIGHT, run_probe
from loadtests.recorder import Answer
from loadtests.result import ProbeResult, write_result
from loadtests.workload import read_texts, request_bodies

PREDICT_PATH = "/predict"
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}

# Fired with `result: ProbeResult` by each user that has finished its probe.
probe_finished = EventHook()


class EndpointUser(FastHttpUser):
    """One stream of requests to `POST /predict`: runs one probe, tells its result, and stops."""

    fixed_count = 1
    concurrency = MOST_IN_FLIGHT + 1
    network_timeout = 30.0
    connection_timeout = 5.0
    streams: ClassVar[Any] = count()

    @task
    def probe(self) -> None:
        """Run the probe that the options describe."""
        plan = plan_from(vars(self.environment.parsed_options))
        plan = replace(plan, seed=plan.seed + next(self.streams))
        result = run_probe(plan, request_bodies(read_texts(plan.texts)), self.send)
        self.client.client.close()
        probe_finished.fire(result=result)
        raise StopUser

    def send(self, body: bytes) -> Answer:
        """Post one body; an answer is good if its status is 200 and it says something of the text."""
        with self.client.post(PREDICT_PATH, data=body, headers=HEADERS, catch_response=True) as response:  # type: ignore[arg-type]
            answer = judge(response)
            if answer.error:
                response.failure(answer.error)
        return answer


def judge(response: FastResponse) -> Answer:
    """What a response says, or what is wrong with it in a few words that many responses share.

    It says a label; labels, which may be none, joined by `|`; or a number.
    """
    if response.status_code == 0:
        return Answer(error=type(getattr(response, "error", None)).__name__)
    if response.status_code != 200:
        return Answer(error=f"HTTP {response.status_code}")
    try:
        content = json.loads(response.content or b"")
    except ValueError:
        return Answer(error="not JSON")
    match content:
        case {"label": str(label)}:
            return Answer(label=label)
        case {"labels": [*labels]} if all(isinstance(label, str) for label in labels):
            return Answer(label="|".join(labels))
        case {"value": float(value)}:
            return Answer(label=repr(value))
    return Answer(error="no label")


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
def leave_result(environment: Environment, **_: object) -> None:
    """Under plain Locust: write the result where `--result` says, and end the test with the probe."""
    options, runner = environment.parsed_options, environment.runner

    def finish(result: ProbeResult) -> None:
        if options is not None and options.result:
            Path(options.result).write_text(write_result(result) + "\n", encoding="utf-8")
        if isinstance(runner, LocalRunner):
            # From a greenlet of its own: the runner stops the users, and this one is a user.
            gevent.spawn(runner.quit if options is not None and options.headless else runner.stop)

    probe_finished.add_listener(finish)
