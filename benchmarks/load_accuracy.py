"""Does our load generator tell the truth, and how much can it offer? Beside an independent one, on the same arrivals.

Regime: servers of known service times on one core, the generator on another. Ours (Locust, gevent) and the other
(asyncio and threads, `load_generator.py`; they share the schedule of arrivals and no more) take turns, each on a server
that was started anew, so that both offer the same requests to the same service times: all that may differ is how they
send and how they time. Then the same with the server stopped for a second, and last what one process can offer to a
server that does nothing. Ends in one line of JSON. README.md beside this file says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.instruments import Generator as OtherGenerator
from benchmarks.instruments import running_generator as running_other
from benchmarks.load_generator import OpenLoad
from benchmarks.serving_report import Section, Verdict
from deploycost.benchmarking.cores import CorePlan, plan_cores
from deploycost.benchmarking.endpoint import Endpoint, running_endpoint
from deploycost.benchmarking.generator import Crew, Generator, running_generator
from deploycost.environment import machine_facts, now
from deploycost.errors import DeploycostError
from deploycost.termination import interrupted_code, sigterm_interrupts
from loadtests.plan import ProbePlan
from loadtests.result import merged, quantile_ms

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
TEXTS = [f"word{number} of a text that is as short as a headline" for number in range(200)]
# What two generators may differ by: a share of the figure, or so many milliseconds.
MOST_RATIO, MOST_MS = 0.05, 1.0
STALL_AFTER_S, STALL_S, STALL_RATE_RPS = 2.0, 1.0, 200.0
ENOUGH_RPS, MOST_DISPATCH_MS = 2000.0, 5.0
OFFERED_RPS = (1000, 2000, 4000, 6000, 8000, 10_000)
OFFERED_S = 3.0
# Served less than this share of what was offered: beyond what the client, or the server that does nothing, can do.
LEAST_OFFERED_RATIO = 0.98


@dataclass(frozen=True)
class Server:
    """A null server and the rate it is offered."""

    name: str
    options: tuple[str, ...]
    rate_rps: float


SERVERS = (
    Server("2 ms each, half busy", ("--service-ms", "2"), 250),
    Server("2 ms each, 85 % busy", ("--service-ms", "2"), 425),
    Server("5 ms on average, exponential, 70 % busy", ("--service-ms", "5", "--exponential"), 140),
    Server("8 workers, 20 ms on average, 80 % busy", ("--service-ms", "20", "--exponential", "--servers", "8"), 320),
)


@dataclass(frozen=True)
class Seen:
    """Latencies from due times in ms by percentile, and how late requests were sent (p99)."""

    latency_ms: dict[str, float]
    dispatch_p99_ms: float


@dataclass(frozen=True)
class Pair:
    """Both generators on the same server and arrivals, turn by turn."""

    server: str
    rate_rps: float
    ours: list[Seen]
    other: list[Seen]

    def difference_ms(self, percentile: str) -> float:
        """Median over the turns of ours minus the other's."""
        return median(
            a.latency_ms[percentile] - b.latency_ms[percentile] for a, b in zip(self.ours, self.other, strict=True)
        )

    def within(self, percentile: str) -> bool:
        """Whether both tell the same."""
        level = median(seen.latency_ms[percentile] for seen in self.other)
        return abs(self.difference_ms(percentile)) <= max(MOST_RATIO * level, MOST_MS)


@dataclass(frozen=True)
class Offer:
    """What so many sending processes did of a rate that they were to offer to a server that does nothing."""

    workers: int
    rate_rps: float
    achieved_rps: float
    dispatch_p99_ms: float
    p99_ms: float
    cpu_ratio: float
    errors: int

    @property
    def held(self) -> bool:
        """Whether all was offered, and on time."""
        on_time = self.dispatch_p99_ms < MOST_DISPATCH_MS
        return on_time and self.achieved_rps >= LEAST_OFFERED_RATIO * self.rate_rps and not self.errors


