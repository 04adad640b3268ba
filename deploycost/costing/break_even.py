"""From how many requests a month one bill is below another, on the staircase of whole replicas, searched exactly."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from deploycost.costing.bills import Bill, FleetBill
from deploycost.costing.fleet import Fleet
from deploycost.verdicts import NOT_REACHED, BreakEven

# Nobody classifies more texts a month than this.
MOST_REQUESTS_PER_MONTH = 10**12
# Two staircases are compared step by step; a fleet of more machines than this is another question.
MOST_MACHINES = 1_000
FEWEST_MACHINES = 50


def break_even_with_api(fleet: Fleet, usd_per_request: Fraction) -> BreakEven:
    """Against a bill that grows with every request.

    On the step of s serving machines the fleet costs (s + spares) x p whatever the requests, so it is cheaper from
    floor((s + spares) x p / c) + 1 requests on, if the step reaches that far.
    """
    machine = Fraction(fleet.usd_per_replica)
    gain_per_step = fleet.requests_per_replica * usd_per_request - machine
    if gain_per_step <= 0:
        return _never(MOST_REQUESTS_PER_MONTH)

    def cheaper_from(serving: int) -> int:
        return floor((serving + fleet.spare_replicas) * machine / usd_per_request) + 1

    # Below this step the API is cheaper even where the step ends; rounding down to whole requests may add a few steps.
    serving = max(1, floor(fleet.spare_replicas * machine / gain_per_step))
    while fleet.step_end(serving) < cheaper_from(serving):
        if fleet.step_end(serving) > MOST_REQUESTS_PER_MONTH:
            return _never(MOST_REQUESTS_PER_MONTH)
        serving += 1
    first = max(fleet.step_end(serving - 1) + 1, cheaper_from(serving))
    if first > MOST_REQUESTS_PER_MONTH:
        return _never(MOST_REQUESTS_PER_MONTH)
    # Above this step the fleet is cheaper even where a step begins; walk down to the last that begins too dear.
    last_dear = floor((gain_per_step + (1 + fleet.spare_replicas) * machine) / gain_per_step) + 1
    while last_dear > serving and fleet.step_end(last_dear - 1) + 1 >= cheaper_from(last_dear):
        last_dear -= 1
    for_good = max(first, min(cheaper_from(last_dear), fleet.step_end(last_dear) + 1))
    return BreakEven(
        requests_per_month=first,
        stays_cheaper=for_good == first,
        cheaper_for_good_from=for_good if for_good <= MOST_REQUESTS_PER_MONTH else NOT_REACHED,
        searched_to_requests_per_month=MOST_REQUESTS_PER_MONTH,
    )


def break_even_with_fleet(fleet: Fleet, baseline: Fleet) -> BreakEven:
    """Against another staircase. Bills are constant between the steps of both, so their beginnings are all there is."""
    searched_to = min(fleet.step_end(MOST_MACHINES), baseline.step_end(MOST_MACHINES), MOST_REQUESTS_PER_MONTH)
    beginnings = sorted(
        begin
        for begin in {1}
        | {each.step_end(serving) + 1 for each in (fleet, baseline) for serving in range(MOST_MACHINES)}
        if begin <= searched_to
    )
    cheaper = [fleet.monthly_usd(begin) < baseline.monthly_usd(begin) for begin in beginnings]
    if True not in cheaper:
        return _never(searched_to)
    first = cheaper.index(True)
    dear_again = [
        begin for begin, is_cheaper in zip(beginnings[first:], cheaper[first:], strict=True) if not is_cheaper
    ]
    for_good = next((begin for begin in beginnings[first:] if not dear_again or begin > dear_again[-1]), None)
    return BreakEven(
        requests_per_month=beginnings[first],
        stays_cheaper=not dear_again,
        cheaper_for_good_from=NOT_REACHED if for_good is None else for_good,
        searched_to_requests_per_month=searched_to,
    )


def crossover(bill: Bill, other: Bill) -> BreakEven:
    """From which volume on the first bill is below the other, whatever both are made of.

    Between the beginnings of both each is a straight line, so its ends tell of each piece, and a line crosses zero
    once: every request is accounted for without being tried.
    """
    searched_to = MOST_REQUESTS_PER_MONTH
    begins = {1}
    for each in (bill, other):
        own, end = each.beginnings(_machines_searched(each))
        begins |= set(own)
        searched_to = min(searched_to, end or searched_to)
    pieces = sorted(begin for begin in begins if 1 <= begin <= searched_to)
    first: int | None = None
    last_dear = 0
    for begin, end in zip(pieces, [*(begin - 1 for begin in pieces[1:]), searched_to], strict=True):
        at_begin = bill.monthly_usd(begin) - other.monthly_usd(begin)
        at_end = at_begin if begin == end else bill.monthly_usd(end) - other.monthly_usd(end)
        if first is None and (at_begin < 0 or at_end < 0):
            first = begin if at_begin < 0 else _crossing(begin, end, at_begin, at_end)
        if at_end >= 0:
            last_dear = end
        elif at_begin >= 0:
            last_dear = _crossing(begin, end, at_begin, at_end) - 1
    if first is None:
        return _never(searched_to)
    for_good = max(first, last_dear + 1)
    return BreakEven(
        requests_per_month=first,
        stays_cheaper=for_good == first,
        cheaper_for_good_from=for_good if for_good <= searched_to else NOT_REACHED,
        searched_to_requests_per_month=searched_to,
    )


def _crossing(begin: int, end: int, at_begin: Fraction, at_end: Fraction) -> int:
    """The first volume of a piece at which a falling line from zero or above is below zero."""
    fall = (at_begin - at_end) / (end - begin)
    return begin + floor(at_begin / fall) + 1


def _machines_searched(bill: Bill) -> int:
    """A fleet that changes by the hour has steps for every hour: fewer machines make as many steps."""
    hours = len(bill.fleet.levels) if isinstance(bill, FleetBill) else 1
    return max(MOST_MACHINES // hours, FEWEST_MACHINES)


def _never(searched_to: int) -> BreakEven:
    return BreakEven(
        requests_per_month=NOT_REACHED,
        stays_cheaper=None,
        cheaper_for_good_from=NOT_REACHED,
        searched_to_requests_per_month=searched_to,
    )
