"""What a server costs before it has earned anything: the time until it answers, the memory it then holds.

Each is started alone, because memory that two processes share is counted half to each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import OURS, Contender, RunningServer, Stage
from benchmarks.instruments import Generator
from deploycost.errors import LoadTestFailed
from serving.bundle import MANIFEST_FILE

_CROWD = 8


@dataclass(frozen=True)
class Footprint:
    """Medians over starts: seconds from the start of the process to its first prediction, and PSS of its tree.

    Memory is read when all texts were answered once, to 8 connections.
    """

    name: str
    startup_s: float
    memory_bytes: int


def of_contender(contender: Contender, stage: Stage, generator: Generator, starts: int) -> Footprint:
    """Of one server. `LoadTestFailed` where it does not start or fails its warm-up."""
    return _measure(contender.name, lambda: stage.start(contender), generator, starts)


def of_siblings(stage: Stage, generator: Generator, starts: int) -> list[Footprint]:
    """Of our server with each of the other artifacts that lie beside the bundle in its run, by their names."""
    served = stage.bundle.resolve()
    found = []
    for seal in sorted(served.parents[1].glob(f"*/bundle/{MANIFEST_FILE}")):
        bundle = seal.parent
        if bundle != served:
            name = f"{OURS}, {bundle.parent.name}"
            found.append(_measure(name, lambda bundle=bundle: stage.start_ours(bundle), generator, starts))
    return found


def _measure(name: str, start: Callable[[], RunningServer], generator: Generator, starts: int) -> Footprint:
    startups_s, memories_bytes = [], []
    for _ in range(starts):
        with start() as server:
            generator.closed(server, _CROWD)
            startups_s.append(server.startup_s)
            memories_bytes.append(server.memory_bytes())
    return Footprint(name, median(startups_s), round(median(memories_bytes)))


def of_all(
    contenders: list[Contender], stage: Stage, generator: Generator, starts: int, say: Callable[[str], None]
) -> tuple[list[Footprint], dict[str, str]]:
    """Of every server, and those that failed with what; `LoadTestFailed` where ours does."""
    found, failures = [], {}
    for contender in contenders:
        try:
            found.append(of_contender(contender, stage, generator, starts))
        except LoadTestFailed as error:
            if contender.name == OURS:
                raise
            failures[contender.name] = str(error)
            say(f"left out: {error}")
    return found, failures
