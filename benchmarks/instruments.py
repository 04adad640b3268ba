"""What the benchmark measures with: the load generator on a core of its own, the raw loop on the server's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import RunningServer
from benchmarks.load_generator import PATIENCE_S, ClosedLoad, OpenLoad
from deploycost.benchmarking.child import Child
from deploycost.benchmarking.cores import CorePlan
from deploycost.errors import LoadTestFailed

# A server that needs longer for one turn is not worth waiting for.
TURN_DEADLINE_S = 300.0
# Before a turn's answers count: caches are warm again, and all connections have company.
_LEAD = 16
_NULL_ANSWERS = 4000


@dataclass(frozen=True)
class Turn:
    """A closed loop that is over: answers per second, and the share of its core that the generator used."""

    rate_rps: float
    generator_cpu_ratio: float


@dataclass(frozen=True)
class Instruments:
    """The running generator and raw loop, both on the same `texts` texts."""

    generator: Child
    raw: Child
    texts: int

    def raw_times_s(self) -> list[float]:
        """How long the bare model takes for each text, one after the other."""
        self.raw.send({})
        return self.raw.read(TURN_DEADLINE_S)["times_s"]

    def raw_rate_rps(self) -> float:
        """Texts per second of the bare model."""
        return self.texts / sum(self.raw_times_s())

    def closed(self, server: RunningServer, connections: int) -> Turn:
        """All texts through a server. `LoadTestFailed` where it fails, or answers anything but 200."""
        load = ClosedLoad(server.port, server.contender.field, connections, _LEAD + connections, self.texts)
        return self._turn(server.contender.name, load)

    def open(self, load: OpenLoad) -> dict[str, Any]:
        """What the generator tells of an open loop; see `benchmarks.load_generator.OpenLoop`."""
        self.generator.send(asdict(load))
        told = self.generator.read(load.seconds + load.probe_s + 2 * PATIENCE_S)
        if "failure" in told:
            raise LoadTestFailed(told["failure"])
        return told

    def generator_limit_rps(self, server_cores: tuple[int, ...]) -> float:
        """What the generator reaches against a server that does next to nothing, on the server's core."""
        with Child("the null server", ("loadtests.null_server",), server_cores) as null:
            port = int(null.read(TURN_DEADLINE_S)["port"])
            return self._turn("the null server", ClosedLoad(port, "text", 32, _LEAD + 32, _NULL_ANSWERS)).rate_rps

    def _turn(self, name: str, load: ClosedLoad) -> Turn:
        self.generator.send(asdict(load))
        told = self.generator.read(TURN_DEADLINE_S)
        if "failure" in told:
            raise LoadTestFailed(f"{name} failed at {load.connections} connections: {told['failure']}")
        strange = {status: number for status, number in told["statuses"].items() if status != "200"}
        if strange:
            raise LoadTestFailed(f"{name} answered {strange} (status: times) at {load.connections} connections")
        return Turn(told["rate_rps"], told["generator_cpu_ratio"])


@contextmanager
def running_instruments(bundle: Path, texts_path: Path, texts: int, cores: CorePlan) -> Iterator[Instruments]:
    """Both of them, warm; stopped on the way out. `LoadTestFailed` where one dies."""
    raw = Child("the raw loop", ("benchmarks.raw_loop", str(bundle), str(texts_path)), cores.server)
    with raw, Child("the generator", ("benchmarks.load_generator", str(texts_path)), cores.client) as generator:
        instruments = Instruments(generator, raw, texts)
        instruments.raw_times_s()
        yield instruments
