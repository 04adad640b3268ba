"""Which probes are given up because requests pile up, at which rates, and what that saves: in virtual time.

At the capacity none should be, whatever the server is like: a burst is no overrun. Two servers are added that make
bursts: one whose service times vary wildly, and one that is slow for a while every few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.known_queues import (
    KnownQueue,
    Latencies,
    known_queues,
    one_by_one_s,
    simulated_capacity_rps,
    virtual_probe,
)
from benchmarks.serving_report import Section
from deploycost.benchmarking.search import PRECISIONS
from deploycost.units import percent, rate

RATIOS = (0.9, 1.0, 1.2, 2.0, 5.0)
# One request in twenty takes so much longer than the mean, and the squares of the service times ten times their mean's.
_RARE_RATIO, _RARE_TIMES = 0.05, 10
_SPELL_TIMES, _SPELL_S, _CALM_S = 3, 0.5, 5.0
# Its spells must fit within the objective, or its capacity is what it does in them.
_SPELL_LIMIT_S = 0.2


@dataclass(frozen=True)
class GivenUp:
    """Probes at a share of a server's capacity: how many were given up as requests piled up; mean seconds, with it and
    without.
    """

    queue: str
    capacity_rps: float
    ratio: float
    given_up: int
    probes: int
    seconds: float
    patient_seconds: float


def bursty_queues(service_s: float = 0.002, limit_s: float = 0.04) -> tuple[KnownQueue, ...]:
    """Servers of the same mean service time whose queues grow in bursts."""

    def rare(arrivals_s: np.ndarray, source: np.random.Generator) -> np.ndarray:
        usual_s = service_s * (1 - _RARE_RATIO * _RARE_TIMES) / (1 - _RARE_RATIO)
        long_s = source.exponential(_RARE_TIMES * service_s, len(arrivals_s))
        return one_by_one_s(arrivals_s, np.where(source.random(len(arrivals_s)) < _RARE_RATIO, long_s, usual_s))

    def spells(arrivals_s: np.ndarray, source: np.random.Generator) -> np.ndarray:
        # From somewhere in the middle: it has been running before.
        since_s = source.uniform(10, 20) * _CALM_S
        number = 20 + int((since_s + arrivals_s[-1]) / (_CALM_S + _SPELL_S) * 2)
        lasting_s = np.ravel([source.exponential(_CALM_S, number), source.exponential(_SPELL_S, number)], order="F")
        in_spell = np.searchsorted(np.cumsum(lasting_s), since_s + arrivals_s) % 2 == 1
        return one_by_one_s(arrivals_s, service_s * np.where(in_spell, _SPELL_TIMES, 1.0))

    return (
        _simulated("service times of ten times the variance", rare, service_s, limit_s),
        _simulated(
            f"{_SPELL_TIMES} times as slow for {_SPELL_S:g} s of {_CALM_S:g}", spells, service_s, _SPELL_LIMIT_S
        ),
    )


def _simulated(name: str, latencies_s: Latencies, service_s: float, limit_s: float) -> KnownQueue:
    most_rps = 1 / service_s
    truth_rps = simulated_capacity_rps(latencies_s, most_rps, limit_s)
    return KnownQueue(name, (), latencies_s, limit_s, lambda _: [service_s], most_rps, truth_rps, "simulated requests")


def give_up_rates(probes: int) -> list[GivenUp]:
    """So many probes of each server at each share of its capacity, as long as those of a normal search."""
    precision, found = PRECISIONS["normal"], []
    for queue in (*known_queues(), *bursty_queues()):
        for ratio in RATIOS:
            spent_s: dict[bool, list[float]] = {True: [], False: []}
            windows_s: dict[bool, list[float]] = {True: [], False: []}
            for hasty in (True, False):
                source = np.random.default_rng(round(100 * ratio))
                probe = virtual_probe(queue, precision.warmup_s, source, spent_s[hasty].append, hasty=hasty)
                windows_s[hasty] = [probe(ratio * queue.truth_rps, precision.probe_s).duration_s for _ in range(probes)]
            given_up = sum(a < b for a, b in zip(windows_s[True], windows_s[False], strict=True))
            seconds = (fmean(spent_s[True]), fmean(spent_s[False]))
            found.append(GivenUp(queue.name, queue.truth_rps, ratio, given_up, probes, *seconds))
    return found


def section(found: list[GivenUp]) -> Section:
    """As a table."""
    rows = [
        (
            each.queue, rate(each.capacity_rps), f"{each.ratio:g}", f"{each.given_up} of {each.probes}",
            f"{each.seconds:.1f}", f"{each.patient_seconds:.1f}", percent(1 - each.seconds / each.patient_seconds, 0),
        )
        for each in found
    ]  # fmt: skip
    columns = ("queue", "capacity", "rate / capacity", "given up", "seconds", "without", "saved")
    note = (
        "Probes of a normal search in virtual time, given up as requests pile up; seconds are means, with the warm-up "
        "and the wait for the last answer. Without: given up for the share of late answers alone."
    )
    return Section("Probes that are given up because requests pile up", columns, rows, (note,))
