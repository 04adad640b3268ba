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
from serving.bundle import open_bundle

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
    """Of our server with each of the artifacts that lie beside the bundle's own in its run, by their variants."""
    found = []
    for folder in sorted(stage.bundle.resolve().parents[1].glob("*/bundle")):
        bundle = open_bundle(folder)
        name = bundle.manifest.variant
        found.append(_measure(name, lambda folder=folder: stage.start_ours(folder), generator, starts))
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
