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
from deploycost.errors import LoadTestFailed

# A server that needs longer for one turn is not worth waiting for.
TURN_DEADLINE_S = 300.0
# Before a turn's answers count: caches are warm again, and all connections have company.
_LEAD = 16
_NULL_CONNECTIONS, _NULL_ANSWERS = 32, 4000


@dataclass(frozen=True)
class Turn:
    """A closed loop that is over: answers per second, and the share of its core that the generator used."""

    rate_rps: float
    generator_cpu_ratio: float


class Generator:
    """The running load generator, which sends the `texts` texts of a file round and round."""

    def __init__(self, child: Child, texts: int) -> None:
        self._child = child
        self._texts = texts

    def closed(self, server: RunningServer, connections: int) -> Turn:
        """All texts through a server. `LoadTestFailed` where it fails, or answers anything but 200."""
        load = ClosedLoad(server.port, server.contender.field, connections, _LEAD + connections, self._texts)
        return self._turn(server.contender.name, load)

    def open(self, load: OpenLoad) -> dict[str, Any]:
        """What an open loop tells, see `benchmarks.load_generator.OpenLoop`. `LoadTestFailed` where it fails."""
        return self._ask("the server", load, load.seconds + load.probe_s + 2 * PATIENCE_S)

    def limit_rps(self, server_cores: tuple[int, ...]) -> float:
        """What the generator reaches against a server that does next to nothing, on the server's core."""
        with Child("the null server", ("loadtests.null_server",), server_cores) as null:
            port = int(null.read(TURN_DEADLINE_S)["port"])
            load = ClosedLoad(port, "text", _NULL_CONNECTIONS, _LEAD + _NULL_CONNECTIONS, _NULL_ANSWERS)
            return self._turn("the null server", load).rate_rps

    def _turn(self, name: str, load: ClosedLoad) -> Turn:
        told = self._ask(name, load, TURN_DEADLINE_S)
        strange = {status: number for status, number in told["statuses"].items() if status != "200"}
        if strange:
            raise LoadTestFailed(f"{name} answered {strange} (status: times) at {load.connections} connections")
        return Turn(told["rate_rps"], told["generator_cpu_ratio"])

    def _ask(self, name: str, load: ClosedLoad | OpenLoad, deadline_s: float) -> dict[str, Any]:
        self._child.send(asdict(load))
        told = self._child.read(deadline_s)
        if "failure" in told:
            raise LoadTestFailed(f"{name} failed under load: {told['failure']}")
        return told


class RawLoop:
    """The bare model in its running process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.times_s()  # warm

    def times_s(self) -> list[float]:
        """How long each text takes, one after the other."""
        self._child.send({})
        return self._child.read(TURN_DEADLINE_S)["times_s"]

    def rate_rps(self) -> float:
        """Texts per second."""
        times_s = self.times_s()
        return len(times_s) / sum(times_s)


@contextmanager
def running_generator(texts_path: Path, texts: int, cores: tuple[int, ...]) -> Iterator[Generator]:
    """The generator, stopped on the way out."""
    with Child("the load generator", ("benchmarks.load_generator", str(texts_path)), cores, from_folder=True) as child:
        yield Generator(child, texts)


@contextmanager
def running_raw_loop(bundle: Path, texts_path: Path, cores: tuple[int, ...]) -> Iterator[RawLoop]:
    """The raw loop, warm; stopped on the way out. `LoadTestFailed` where it dies."""
    with Child("the raw loop", ("benchmarks.raw_loop", str(bundle), str(texts_path)), cores, from_folder=True) as child:
        yield RawLoop(child)
