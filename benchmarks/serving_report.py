"""What the serving benchmark found, as tables for people: against its targets, on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.closed_rounds import LEVELS, ClosedRounds
from benchmarks.contenders import NEWCOMER, OURS
from benchmarks.footprints import Footprint
from benchmarks.medians import with_interval
from benchmarks.pressure import DEADLINE_MS, SHARE_OF_CAPACITY, TIMES_CAPACITY, NearCapacity, Overload
from deploycost.units import MIB, milliseconds, percent, rate, seconds_text

# Least rates of the raw loop's at so many connections: what a lone request may lose on its way, and what a crowd that
# is grouped by length must win.
LEAST_RATIOS = dict(zip(LEVELS, (0.93, 1.00, 1.06), strict=True))
MOST_P95_TO_SERVICE = 3.0
LEAST_GOODPUT_RATIO = 0.9
MOST_GROWTH_RATIO = 0.05
MOST_RECOVERY_S = 2.0
MOST_MEMORY_RATIO = 1 / 3
_TORCH_ARTIFACT = "torch-fp32"
# A page that is written anew keeps what stands under this heading.
BY_HAND = "## What to make of it"


@dataclass(frozen=True)
class Findings:
    """All that was measured; `trained` says whether the torch server has the bundle's weights, null without it."""

    rounds: ClosedRounds
    near: NearCapacity
    overload: Overload
    footprints: list[Footprint]
    generator_limit_rps: float
    trained: bool | None


@dataclass(frozen=True)
class Verdict:
    """A claim, what was to be reached, what was, and whether that is enough."""

    claim: str
    target: str
    value: str
    met: bool


