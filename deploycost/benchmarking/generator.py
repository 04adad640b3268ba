"""The load generator: Locust, which runs the probes of a test one after another, in one process or in several."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from deploycost.benchmarking.child import Child
from deploycost.errors import LoadTestFailed
from loadtests.plan import ProbePlan
from loadtests.result import ProbeResult, read_result
from loadtests.warmup import LONGEST_WARMUP_RATIO

START_DEADLINE_S = 90.0
# Workers on other machines are started by people.
JOIN_DEADLINE_S = 660.0
# Beyond a probe's own time: more than the generator allows itself, so that its own word comes first.
PROBE_GRACE_S = 40.0
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Traffic:
    """How requests of a load test look and arrive, as the fields of a `ProbePlan` of these names say."""

    arrivals: str = "poisson"
    trace: str = ""
    texts_per_request: int = 1
    protocol: str = "deploycost"
    model: str = "classifier"
    template: str = ""

    def applied(self, plan: ProbePlan, to_endpoint: bool) -> ProbePlan:
        """The plan with this traffic; the null server is sent as many texts in the protocol that it speaks."""
        asked = {item.name: getattr(self, item.name) for item in fields(self)}
        if not to_endpoint:
            asked |= {"protocol": "deploycost", "template": ""}
        return replace(plan, **asked)


@dataclass(frozen=True)
class Crew:
    """Who sends: one process, or `workers` on this machine and `expected` on others, which connect to `bind`:`port`."""

    workers: int = 0
    expected: int = 0
    bind: str = LOOPBACK
    port: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """As the generator's module takes them."""
        if not self.workers and not self.expected:
            return ()
        told = (("--workers", self.workers), ("--expect-workers", self.expected), ("--bind", self.bind))
        return tuple(str(part) for pair in (*told, ("--port", self.port)) for part in pair)


@dataclass(frozen=True)
class Generator:
    """A Locust process that waits for probes, and the file of texts that they send."""

    child: Child
    texts: str
    traffic: Traffic = field(default_factory=Traffic)

    def run(self, url: str, plan: ProbePlan, to_endpoint: bool = True) -> ProbeResult:
        """The result of one probe against the base URL of the endpoint, or of a null server.

        Raises:
            LoadTestFailed: the generator or a worker of it died, hung, or refused the plan.
        """
        plan = replace(self.traffic.applied(plan, to_endpoint), texts=plan.texts or self.texts)
        self.child.send({"host": url, "plan": asdict(plan)})
        longest_s = LONGEST_WARMUP_RATIO * plan.warmup_s + plan.duration_s + plan.drain_s
        answer = self.child.read(longest_s + PROBE_GRACE_S)
        if "error" in answer:
            raise LoadTestFailed(f"{self.child.name} failed: {answer['error']}")
        result = read_result(json.dumps(answer))
        if result.lost_workers:
            raise LoadTestFailed(f"{result.gave_up}; what it sent is lost, so nothing was measured")
        return result


@contextmanager
def running_generator(
    texts: Sequence[str],
    cores: Sequence[int],
    traffic: Traffic | None = None,
    crew: Crew | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Generator]:
    """A generator that is ready to send these texts, stopped on the way out with all its workers here.

    Raises:
        LoadTestFailed: it did not start, or not all of its workers came.
    """
    crew = crew or Crew()
    with tempfile.TemporaryDirectory(prefix="deploycost-load-") as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        with Child("the load generator", ("loadtests", *crew.options), cores) as child:
            line = child.read(START_DEADLINE_S)
            while line.get("event") != "ready":
                if "error" in line:
                    raise LoadTestFailed(f"the load generator did not start: {line['error']}")
                if line.get("event") == "waiting" and progress is not None:
                    progress(
                        f"waiting for {line['workers']} workers; start each on its machine with: {line['command']}"
                    )
                line = child.read(JOIN_DEADLINE_S)
            yield Generator(child, str(path), traffic or Traffic())
