"""Searches against known servers, each written to a file as soon as it is finished: hours of them, in as many runs.

A line of JSON each, so that a run that is cut off loses the search under way and nothing else. The next run with the
same file goes on after those that are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from deploycost.environment import machine_facts, now
from deploycost.errors import UserError

_SOURCES = ("deploycost/benchmarking", "loadtests")


@dataclass(frozen=True)
class RunFacts:
    """The run of the benchmark that something was measured in: when it began, where, and with which code."""

    at: str
    cpu_model: str
    load_before: float
    code: str


@dataclass(frozen=True)
class Search:
    """One search: what it found, over the truth, whether its interval holds the truth, and how long it took.

    `seed` is its number among those of its server; `run` is None in virtual time.
    """

    queue: str
    goal: str
    seed: int
    capacity_ratio: float
    low_ratio: float
    high_ratio: float
    covers: bool
    probes: int
    seconds: float
    run: RunFacts | None = None


@dataclass(frozen=True)
class Flattery:
    """A closed loop on a server, and the open loop at the rate that it drew."""

    queue: str
    closed_rps: float
    closed_p95_ms: float
    open_p95_ms: float
    truth_rps: float
    run: RunFacts | None = None


_KINDS = {"search": Search, "closed": Flattery}


@dataclass
class SearchLog:
    """What is finished, this run's and earlier ones', in the order it was; kept in a file, if there is one."""

    run: RunFacts
    path: Path | None
    searches: list[Search]
    flattery: list[Flattery]

    def left(self, queues: Sequence[str], seeds: Iterable[int], goal: str) -> list[tuple[str, int]]:
        """Servers and seeds still to be searched; they turn about the servers, so that a slow hour meets all alike."""
        done = {(search.queue, search.seed) for search in self.searches if search.goal == goal}
        return [(queue, seed) for seed in seeds for queue in queues if (queue, seed) not in done]

    def add(self, found: Search | Flattery) -> None:
        """Keep what was found in this run.

        Raises:
            UserError: it cannot be written; what the file held before is still there.
        """
        found = replace(found, run=self.run)
        if isinstance(found, Search):
            self.searches.append(found)
        else:
            self.flattery.append(found)
        if self.path is not None:
            self._append(
                self.path,
                {"kind": next(name for name, each in _KINDS.items() if isinstance(found, each))} | asdict(found),
            )

    @staticmethod
    def _append(path: Path, content: dict[str, object]) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"--keep {path}: {error.strerror or error}; finished searches before are kept") from None


def open_log(path: Path | None) -> SearchLog:
    """The log in a file with all that it holds, or an empty one. A last line that was cut off is taken away.

    Raises:
        UserError: the file holds something else, or cannot be read or written.
    """
    run = RunFacts(now(), machine_facts().cpu_model, os.getloadavg()[0], code_digest())
    log = SearchLog(run, path, [], [])
    if path is None:
        return log
    try:
        content = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = content[: content.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            found = _entry(line, path, number)
            (log.searches if isinstance(found, Search) else log.flattery).append(found)  # pyright: ignore[reportArgumentType]
        if whole != content:
            os.truncate(path, len(whole.encode()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--keep {path}: {error}; expected a file of finished searches, or none yet") from None
    return log


def code_digest() -> str:
    """Eight digits that change when the code that probes and searches does."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for source in sorted((root / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:8]


def told_runs(found: Iterable[Search | Flattery]) -> str:
    """How many runs, on what and with how many versions of the code, made these; a sentence, or nothing for none."""
    runs = sorted({each.run for each in found if each.run is not None}, key=lambda run: run.at)
    if not runs:
        return ""
    first, last = runs[0].at[:10], runs[-1].at[:10]
    when = f"on {first}" if first == last else f"from {first} to {last}"
    loads = [run.load_before for run in runs]
    load = f"{min(loads):.1f}" if len(runs) == 1 else f"{min(loads):.1f} to {max(loads):.1f}"
    told = [
        f"Real servers were measured in {_counted(len(runs), 'run')}, {when}",
        f"on {'; '.join(sorted({run.cpu_model for run in runs}))}",
        f"with {_counted(len({run.code for run in runs}), 'version')} of the code",
    ]
    return f"{', '.join(told)}; load average before: {load}."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def _entry(line: str, path: Path, number: int) -> Search | Flattery:
    try:
        told = json.loads(line)
        kind = _KINDS[told.pop("kind")]
        if set(told) != {item.name for item in fields(kind)}:
            raise ValueError("other fields")
        return kind(**{**told, "run": RunFacts(**told["run"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"--keep {path}: line {number} is no finished search; expected the file of an earlier run, or none yet"
        ) from None
