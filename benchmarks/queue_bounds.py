"""What no server of one core can beat: latencies that follow from the arrivals and from the work in them alone.

`ideal_latencies_s` is the queue of a server that takes requests in turn and loses nothing between two of them.
`least_p95_s` goes further: it knows all arrivals ahead, takes them in any order, and gives up whichever twentieth of
them stands most in the way of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from math import floor

from loadtests.arrivals import NS_PER_S, arrival_offsets_ns

_P95 = 0.95
# Halvings of the interval that holds the least p95: to a thousandth of the mean service time.
_HALVINGS = 14


def ideal_latencies_s(service_s: Sequence[float], rate_rps: float, seconds: float, seed: int) -> list[float]:
    """Of Poisson arrivals, served one after the other in these times: w' = max(0, w + s - gap) (Lindley, 1952)."""
    due_s = _due_s(rate_rps, seconds, seed)
    gaps_s = [after - before for before, after in pairwise(due_s)]
    wait_s, latencies_s = 0.0, []
    for alone_s, gap_s in zip(cycle(service_s), [*gaps_s, 0.0], strict=False):
        latencies_s.append(wait_s + alone_s)
        wait_s = max(0.0, wait_s + alone_s - gap_s)
    return latencies_s


def least_p95_s(service_s: Sequence[float], rate_rps: float, seconds: float, seed: int) -> float:
    """The least time within which any order of service, with all arrivals known ahead, answers 95 % of them."""
    due_s = _due_s(rate_rps, seconds, seed)
    work_s = list(islice(cycle(service_s), len(due_s)))
    # As in the quantile of a measurement: so many may be later than the answer at its place.
    may_be_late = len(due_s) - 1 - floor(_P95 * (len(due_s) - 1))
    low_s, high_s = 0.0, max(ideal_latencies_s(service_s, rate_rps, seconds, seed))
    for _ in range(_HALVINGS):
        middle_s = (low_s + high_s) / 2
        if least_late(due_s, work_s, middle_s) <= may_be_late:
            high_s = middle_s
        else:
            low_s = middle_s
    return low_s


def least_late(due_s: Sequence[float], work_s: Sequence[float], within_s: float) -> int:
    """How many of these requests, which are in the order of their arrival, no schedule can answer within `within_s`.

    Requests that come later are to be answered later, so the optimum is known: take them in turn, and whenever one
    would be late, give up the one without which the rest is done soonest (Kise, Ibaraki and Mine, 1978). What was
    begun is not interrupted.
    """
    late, end_s = 0, 0.0
    # Those taken since the server last had nothing to do: giving up an earlier one would help nobody.
    taken: list[int] = []
    for number, (at_s, alone_s) in enumerate(zip(due_s, work_s, strict=True)):
        if end_s <= at_s:
            taken = []
        taken.append(number)
        end_s = max(end_s, at_s) + alone_s
        if end_s - at_s > within_s:
            late += 1
            ends_s = [_end_without(given_up, taken, due_s, work_s) for given_up in taken]
            end_s = min(ends_s)
            taken.pop(ends_s.index(end_s))
    return late


def _end_without(given_up: int, taken: Sequence[int], due_s: Sequence[float], work_s: Sequence[float]) -> float:
    """When the others that were taken are done."""
    end_s = 0.0
    for number in taken:
        if number != given_up:
            end_s = max(end_s, due_s[number]) + work_s[number]
    return end_s


def _due_s(rate_rps: float, seconds: float, seed: int) -> list[float]:
    return [offset / NS_PER_S for offset in arrival_offsets_ns("poisson", rate_rps, seconds, seed)]
