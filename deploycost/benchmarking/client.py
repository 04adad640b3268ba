"""Who sends the requests of a load test, and to whom: to an endpoint that is started, or to a service that runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from deploycost.benchmarking.cores import CorePlan, cores_of, plan_cores
from deploycost.benchmarking.endpoint import Endpoint, Target, existing_endpoint, running_endpoint
from deploycost.benchmarking.generator import Crew, Traffic


@dataclass(frozen=True)
class Client:
    """Who sends what: the traffic, the processes that make it, and the service to send it to, where one is running."""

    traffic: Traffic = field(default_factory=Traffic)
    crew: Crew = field(default_factory=Crew)
    target: Target | None = None

    def cores(self, threads: int) -> CorePlan:
        """Cores of both sides for a server of so many threads; a process that is not ours stays on those it is on."""
        planned = plan_cores(threads, self.crew.workers)
        return planned if self.target is None else CorePlan(cores_of(self.target.pid), planned.client)

    def endpoint(self, stack: ExitStack, name: str, module: Sequence[str], cores: CorePlan) -> Endpoint:
        """The service that was running, or else one that is started and that the stack stops.

        Raises:
            LoadTestFailed: it did not answer, or did not start.
        """
        if self.target is not None:
            return existing_endpoint(name, self.target)
        return stack.enter_context(running_endpoint(name, tuple(module), cores.server))
