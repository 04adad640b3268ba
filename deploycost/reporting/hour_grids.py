"""Tables beside the quotes: machines of a fleet through the week, and volumes at which bills cross."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import UNKNOWN_MARK, yes_no
from deploycost.traffic_shape import DAYS, HOURS_PER_DAY
from deploycost.verdicts import NOT_REACHED, Crossover, NotReached, QuoteSheet

# A day in the terminal is three lines of hours that are often alike: a span of hours is told once.
_DAY_LETTERS = 3


def hours(sheet: QuoteSheet) -> Grid:
    """Machines of the first row that has them by the hour, a line for each day, a span of equal hours told once."""
    columns = (Column("day", text=True), Column("machines from hour to hour", text=True))
    quote = next((each for each in sheet.quotes if each.replicas_by_hour), None)
    if quote is None or quote.replicas_by_hour is None:
        return Grid("Machines by the hour: none", columns, ())
    counts = quote.replicas_by_hour
    days: dict[str, list[str]] = {}
    for number, name in enumerate(DAYS):
        told = _spans(counts[number * HOURS_PER_DAY : (number + 1) * HOURS_PER_DAY])
        days.setdefault(told, []).append(name[:_DAY_LETTERS].capitalize())
    rows = tuple((", ".join(names) if len(names) < len(DAYS) else "every day", told) for told, names in days.items())
    title = f"Machines by the hour: {quote.variant} on {quote.cloud} {quote.instance_type}"
    note = (
        f"{quote.fleet_hours:,.0f} machine-hours billed in a month of {sheet.policy.hours_per_month}."
        if quote.fleet_hours
        else ""
    )
    return Grid(title, columns, rows, (note,) if note else ())


def crossings(told: Sequence[Crossover]) -> Grid:
    """One line for each pair of rows."""
    columns = (
        Column("row", text=True),
        Column("is cheaper than", text=True, below=True),
        Column("from requests/month", "from\nrequests/month"),
        Column("never dearer above that", "never dearer\nabove that"),
        Column("for good from", "for good\nfrom"),
    )
    rows = tuple(
        (
            each.row,
            each.other,
            _reached(each.crossing.requests_per_month),
            yes_no(each.crossing.stays_cheaper),
            _reached(each.crossing.cheaper_for_good_from),
        )
        for each in told
    )
    notes = tuple(
        f"Searched to {each.crossing.searched_to_requests_per_month:,} requests a month, in whole machines."
        for each in told
    )
    return Grid("Where bills cross", columns, rows, tuple(dict.fromkeys(notes)))


def _spans(counts: Sequence[int]) -> str:
    """`0-7 h 2, 7-9 h 3, 9-24 h 5`."""
    spans: list[tuple[int, int]] = []
    for hour, count in enumerate(counts):
        if not spans or spans[-1][1] != count:
            spans.append((hour, count))
    ends = [start for start, _ in spans[1:]] + [len(counts)]
    return ", ".join(f"{start}-{end} h {count:,}" for (start, count), end in zip(spans, ends, strict=True))


def _reached(volume: int | NotReached | None) -> str:
    if volume is None:
        return UNKNOWN_MARK
    return NOT_REACHED if volume == NOT_REACHED else f"{volume:,}"
