"""Closed loops of all servers in turns, each beside the bare model's rate on the same core moments before and after.

A machine's speed wanders more in ten minutes than servers differ. So each turn of a server is divided by the mean of
the raw loops on either side of it, and compared only within its round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.contenders import OURS, RunningServer
from benchmarks.instruments import Generator, RawLoop, Turn
from benchmarks.medians import Median, median_of
from deploycost.errors import LoadTestFailed

LEVELS = (1, 8, 32)


@dataclass(frozen=True)
class Measured:
    """One turn: answers per second, the same over the raw loop's rate, the generator's share of its core."""

    server: str
    connections: int
    rate_rps: float
    ratio: float
    generator_cpu_ratio: float


@dataclass
class ClosedRounds:
    """All turns in the order they were taken, the raw loop's rates beside them, and who failed with what."""

    turns: list[Measured] = field(default_factory=list)
    raw_rates_rps: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, server: str, connections: int, turn: Turn, before_rps: float, after_rps: float) -> None:
        """Keep a turn, with the raw loop's rates before and after it."""
        ratio = 2 * turn.rate_rps / (before_rps + after_rps)
        self.turns.append(Measured(server, connections, turn.rate_rps, ratio, turn.generator_cpu_ratio))
        self.raw_rates_rps.append(after_rps)

    def rates_rps(self, server: str, connections: int) -> list[float]:
        """Of each round, in order."""
        return [turn.rate_rps for turn in self._turns(server, connections)]

    def ratio(self, server: str, connections: int) -> Median:
        """To the raw loop."""
        return median_of([turn.ratio for turn in self._turns(server, connections)])

    def lead(self, connections: int) -> tuple[str, Median] | None:
        """The closest other server, and our rate over its rate, within rounds; none where all others failed."""
        ours = [turn.ratio for turn in self._turns(OURS, connections)]
        others = {turn.server for turn in self.turns} - {OURS} - self.failures.keys()
        leads = {
            other: median_of([a / b.ratio for a, b in zip(ours, self._turns(other, connections), strict=True)])
            for other in others
        }
        return min(leads.items(), key=lambda item: item[1]["value"] or 0.0) if leads else None

    def _turns(self, server: str, connections: int) -> list[Measured]:
        return [turn for turn in self.turns if (turn.server, turn.connections) == (server, connections)]


def measure_rounds(
    servers: Mapping[str, RunningServer], generator: Generator, raw: RawLoop, rounds: int, say: Callable[[str], None]
) -> ClosedRounds:
    """Takes so many rounds of all servers, which are frozen when this is called and when it returns.

    Raises:
        LoadTestFailed: our own server or an instrument failed; another server that does is left out from there on.
    """
    found = ClosedRounds()
    for number in range(rounds):
        for connections in LEVELS:
            # Each round begins with another server, so that no server has the same neighbours throughout.
            names = [name for name in servers if name not in found.failures]
            shift = number % len(names)
            before_rps = raw.rate_rps()
            for name in names[shift:] + names[:shift]:
                turn = _take_turn(servers[name], connections, generator, found.failures)
                after_rps = raw.rate_rps()
                if turn is not None:
                    found.add(name, connections, turn, before_rps, after_rps)
                before_rps = after_rps
        ours = ", ".join(f"{found.rates_rps(OURS, level)[-1]:.0f}" for level in LEVELS)
        say(f"round {number + 1} of {rounds}: {OURS} {ours} answers/s, the bare model {found.raw_rates_rps[-1]:.0f}")
    return found


def _take_turn(server: RunningServer, connections: int, generator: Generator, failures: dict[str, str]) -> Turn | None:
    """One server's turn; none, and a failure noted, where a server of others fails it."""
    name = server.contender.name
    server.thaw()
    try:
        return generator.closed(server, connections)
    except LoadTestFailed as error:
        if name == OURS:
            raise
        failures[name] = str(error)
        return None
    finally:
        server.freeze()