@dataclass(frozen=True)
class Section:
    """A table with a heading, and what has to be known to read it."""

    heading: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def as_table(self) -> Table:
        """For the terminal."""
        table = Table(title=self.heading, title_justify="left", caption="\n".join(self.notes), caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """For a page."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join((f"## {self.heading}", table, *self.notes))


def verdicts(found: Findings) -> list[Verdict]:
    """Every target beside what was measured."""
    return [*_rate_verdicts(found.rounds), *_pressure_verdicts(found), *_memory_verdicts(found.footprints)]


def sections(found: Findings) -> list[Section]:
    """All tables, the verdicts first."""
    return [_verdict_section(found), _rate_section(found), _pressure_section(found), _footprint_section(found)]


def show(found: Findings, console: Console) -> None:
    """Print all tables."""
    for section in sections(found):
        console.print(section.as_table())


def page(found: Findings, told: dict[str, Any]) -> str:
    """All tables as a page in Markdown; `told` is the benchmark's line of JSON."""
    machine, extent = told["machine"], told["settings"]["extent"]
    packages = [f"{name} {machine['packages'][name]}" for name in ("onnxruntime", "tokenizers", "transformers")]
    head = (
        "# The endpoint beside the bare model and beside other servers",
        f"Written by `python -m benchmarks.serving --page FILE` on {told['at'][:10]}, with texts of "
        f"`{told['settings']['dataset']}`. [How it is measured](../../benchmarks/README.md).",
        f"{machine['cpu_model']}, {machine['cpu_cores']} cores: one for the servers, one for the load. Load average "
        f"before: {told['load_before']:.1f}. {', '.join(packages)}, Python {machine['python']}. "
        f"{extent['rounds']} rounds of {extent['texts']} texts. A ratio is the median over the rounds, in brackets its "
        "95 % interval (order statistics, from 6 rounds on).",
    )
    return "\n\n".join((*head, *(section.as_markdown() for section in sections(found)))) + "\n"


def by_hand(page: Path) -> str:
    """What was written by hand at the end of an earlier page, from its heading on; nothing where there is none."""
    if not page.exists():
        return ""
    _, heading, text = page.read_text(encoding="utf-8").partition(f"\n{BY_HAND}\n")
    return heading + text


def _rate_verdicts(rounds: ClosedRounds) -> list[Verdict]:
    verdicts = []
    for level, least in LEAST_RATIOS.items():
        ratio = rounds.ratio(OURS, level)
        claim = f"rate at {_connections(level)} over the raw loop's"
        verdicts.append(Verdict(claim, f">= {least:.2f}", with_interval(ratio), (ratio["value"] or 0) >= least))
    for level in LEVELS:
        closest = rounds.lead(level)
        if closest is not None:
            name, lead = closest
            claim = f"rate at {_connections(level)} over that of the next best, {name}"
            verdicts.append(Verdict(claim, "> 1", with_interval(lead), (lead["value"] or 0) > 1))
    return verdicts


def _pressure_verdicts(found: Findings) -> list[Verdict]:
    near, over = found.near, found.overload
    p95_to_service = near.p95_ms / near.mean_service_ms
    strange = {status: number for status, number in over.statuses.items() if status not in ("200", "503")}
    growth = over.memory_after_bytes / over.memory_before_bytes - 1
    recovery = "never" if over.recovery_s is None else seconds_text(over.recovery_s)
    recovered = over.recovery_s is not None and over.recovery_s <= MOST_RECOVERY_S
    at = f"at {TIMES_CAPACITY} x capacity"
    return [
        Verdict(
            f"p95 at {percent(SHARE_OF_CAPACITY, 0)} of capacity over the mean service time",
            f"<= {MOST_P95_TO_SERVICE:g}",
            f"{p95_to_service:.1f}",
            p95_to_service <= MOST_P95_TO_SERVICE and set(near.statuses) == {"200"},
        ),
        Verdict(
            f"goodput {at} over capacity",
            f">= {LEAST_GOODPUT_RATIO:g}",
            f"{over.goodput_ratio:.2f}",
            over.goodput_ratio >= LEAST_GOODPUT_RATIO,
        ),
        Verdict(f"statuses {at} other than 200 and 503", "none", str(strange or "none"), not strange),
        Verdict(
            f"growth of memory {at}",
            f"<= {percent(MOST_GROWTH_RATIO, 0)}",
            percent(growth),
            growth <= MOST_GROWTH_RATIO,
        ),
        Verdict("answers within that p95 again after", f"<= {MOST_RECOVERY_S:g} s", recovery, recovered),
    ]


def _memory_verdicts(footprints: Sequence[Footprint]) -> list[Verdict]:
    """onnx-int8 beside torch-fp32: our server's where the run has that artifact, and what a newcomer would serve."""
    memory_bytes = {found.name: found.memory_bytes for found in footprints}
    verdicts = []
    for name in (f"{OURS}, {_TORCH_ARTIFACT}", NEWCOMER.name):
        if name in memory_bytes:
            ratio = memory_bytes[OURS] / memory_bytes[name]
            claim = f"memory over that of {name}"
            verdicts.append(Verdict(claim, "<= 1/3", f"{ratio:.2f}", ratio <= MOST_MEMORY_RATIO))
    return verdicts


def _verdict_section(found: Findings) -> Section:
    rows = [(each.claim, each.target, each.value, "met" if each.met else "missed") for each in verdicts(found)]
    near = found.near
    note = (
        f"The same arrivals, served in turn in the raw loop's times with nothing lost, have a p95 of "
        f"{near.ideal_p95_ms / near.mean_service_ms:.1f} mean service times. No order of service whatever, with all "
        f"arrivals known ahead and any twentieth of them given up, gets below "
        f"{near.least_p95_ms / near.mean_service_ms:.1f} at this capacity."
    )
    return Section("Targets", ("what", "target", "measured", "verdict"), rows, (note,))


def _rate_section(found: Findings) -> Section:
    rounds = found.rounds
    names = list(dict.fromkeys(turn.server for turn in rounds.turns)) or [OURS]
    rows = []
    for name in [name for name in names if name not in rounds.failures]:
        cells = [f"{median(rounds.rates_rps(name, level)):.0f}" for level in LEVELS]
        rows.append((name, *cells, *(with_interval(rounds.ratio(name, level)) for level in LEVELS)))
    raw = rounds.raw_rates_rps
    notes = [
        f"The raw loop: median {rate(median(raw))}, from {rate(min(raw))} to {rate(max(raw))}. The load generator "
        f"used at most {percent(max(turn.generator_cpu_ratio for turn in rounds.turns))} of its core; against a server "
        f"that does next to nothing it reaches {rate(found.generator_limit_rps)}.",
        *(f"{name} was left out: {why}" for name, why in rounds.failures.items()),
    ]
    if found.trained is False:
        notes.append(f"{NEWCOMER.name} serves the base model with an untrained head: its speed and memory count alone.")
    heads = (*(f"answers/s at {level}" for level in LEVELS), *(f"over raw at {level}" for level in LEVELS))
    return Section("Closed loop, by connections", ("server", *heads), rows, tuple(notes))


def _pressure_section(found: Findings) -> Section:
    near, over = found.near, found.overload
    rows = [
        (f"arrivals/s at {percent(SHARE_OF_CAPACITY, 0)} of capacity", f"{near.rate_rps:.0f}"),
        ("arrivals, statuses", f"{near.arrivals}, {near.statuses}"),
        ("mean service time (the raw loop's)", milliseconds(near.mean_service_ms)),
        ("p50, p95 from when they were due", f"{milliseconds(near.p50_ms)}, {milliseconds(near.p95_ms)}"),
        ("p95 of a queue that loses nothing", milliseconds(near.ideal_p95_ms)),
        ("least p95 of any order of service", milliseconds(near.least_p95_ms)),
        ("sent late by (p99)", milliseconds(near.late_p99_ms)),
        (f"arrivals/s at {TIMES_CAPACITY} x capacity, for", f"{over.rate_rps:.0f}, {seconds_text(over.seconds)}"),
        ("statuses", str(over.statuses)),
        (f"answers/s within {DEADLINE_MS} ms", f"{over.goodput_rps:.0f}"),
        ("memory before, after", f"{_mib(over.memory_before_bytes)}, {_mib(over.memory_after_bytes)}"),
        ("generator's share of its core", percent(over.generator_cpu_ratio)),
    ]
    return Section(f"{OURS} in the open loop (Poisson)", ("what", "measured"), rows)


def _footprint_section(found: Findings) -> Section:
    rows = [(each.name, f"{each.startup_s:.2f}", _mib(each.memory_bytes)) for each in found.footprints]
    note = "Seconds from the start of the process to its first prediction; PSS of the process tree after a warm-up."
    return Section("Start-up and memory", ("server or artifact", "start-up s", "memory"), rows, (note,))


def _connections(level: int) -> str:
    return "1 connection" if level == 1 else f"{level} connections"


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB"
