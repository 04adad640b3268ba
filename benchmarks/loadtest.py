"""Is the capacity that a load test finds the truth, and does its interval hold it? On servers whose capacity is known.

Regime: null servers of known service times on one core, the load generator on another, open-loop Poisson arrivals, the
objective p95 <= 40 ms. Real searches, with real processes and clocks, are few; the same search code then runs hundreds
of times against the same servers in virtual time, which is what its interval is judged by. Last, what a closed loop
would have called the capacity. Ends in one line of JSON. README.md beside this file says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
from rich.console import Console

from benchmarks import hopeless_probes
from benchmarks.hopeless_probes import GivenUp, give_up_rates
from benchmarks.known_queues import KnownQueue, known_queues, virtual_probe
from benchmarks.search_log import Flattery, Search, SearchLog, open_log, told_runs
from benchmarks.serving_report import Section, Verdict, by_hand
from deploycost.benchmarking.bench import Bench, search_start
from deploycost.benchmarking.cores import plan_cores
from deploycost.benchmarking.endpoint import running_endpoint
from deploycost.benchmarking.generator import Generator, running_generator
from deploycost.benchmarking.queueing import guess_capacity_rps, guess_prior
from deploycost.benchmarking.search import PRECISIONS, Precision, Start, capacity_of, find_capacity, patient
from deploycost.environment import machine_facts, now
from deploycost.errors import DeploycostError
from deploycost.experiment import PrecisionGoal
from deploycost.records import Figure, Slo
from deploycost.termination import interrupted_code, sigterm_interrupts
from deploycost.units import percent, rate
from loadtests.plan import ProbePlan
from loadtests.result import merged, quantile_ms

TEXTS = [f"word{number} of a text that is as short as a headline" for number in range(200)]
MOST_ERROR_RATIO, LEAST_COVERAGE_RATIO, MOST_TIME_RATIO = 0.05, 0.9, 0.25
# Exhaustive: every twentieth of the saturation rate, each as often as the search wants probes on each side.
GRID_RATES = 20
CLOSED_USERS, CLOSED_S = 8, 8.0
GOALS: tuple[PrecisionGoal, ...] = ("quick", "normal", "tight")


@dataclass(frozen=True)
class Findings:
    """All that was found, in this run and in earlier ones. An exhaustive grid would have taken `grid_s` seconds."""

    truths_rps: dict[str, float]
    real: list[Search]
    virtual: list[Search]
    grid_s: float
    flattery: list[Flattery]
    given_up: list[GivenUp]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadtest", description=__doc__)
    parser.add_argument("--repeats", type=int, default=4, help="real searches on each server; 0 starts no server")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them, which is its seed")
    parser.add_argument("--keep", type=Path, help="file that each is added to when it is done, and read back from")
    parser.add_argument("--virtual", type=int, default=200, help="searches in virtual time on each server")
    parser.add_argument("--precision", choices=GOALS, default="normal", help="of the real searches")
    parser.add_argument("--page", type=Path, help="file to write the tables to, in Markdown")
    asked = parser.parse_args()
    machine, load_before = machine_facts(), os.getloadavg()[0]
    say = Console(stderr=True, highlight=False)
    try:
        log = open_log(asked.keep)
        found = measure(range(asked.first, asked.first + asked.repeats), asked.virtual, asked.precision, log, say)
    except DeploycostError as error:
        print(f"benchmarks.loadtest: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        kept = f"what was finished is in {asked.keep}" if asked.keep else "nothing was kept"
        print(f"benchmarks.loadtest: interrupted; what it had started is stopped, {kept}", file=sys.stderr)
        return interrupted_code(interrupt)
    console, verdicts = Console(width=150), verdicts_of(found)
    for section in sections(found, verdicts):
        console.print(section.as_table())
    told = {
        "benchmark": "loadtest",
        "at": now(),
        "machine": machine.model_dump(mode="json"),
        "load_before": load_before,
        "settings": {name: getattr(asked, name) for name in ("first", "repeats", "virtual", "precision")},
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "found": asdict(found),
    }
    if asked.page:
        asked.page.write_text(page(found, verdicts, told) + by_hand(asked.page), encoding="utf-8")
    print(json.dumps(told))
    return 0


def measure(seeds: range, virtual: int, goal: PrecisionGoal, log: SearchLog, say: Console) -> Findings:
    """All that is not in the log yet, beside what is there."""
    queues = known_queues()
    _measure_real(queues, seeds, goal, log, say)
    seen = [virtual_search(queue, each, seed) for queue in queues for each in GOALS for seed in range(virtual)]
    return Findings(
        truths_rps={queue.name: queue.truth_rps for queue in queues},
        real=[search for search in log.searches if search.goal == goal],
        virtual=seen,
        grid_s=grid_s(PRECISIONS[goal]),
        flattery=log.flattery,
        given_up=give_up_rates(virtual) if virtual else [],
    )


def _measure_real(
    queues: Sequence[KnownQueue], seeds: range, goal: PrecisionGoal, log: SearchLog, say: Console
) -> None:
    by_name = {queue.name: queue for queue in queues}
    left = log.left(list(by_name), seeds, goal)
    closed = [queue for queue in queues if seeds and queue.name not in {each.queue for each in log.flattery}]
    if not left and not closed:
        return
    cores = plan_cores(1)
    with running_generator(TEXTS, cores.client) as generator:
        for number, (name, seed) in enumerate(left, 1):
            found = _real_search(by_name[name], goal, seed, generator, cores.server)
            log.add(found)
            say.print(f"{number} of {len(left)}: {name}, seed {seed}: {found.capacity_ratio:.3f} of the truth")
        for queue in closed:
            log.add(_flattery(queue, generator, cores.server))


def grid_s(precision: Precision) -> float:
    """Seconds that probes at every twentieth of the saturation take, as often repeated as the search does."""
    return GRID_RATES * precision.replicates * (precision.probe_s + precision.warmup_s)


def virtual_search(queue: KnownQueue, goal: PrecisionGoal, seed: int) -> Search:
    """A search in virtual time, begun from what a lone request and a saturated server told, give or take a tenth."""
    source = np.random.default_rng(seed)
    lone_s, off = queue.lone_s(source), Random(seed).uniform(0.9, 1.1)
    guess_rps = guess_capacity_rps(lone_s, queue.saturation_rps, queue.limit_s)
    prior = guess_prior(lone_s, queue.saturation_rps, queue.limit_s, guess_rps)
    start = Start(off * guess_rps, prior)
    precision = patient(PRECISIONS[goal], start)
    seconds: list[float] = []
    points = find_capacity(virtual_probe(queue, precision.warmup_s, source, seconds.append), start, precision)
    return _judged(queue, goal, seed, capacity_of(points, prior, precision.doubt_ratio), len(points), sum(seconds))


def _real_search(
    queue: KnownQueue, goal: PrecisionGoal, seed: int, generator: Generator, cores: tuple[int, ...]
) -> Search:
    slo, precision = Slo(p95_ms=1000 * queue.limit_s), PRECISIONS[goal]
    module = ("loadtests.null_server", *queue.options, "--seed", str(seed))
    with running_endpoint("the null server", module, cores) as endpoint:
        bench = Bench(queue.name, slo, precision, generator, endpoint, 1000 * seed, lambda _: None)
        start_s = time.perf_counter()
        lone = bench.closed(users=1)
        start = search_start(lone, bench.closed(users=CLOSED_USERS).achieved_rps, slo)
        bench.precision = patient(precision, start)
        points = find_capacity(bench.probe, start, bench.precision)
        seconds = time.perf_counter() - start_s
    return _judged(queue, goal, seed, capacity_of(points, start.prior, precision.doubt_ratio), len(points), seconds)


def _judged(queue: KnownQueue, goal: str, seed: int, figure: Figure, probes: int, seconds: float) -> Search:
    low, high = figure.low or 0.0, figure.high or float("inf")
    return Search(
        queue=queue.name,
        goal=goal,
        seed=seed,
        capacity_ratio=(figure.value or 0.0) / queue.truth_rps,
        low_ratio=low / queue.truth_rps,
        high_ratio=high / queue.truth_rps,
        covers=low <= queue.truth_rps <= high,
        probes=probes,
        seconds=seconds,
    )


def _flattery(queue: KnownQueue, generator: Generator, cores: tuple[int, ...]) -> Flattery:
    with running_endpoint("the null server", ("loadtests.null_server", *queue.options), cores) as endpoint:
        common = {"duration_s": CLOSED_S, "texts": generator.texts, "late_ms": 1000 * queue.limit_s}
        closed = generator.run(endpoint.url, ProbePlan(mode="closed", concurrency=CLOSED_USERS, **common))
        opened = generator.run(endpoint.url, ProbePlan(rate_rps=closed.achieved_rps, **common))
    return Flattery(
        queue=queue.name,
        closed_rps=closed.achieved_rps,
        closed_p95_ms=quantile_ms(merged([closed.latency]), 0.95),
        open_p95_ms=quantile_ms(merged([opened.latency]), 0.95),
        truth_rps=queue.truth_rps,
    )


def verdicts_of(found: Findings) -> list[Verdict]:
    """Every target against what was found."""
    normal = [each for each in found.virtual if each.goal == "normal"]
    told = [
        _share("real searches: within 5 % of the truth", found.real, _near),
        _share("real searches: the interval holds the truth", found.real, _covers),
        _share("virtual searches, normal: within 5 %", normal, _near),
        _share("virtual searches, normal: the interval holds", normal, _covers),
    ]
    if found.real:
        ratio = median(each.seconds for each in found.real) / found.grid_s
        claim = "time of a search over that of an exhaustive 5 % grid"
        told.append(Verdict(claim, f"<= {MOST_TIME_RATIO}", f"{ratio:.2f}", ratio <= MOST_TIME_RATIO))
    return [verdict for verdict in told if verdict is not None]


def _near(search: Search) -> bool:
    return abs(search.capacity_ratio - 1) <= MOST_ERROR_RATIO


def _covers(search: Search) -> bool:
    return search.covers


def _share(claim: str, searches: list[Search], met: Callable[[Search], bool]) -> Verdict | None:
    if not searches:
        return None
    hits = sum(met(each) for each in searches)
    least = LEAST_COVERAGE_RATIO
    return Verdict(claim, f">= {percent(least, 0)}", f"{hits} of {len(searches)}", hits / len(searches) >= least)


def sections(found: Findings, verdicts: list[Verdict]) -> list[Section]:
    """The tables, verdicts first."""
    rows = [(v.claim, v.target, v.value, "yes" if v.met else "NO") for v in verdicts]
    flat = [
        (
            each.queue, rate(each.truth_rps), rate(each.closed_rps), f"{each.closed_p95_ms:.1f}",
            f"{each.open_p95_ms:.1f}", percent(each.closed_rps / each.truth_rps - 1, 0),
        )
        for each in found.flattery
    ]  # fmt: skip
    columns = ("queue, precision", "searches", "truth", "median", "5 % to 95 %", "within 5 %", "interval holds",
               "interval, median", "probes", "seconds")  # fmt: skip
    told = [
        Section("Against the targets", ("claim", "target", "found", "met"), rows),
        Section("Real searches", columns, _search_rows(found.real, found.truths_rps)),
        Section(
            "The same search in virtual time",
            columns,
            _search_rows(found.virtual, found.truths_rps),
            ("Capacities are shares of the truth; seconds are those that the probes would have taken.",),
        ),
        hopeless_probes.section(found.given_up),
        Section(
            "What a closed loop would have said",
            ("queue", "truth", "closed loop draws", "its p95, ms", "p95 of users at that rate, ms", "too high by"),
            flat,
            (f"{CLOSED_USERS} users without a pause; the objective is p95 <= 40 ms.",),
        ),
    ]
    return [section for section in told if section.rows]


def _search_rows(searches: list[Search], truths_rps: dict[str, float]) -> list[tuple[str, ...]]:
    rows = []
    for queue, goal in dict.fromkeys((each.queue, each.goal) for each in searches):
        own = [each for each in searches if (each.queue, each.goal) == (queue, goal)]
        ratios = np.array([each.capacity_ratio for each in own])
        rows.append(
            (
                f"{queue}, {goal}",
                str(len(own)),
                rate(truths_rps[queue]),
                f"{np.median(ratios):.3f}",
                f"{np.quantile(ratios, 0.05):.3f} to {np.quantile(ratios, 0.95):.3f}",
                percent(sum(map(_near, own)) / len(own), 0),
                percent(sum(each.covers for each in own) / len(own), 0),
                f"{median(each.low_ratio for each in own):.3f} to {median(each.high_ratio for each in own):.3f}",
                f"{median(each.probes for each in own):.0f}",
                f"{median(each.seconds for each in own):.0f}",
            )
        )
    return rows


def page(found: Findings, verdicts: list[Verdict], told: dict[str, object]) -> str:
    """All tables as a page in Markdown; `told` is the benchmark's line of JSON."""
    machine = machine_facts()
    head = (
        "# Capacities that a load test finds, against those that are known",
        f"Written by `python -m benchmarks.loadtest --page FILE` on {str(told['at'])[:10]}. "
        "[How it is measured](../../benchmarks/README.md), [what it is for](../load-testing.md). "
        f"{machine.cpu_model}, {machine.cpu_cores} cores: one for the server, one for the generator. "
        f"Load average before: {told['load_before']:.1f}. Python {machine.python}.",
        told_runs((*found.real, *found.flattery)),
    )
    return "\n\n".join((*filter(None, head), *(section.as_markdown() for section in sections(found, verdicts)))) + "\n"


if __name__ == "__main__":
    with sigterm_interrupts():
        sys.exit(main())
