"""The load generator: one Locust process that runs the probes of a test one after another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploycost.benchmarking.child import Child
from deploycost.errors import LoadTestFailed
from loadtests.plan import ProbePlan
from loadtests.result import ProbeResult, read_result

START_DEADLINE_S = 60.0
# Beyond a probe's own time: more than the generator allows itself, so that its own word comes first.
PROBE_GRACE_S = 30.0


@dataclass(frozen=True)
class Generator:
    """A Locust process that waits for probes, and the file of texts that they send."""

    child: Child
    texts: str

    def run(self, url: str, plan: ProbePlan) -> ProbeResult:
        """The result of one probe against a base URL.

        Raises:
            LoadTestFailed: the generator died, hung, or refused the plan.
        """
        self.child.send({"host": url, "plan": asdict(plan)})
        answer = self.child.read(plan.warmup_s + plan.duration_s + plan.drain_s + PROBE_GRACE_S)
        if "error" in answer:
            raise LoadTestFailed(f"{self.child.name} failed: {answer['error']}")
        return read_result(json.dumps(answer))


@contextmanager
def running_generator(texts: Sequence[str], cores: Sequence[int]) -> Iterator[Generator]:
    """A generator that is ready to send these texts, stopped on the way out.

    Raises:
        LoadTestFailed: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="deploycost-load-") as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        with Child("the load generator", ("loadtests",), cores) as child:
            child.read(START_DEADLINE_S)
            yield Generator(child, str(path))
