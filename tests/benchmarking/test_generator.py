"""The generator as load tests drive it: several processes, the user's traffic, and services that run already."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from deploycost.benchmarking.endpoint import Target, existing_endpoint, running_endpoint
from deploycost.benchmarking.generator import Crew, Traffic, running_generator
from deploycost.errors import LoadTestFailed
from loadtests.plan import ProbePlan
from loadtests.result import merged

TEXTS = ("one text", "two texts", "three texts")
NULL = ("loadtests.null_server",)
pytestmark = pytest.mark.slow


def test_traffic_of_the_users_own_reaches_the_endpoint(tmp_path: Path) -> None:
    trace, template = tmp_path / "trace.txt", tmp_path / "service.json"
    trace.write_text("0\n0.1\n0.4\n", encoding="utf-8")
    template.write_text(
        json.dumps({"path": "/classify", "body": {"texts": "{{texts}}"}, "pointer": "/predictions/1/label"}),
        encoding="utf-8",
    )
    traffic = Traffic(
        arrivals="trace", trace=str(trace), texts_per_request=2, protocol="template", template=str(template)
    )
    with running_endpoint("null", NULL, ()) as endpoint, running_generator(TEXTS, (), traffic) as generator:
        result = generator.run(endpoint.url, ProbePlan(rate_rps=50, warmup_s=0.2, duration_s=1, answers=9))
        assert result.answered == result.planned == 50
        assert result.texts_per_request == 2
        # What stands at the pointer is the label of the second text of a request.
        assert {label for _, label in result.answers} <= {"one", "two", "three"}
        # A null server knows no template: it is sent the same number of texts as our own protocol has it.
        plain = generator.run(endpoint.url, ProbePlan(rate_rps=50, warmup_s=0, duration_s=0.5), to_endpoint=False)
        assert not plain.errors


def test_a_worker_that_is_killed_ends_the_test_in_one_line() -> None:
    with running_endpoint("null", NULL, ()) as endpoint, running_generator(TEXTS, (), crew=Crew(2)) as generator:
        result = generator.run(endpoint.url, ProbePlan(rate_rps=60, warmup_s=0.2, duration_s=0.5))
        assert (result.workers, result.answered) == (2, 30)
        assert merged([result.latency]).get_total_count() == 30
        workers = psutil.Process(generator.child.pid).children()
        assert len(workers) == 2
        os.kill(workers[1].pid, signal.SIGKILL)
        with pytest.raises(LoadTestFailed, match="1 of 2 workers of the load generator died; what it sent is lost"):
            generator.run(endpoint.url, ProbePlan(rate_rps=60, warmup_s=0.2, duration_s=30))
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


def test_a_service_that_runs_is_used_and_left_alone() -> None:
    with running_endpoint("null", NULL, ()) as started:
        endpoint = existing_endpoint("mine", Target(started.url, started.child.pid))
        assert endpoint.url == started.url
        assert endpoint.startup_s is None
        assert endpoint.child.alive
        endpoint.child.stop()
        assert started.child.alive
    assert not endpoint.child.alive
    with pytest.raises(LoadTestFailed, match=r"mine died: there is no process"):
        endpoint.wait_ready(1)
