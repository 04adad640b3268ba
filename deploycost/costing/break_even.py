"""From how many requests a month one bill is below another, on the staircase of whole replicas, searched exactly."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from deploycost.costing.fleet import Fleet
from deploycost.verdicts import NOT_REACHED, BreakEven

# Nobody classifies more texts a month than this.
MOST_REQUESTS_PER_MONTH = 10**12
# Two staircases are compared step by step; a fleet of more machines than this is another question.
MOST_MACHINES = 1_000


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


def _never(searched_to: int) -> BreakEven:
    return BreakEven(
        requests_per_month=NOT_REACHED,
        stays_cheaper=None,
        cheaper_for_good_from=NOT_REACHED,
        searched_to_requests_per_month=searched_to,
    )