@dataclass(frozen=True)
class Findings:
    """All that was measured."""

    pairs: list[Pair]
    stall: Pair
    offers: list[Offer]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_accuracy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3, help="of each generator on each server")
    parser.add_argument("--workers", type=int, default=2, help="sending processes to compare one with")
    parser.add_argument("--page", type=Path, help="file to write the tables to, in Markdown")
    asked = parser.parse_args()
    machine, load_before = machine_facts(), os.getloadavg()[0]
    say = Console(stderr=True, highlight=False)
    try:
        found = measure(asked.seconds, asked.turns, asked.workers, say)
    except DeploycostError as error:
        print(f"benchmarks.load_accuracy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print("benchmarks.load_accuracy: interrupted; what it had started is stopped", file=sys.stderr)
        return interrupted_code(interrupt)
    console, verdicts = Console(width=150), verdicts_of(found)
    for section in sections(found, verdicts):
        console.print(section.as_table())
    told = {
        "benchmark": "load_accuracy",
        "at": now(),
        "machine": machine.model_dump(mode="json"),
        "load_before": load_before,
        "settings": {"seconds": asked.seconds, "turns": asked.turns, "workers": asked.workers},
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "found": asdict(found),
    }
    if asked.page:
        asked.page.write_text(page(found, verdicts, told), encoding="utf-8")
    print(json.dumps(told))
    return 0


def measure(seconds: float, turns: int, workers: int, say: Console) -> Findings:
    """Everything, on two cores where there are two."""
    cores = plan_cores(1)
    with TemporaryDirectory(prefix="load-accuracy-") as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
        with running_generator(TEXTS, cores.client) as ours, running_other(path, len(TEXTS), cores.client) as other:
            bench = _Bench(ours, other, cores, seconds)
            pairs = []
            for server in SERVERS:
                say.print(f"{server.name}, {server.rate_rps:g}/s")
                pairs.append(bench.compare(server, turns, stall=False))
            say.print("a server that stops for a second")
            stall = bench.compare(Server("stopped for 1 s", ("--service-ms", "2"), STALL_RATE_RPS), turns, stall=True)
            say.print("what one process can offer")
            offers = [bench.offer(ours, 1, rate_rps) for rate_rps in OFFERED_RPS]
        say.print(f"what {workers} processes can offer")
        with running_generator(TEXTS, plan_cores(1, workers).client, crew=Crew(workers)) as crew:
            offers += [bench.offer(crew, workers, rate_rps) for rate_rps in OFFERED_RPS]
    return Findings(pairs, stall, offers)


@dataclass(frozen=True)
class _Bench:
    ours: Generator
    other: OtherGenerator
    cores: CorePlan
    seconds: float

    def compare(self, server: Server, turns: int, *, stall: bool) -> Pair:
        pair = Pair(server.name, server.rate_rps, [], [])
        for turn in range(turns):
            with self._server(server.options, stall) as endpoint:
                pair.ours.append(self._ours(endpoint, server.rate_rps, turn))
            with self._server(server.options, stall) as endpoint:
                pair.other.append(self._other(endpoint, server.rate_rps, turn))
        return pair

    def offer(self, generator: Generator, workers: int, rate_rps: float) -> Offer:
        with self._server((), stall=False) as endpoint:
            result = generator.run(endpoint.url, ProbePlan(rate_rps=rate_rps, warmup_s=1.0, duration_s=OFFERED_S))
        return Offer(
            workers=workers,
            rate_rps=rate_rps,
            achieved_rps=result.achieved_rps,
            dispatch_p99_ms=quantile_ms(merged([result.dispatch]), 0.99),
            p99_ms=quantile_ms(merged([result.latency]), 0.99),
            cpu_ratio=result.client_cpu_ratio,
            errors=result.failed,
        )

    @contextmanager
    def _server(self, options: tuple[str, ...], stall: bool) -> Iterator[Endpoint]:
        with running_endpoint("the null server", ("loadtests.null_server", *options), self.cores.server) as endpoint:
            timers = []
            if stall:
                # A stopped server is not dead: its child's number stays its own until it is waited for.
                moments = ((STALL_AFTER_S, signal.SIGSTOP), (STALL_AFTER_S + STALL_S, signal.SIGCONT))
                timers = [threading.Timer(at, os.kill, (endpoint.child.pid, number)) for at, number in moments]
            for timer in timers:
                timer.start()
            try:
                yield endpoint
            finally:
                for timer in timers:
                    timer.join()

    def _ours(self, endpoint: Endpoint, rate_rps: float, seed: int) -> Seen:
        # Without a warm-up, so that both see the same arrivals from the first to the last.
        result = self.ours.run(
            endpoint.url, ProbePlan(rate_rps=rate_rps, warmup_s=0.0, duration_s=self.seconds, drain_s=10.0, seed=seed)
        )
        latency = merged([result.latency])
        told = {name: quantile_ms(latency, quantile) for name, quantile in QUANTILES.items()}
        return Seen(told, quantile_ms(merged([result.dispatch]), 0.99))

    def _other(self, endpoint: Endpoint, rate_rps: float, seed: int) -> Seen:
        told = self.other.open(OpenLoad(endpoint.port, "text", rate_rps, self.seconds, seed))
        ordered = sorted(1000 * latency_s for _, latency_s in told["answers_s"])
        # The smallest value that so large a share of the samples is within, as ours are.
        ranks = {name: max(0, -int(-quantile * len(ordered) // 1) - 1) for name, quantile in QUANTILES.items()}
        return Seen({name: ordered[rank] for name, rank in ranks.items()}, 1000 * told["late_p99_s"])


def verdicts_of(found: Findings) -> list[Verdict]:
    """Every target beside what was measured."""
    limit = f"within {MOST_RATIO:.0%} or {MOST_MS:g} ms"
    told = []
    for pair in (*found.pairs, found.stall):
        differences = ", ".join(f"{name} {pair.difference_ms(name):+.2f} ms" for name in QUANTILES)
        agree = all(pair.within(name) for name in QUANTILES)
        told.append(Verdict(f"percentiles beside the other's: {pair.server}", limit, differences, agree))
    one = [offer for offer in found.offers if offer.workers == 1 and offer.held]
    ceiling = max((offer.rate_rps for offer in one), default=0.0)
    late = next((f", p99 {offer.dispatch_p99_ms:.2f} ms late" for offer in one if offer.rate_rps == ENOUGH_RPS), "")
    target = f">= {ENOUGH_RPS:g}/s, p99 < {MOST_DISPATCH_MS:g} ms late"
    told.append(Verdict("offered by one process", target, f"{ceiling:g}/s{late}", ceiling >= ENOUGH_RPS))
    return told


def sections(found: Findings, verdicts: list[Verdict]) -> list[Section]:
    """All tables, the verdicts first."""
    goals = [(each.claim, each.target, each.value, "met" if each.met else "missed") for each in verdicts]
    pairs = [
        (
            pair.server,
            f"{pair.rate_rps:g}",
            *(_both(pair, name) for name in QUANTILES),
            f"{median(seen.dispatch_p99_ms for seen in pair.ours):.2f} / "
            f"{median(seen.dispatch_p99_ms for seen in pair.other):.2f}",
        )
        for pair in (*found.pairs, found.stall)
    ]
    offers = [
        (
            str(offer.workers), f"{offer.rate_rps:g}", f"{offer.achieved_rps:.0f}", f"{offer.dispatch_p99_ms:.2f}",
            f"{offer.p99_ms:.2f}", f"{offer.cpu_ratio:.0%}", "yes" if offer.held else "no",
        )
        for offer in found.offers
    ]  # fmt: skip
    note = "Milliseconds from when a request was due, ours / the other's: medians over the turns."
    limits = "Processes of the client share the cores that the server leaves: more of them help where there are more."
    offered = ("processes", "offered/s", "answered/s", "late p99 ms", "latency p99 ms", "CPU of the busiest", "held")
    return [
        Section("Targets", ("what", "target", "measured", "verdict"), goals),
        Section("The same arrivals, by both", ("server", "per s", *QUANTILES, "late p99"), pairs, (note,)),
        Section("What can be offered to a server that does nothing", offered, offers, (limits,)),
    ]


def page(found: Findings, verdicts: list[Verdict], told: dict[str, object]) -> str:
    """All tables as a page in Markdown; `told` is the benchmark's line of JSON."""
    machine = machine_facts()
    head = (
        "# The load generator beside an independent one",
        f"Written by `python -m benchmarks.load_accuracy --page FILE` on {str(told['at'])[:10]}. "
        "[How it is measured](../../benchmarks/README.md). "
        f"{machine.cpu_model}, {machine.cpu_cores} cores: one for the server, one for the generator. "
        f"Load average before: {told['load_before']:.1f}. Python {machine.python}.",
    )
    return "\n\n".join((*head, *(section.as_markdown() for section in sections(found, verdicts)))) + "\n"


def _both(pair: Pair, name: str) -> str:
    ours, other = (median(seen.latency_ms[name] for seen in side) for side in (pair.ours, pair.other))
    return f"{ours:.2f} / {other:.2f}"


if __name__ == "__main__":
    with sigterm_interrupts():
        sys.exit(main())
