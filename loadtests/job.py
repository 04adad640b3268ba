"""A share of a probe with all that it takes, as it travels to the process that does it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtests.connections import BadAnswer, Connections
from loadtests.plan import ProbePlan
from loadtests.probe import run_probe
from loadtests.protocol import Exchange, address_of, exchange_of
from loadtests.recorder import Answer
from loadtests.result import ProbeResult
from loadtests.template import Template
from loadtests.warmup import Share
from loadtests.workload import Material

# Told of each request: the exchange it belongs to, milliseconds, bytes of the answer, and what was wrong with it.
Tell = Callable[[Exchange, float, int, str], None]


@dataclass(frozen=True)
class Job:
    """What one process is to do of one probe. `number` tells the probes of a master apart."""

    url: str
    plan: ProbePlan
    material: Material
    share: Share = field(default_factory=Share)
    number: int = 0

    def as_message(self) -> dict[str, Any]:
        """Plain values, for a message to a worker."""
        share = self.share
        return {
            "url": self.url,
            "plan": asdict(self.plan),
            "material": asdict(self.material),
            "share": {"part": share.part, "parts": share.parts, "start_unix_s": share.start_unix_s},
            "number": self.number,
        }

    def run(self, tell: Tell) -> ProbeResult:
        """Do it. Locust's own book-keeping hears of each request by `tell`.

        Raises:
            ValueError: the URL is not one of an endpoint.
        """
        address = address_of(self.url)
        exchange, connections = exchange_of(self.plan, self.material, address), Connections(address)

        def send(number: int) -> Answer:
            start_ns, body = time.perf_counter_ns(), b""
            try:
                status, body = connections.exchange(exchange.requests[number])
            except OSError as error:
                answer = Answer(error=type(error).__name__)
            except BadAnswer as error:
                answer = Answer(error=str(error))
            else:
                answer = exchange.judge(status, body)
            tell(exchange, (time.perf_counter_ns() - start_ns) / 1e6, len(body), answer.error)
            return answer

        # What is there stays, and requests leave no cycles behind: looking for garbage would only hold up the next one.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            return run_probe(self.plan, exchange.first_texts, send, self.share, self.material.trace_s)
        finally:
            gc.enable()
            gc.unfreeze()
            connections.close()


def job_from(message: dict[str, Any]) -> Job:
    """The job that `as_message` told."""
    material = message["material"]
    template = Template(**material["template"]) if material["template"] else None
    return Job(
        url=message["url"],
        plan=ProbePlan(**message["plan"]),
        material=Material(material["texts"], material["trace_s"], template),
        share=Share(**message["share"]),
        number=message["number"],
    )
