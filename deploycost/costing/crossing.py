"""Which of two rows of a sheet is cheaper at which volume: the rows that are meant by name, and their bills."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.costing.alternatives import Alternatives, CapacityOn
from deploycost.costing.bills import Bill
from deploycost.costing.break_even import crossover
from deploycost.costing.quoted_bill import bill_of
from deploycost.costing.request_rows import ServiceRow
from deploycost.errors import UserError, nearest
from deploycost.records import Quote, Subject
from deploycost.verdicts import Crossover, QuoteSheet

# More names than this in one line help nobody.
_NAMES_TOLD = 12


def crossovers(
    sheet: QuoteSheet,
    variants: Sequence[Subject],
    alternatives: Alternatives,
    capacity_on: CapacityOn,
    names: tuple[str, str],
) -> Crossover:
    """From which volume the first row is below the second, as whole machines are bought.

    A name is a machine (`c7i.large`), a service, an API, a variant, or `VARIANT@MACHINE`; of several rows that it
    means, the cheapest with a price.

    Raises:
        UserError: a name means no such row.
    """
    row, other = (_named(sheet, name) for name in names)
    bills = [_bill(each, sheet, variants, alternatives, capacity_on) for each in (row, other)]
    return Crossover(row=row_name(row), other=row_name(other), crossing=crossover(*bills))


def row_name(quote: Quote) -> str:
    """A row as it can be named, as in `full.onnx-int8@aws-c7i.large`."""
    return f"{quote.variant}@{quote.purchase_option}" if quote.kind == "api" else f"{quote.variant}@{_place(quote)}"


def _place(quote: Quote) -> str:
    return f"{quote.cloud}-{quote.instance_type}".replace(" ", "-")


def _names(quote: Quote) -> set[str]:
    if quote.kind == "api":
        return {quote.variant, quote.variant.removeprefix("api:"), row_name(quote)}
    machines = {quote.instance_type, _place(quote), f"{quote.cloud} {quote.instance_type}"}
    machines |= {f"{machine}/{quote.purchase_option}" for machine in machines}
    return {quote.variant, *machines, *(f"{quote.variant}@{machine}" for machine in machines)}


def _named(sheet: QuoteSheet, name: str) -> Quote:
    priced = [quote for quote in sheet.quotes if quote.usd_per_million.planned.value is not None]
    wanted = name.strip().lower()
    found = [quote for quote in priced if wanted in {each.lower() for each in _names(quote)}]
    if found:
        return min(found, key=lambda quote: quote.usd_per_million.planned.value or 0.0)
    known = list(dict.fromkeys(row_name(quote) for quote in priced))
    hint = nearest(name, sorted({each for quote in priced for each in _names(quote)}))
    raise UserError(
        f"no row with a price is named {name!r}{hint}; rows: {', '.join(known[:_NAMES_TOLD]) or 'none'}"
        + (f" and {len(known) - _NAMES_TOLD} more" if len(known) > _NAMES_TOLD else "")
    )


def _bill(
    quote: Quote, sheet: QuoteSheet, variants: Sequence[Subject], alternatives: Alternatives, capacity_on: CapacityOn
) -> Bill:
    if quote.kind == "serverless":
        variant = next(each for each in variants if each.name == quote.variant)
        services = (
            ServiceRow(variant, rate, capacity_on, sheet.traffic, sheet.policy) for rate in alternatives.services
        )
        return next(bill for row in services if row.is_of(quote) and (bill := row.planned_bill()) is not None)
    bill = bill_of(quote, sheet)
    if bill is None:
        raise UserError(f"{row_name(quote)} carries nothing under the SLO, so its bill cannot be told")
    return bill
