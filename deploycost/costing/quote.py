"""A quote: what each variant costs on each machine, service or API, and how sure each figure is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NoReturn

import numpy as np

from deploycost.costing.alternatives import (
    Alternatives,
    CapacityOn,
    CarriedOn,
    Machine,
    Site,
    SiteOf,
    hired,
    one_by_one,
)
from deploycost.costing.request_rows import ApiRow, ServiceRow, service_ms
from deploycost.costing.returns import ApiRequest
from deploycost.costing.rows import MachineRow
from deploycost.costing.sieve import NO_BOUNDS, SORTS, Bounds, Sight, SortKey, bounds_told, nearest_miss, pareto, within
from deploycost.costing.table import Table
from deploycost.errors import NoAnswer
from deploycost.records import LOAD_RULES, LoadRecord, Quote, Subject, Variant
from deploycost.units import milliseconds, percent, usd
from deploycost.verdicts import Policy, QuoteSheet, Traffic

__all__ = [
    "Alternatives", "Bounds", "CapacityOn", "CarriedOn", "Machine", "Question", "Site", "SiteOf",
    "cost_order", "hired", "quote",
]  # fmt: skip

# So many quotes are made in full whatever is asked; of more, those worth showing.
MADE_WHOLE = 400


@dataclass(frozen=True)
class Question:
    """What must be served, how machines are planned, and which rows are wanted: all of them where `shown` is None."""

    traffic: Traffic
    policy: Policy
    slo_p95_ms: float
    bounds: Bounds = NO_BOUNDS
    sort: SortKey = "planned"
    shown: int | None = None
    api_request: ApiRequest = field(default=ApiRequest(input_tokens=0))


def quote(
    variants: Sequence[Subject],
    alternatives: Alternatives,
    capacity_on: CapacityOn,
    site_of: SiteOf,
    question: Question,
    carried_on: CarriedOn | None = None,
) -> QuoteSheet:
    """Every variant on every machine and service, and the APIs beside: by planned cost unless asked otherwise.

    `capacity_on` says what a variant carries on a machine, `carried_on` the same of many at once. Each quote pins its
    price row. A low capacity is a high price, so the ends of the intervals change places; replicas are whole at both
    ends. Where there are too many rows, only the first `shown` are made, and of services and APIs the best of each.

    Raises:
        NoAnswer: no row keeps the bounds; says what came nearest.
    """
    sheet = _Sheet(variants, alternatives, capacity_on, carried_on or one_by_one(capacity_on), site_of, question)
    return sheet.in_part() if sheet.is_large else sheet.whole()


def refuse_hopeless_slo(sheet: QuoteSheet, variants: Sequence[Subject]) -> None:
    """No number of machines answers faster than one does when it has nothing else to do.

    Raises:
        NoAnswer: the SLO is below the service time of every variant, and no machine is projected to keep it.
    """
    alone = {
        variant.name: span for variant in variants for load in variant.loads if (span := service_ms(load)) is not None
    }
    # Another machine may be faster, and of many only the cheapest are in the sheet.
    kept = sheet.left_out > 0 or any(each.meets_slo for each in sheet.quotes)
    if not alone or kept or min(alone.values()) <= sheet.slo_p95_ms:
        return
    fastest = min(alone, key=alone.__getitem__)
    raise NoAnswer(
        f"an SLO of p95 within {milliseconds(sheet.slo_p95_ms)} is below the service time of every variant: the "
        f"fastest, {fastest}, takes {milliseconds(alone[fastest])} alone on an idle machine, and more machines do not "
        "change that; allow more with --slo-p95"
    )


def cost_order(quoted: Quote) -> tuple[float, float, str, str]:
    """Sorts quotes: planned cost, then cost at saturation (room to grow), then name; unknown last."""
    planned, at_saturation = quoted.usd_per_million.planned.value, quoted.usd_per_million.floor.value
    machine = f"{quoted.cloud} {quoted.region} {quoted.instance_type} {quoted.purchase_option}"
    return (
        inf if planned is None else planned,
        inf if at_saturation is None else at_saturation,
        quoted.variant,
        machine,
    )


@dataclass(frozen=True)
class _Sheet:
    variants: Sequence[Subject]
    alternatives: Alternatives
    capacity_on: CapacityOn
    carried_on: CarriedOn
    site_of: SiteOf
    question: Question

    @property
    def is_large(self) -> bool:
        """Whether only some of the rows are to be made."""
        rows = len(self.variants) * len(self.alternatives.machines)
        return self.question.shown is not None and rows > max(MADE_WHOLE, self.question.shown)

    def whole(self) -> QuoteSheet:
        """Each row in full."""
        asked = self.question
        rows = [
            MachineRow(variant, machine, self.capacity_on(variant, machine.offer), asked.traffic, asked.policy)
            for variant in self.variants
            for machine in self.alternatives.machines
        ]
        loads = {
            f"{row.variant.name} on {load.environment.cpu_model}": load for row in rows if (load := row.capacity.load)
        }
        quotes = [*(row.quote(self.site_of, asked.slo_p95_ms) for row in rows), *self._by_request()]
        kept = self._within(quotes)
        return self._sheet(
            _marked(kept), loads, refused=len(quotes) - len(kept), warnings=_quote_warnings(quotes, asked.policy)
        )

    def in_part(self) -> QuoteSheet:
        """The rows worth showing, found among all of them by their costs."""
        asked, shown = self.question, self.question.shown or 0
        table = Table(
            variants=self.variants,
            machines=self.alternatives.machines,
            capacity_on=self.capacity_on,
            carried_on=self.carried_on,
            traffic=asked.traffic,
            policy=asked.policy,
            slo_p95_ms=asked.slo_p95_ms,
        )
        sight, by_request = table.sight, self._by_request()
        others = Sight.of(by_request)
        joint = sight.joined(others)
        keeps = within(asked.bounds, joint)
        known = np.isfinite(joint.planned)
        if asked.bounds.asked and not keeps.any():
            self._nothing_fits(joint, lambda number: self._row(table, by_request, number))
        machine_rows = len(sight.planned)
        worth_showing = (keeps & known)[:machine_rows]
        chosen = table.first(shown, worth_showing, asked.sort, self.site_of)
        marks, mark_of = pareto(joint.only(keeps)), np.cumsum(keeps) - 1
        numbered = [(number, table.row(number).quote(self.site_of, asked.slo_p95_ms)) for number in chosen]
        numbered += [(number, quoted) for number, quoted in enumerate(by_request, machine_rows) if keeps[number]]
        quotes = [quoted.model_copy(update={"pareto": marks[mark_of[number]]}) for number, quoted in numbered]
        unknown = table.unknown() if not asked.bounds.asked else ()
        return self._sheet(
            quotes,
            table.loads,
            refused=int((~keeps).sum()),
            left_out=int(worth_showing.sum()) - len(chosen),
            unknown=unknown,
            warnings=_quote_warnings(quotes, asked.policy),
        )

    def _sheet(self, quotes: list[Quote], loads: dict[str, LoadRecord], **found: Any) -> QuoteSheet:  # noqa: ANN401
        asked = self.question
        value = SORTS[asked.sort]
        ordered = sorted(quotes, key=lambda each: (inf if (v := value(each)) is None else v, *cost_order(each)))
        told = (*self.alternatives.warnings, *_load_warnings(loads, asked.slo_p95_ms), *found.pop("warnings"))
        told += tuple(_model_warnings(self.variants))
        return QuoteSheet(
            quotes=tuple(ordered),
            traffic=asked.traffic,
            policy=asked.policy,
            slo_p95_ms=asked.slo_p95_ms,
            sort=asked.sort,
            warnings=told,
            **found,
        )

    def _by_request(self) -> list[Quote]:
        asked = self.question
        services = [
            ServiceRow(variant, rate, self.capacity_on, asked.traffic, asked.policy).quote(asked.slo_p95_ms)
            for rate in self.alternatives.services
            for variant in self.variants
        ]
        return services + [
            ApiRow(option, asked.api_request, asked.traffic, asked.policy).quote() for option in self.alternatives.apis
        ]

    def _within(self, quotes: list[Quote]) -> list[Quote]:
        bounds = self.question.bounds
        if not bounds.asked or not quotes:
            return quotes
        sight = Sight.of(quotes)
        kept = [quoted for quoted, keep in zip(quotes, within(bounds, sight), strict=True) if keep]
        if not kept:
            self._nothing_fits(sight, quotes.__getitem__)
        return kept

    def _row(self, table: Table, by_request: list[Quote], number: int) -> Quote:
        machine_rows = len(table.sight.planned)
        if number >= machine_rows:
            return by_request[number - machine_rows]
        return table.row(number).quote(self.site_of, self.question.slo_p95_ms)

    def _nothing_fits(self, sight: Sight, quote_at: Callable[[int], Quote]) -> NoReturn:
        bounds = self.question.bounds
        asked = f"nothing fits: none of {len(sight.planned):,} quotes has {bounds_told(bounds)}"
        number = nearest_miss(bounds, sight)
        if number is None:
            raise NoAnswer(f"{asked}; of none are all these figures known: load-test with 'deploycost loadtest'")
        near = quote_at(number)
        raise NoAnswer(
            f"{asked}; nearest is {near.variant} on {near.cloud} {near.instance_type} ({near.region}, "
            f"{near.purchase_option}): p95 {milliseconds(near.p95_ms.value)}, accuracy {percent(near.accuracy.value)}, "
            f"{usd(near.monthly_usd.value)} a month"
        )


def _marked(quotes: list[Quote]) -> list[Quote]:
    if not quotes:
        return quotes
    marks = pareto(Sight.of(quotes))
    return [each.model_copy(update={"pareto": mark}) for each, mark in zip(quotes, marks, strict=True)]


def _load_warnings(loads: dict[str, LoadRecord], slo_p95_ms: float) -> list[str]:
    told = []
    if stale := sorted(name for name, load in loads.items() if load.rules != LOAD_RULES):
        others = f" and {len(stale) - 1} others" if len(stale) > 1 else ""
        told.append(
            f"{stale[0]}{others}: load-tested by the rules of another version; test again with 'deploycost loadtest'"
        )
    for name, load in sorted(loads.items()):
        if not load.certificate.certified:
            failed = ", ".join(check.name for check in load.certificate.checks if not check.ok)
            told.append(f"{name}: the load test is not certified ({failed or 'no check passed'})")
        if load.texts_per_request > 1:
            told.append(f"{name}: each request carried {load.texts_per_request} texts; all costs are of requests")
        if load.slo.p95_ms != slo_p95_ms:
            told.append(
                f"{name}: capacity was found for p95 within {milliseconds(load.slo.p95_ms)}, not "
                f"{milliseconds(slo_p95_ms)}; load-test again with --slo-p95 {slo_p95_ms:g}"
            )
    return told


def _model_warnings(variants: Sequence[Subject]) -> list[str]:
    names = dict.fromkeys(
        each.tuning.slug for each in variants if isinstance(each, Variant) and each.export.accuracy is None
    )
    return [f"the accuracy of {name} is unknown, so what a right answer costs is too" for name in names]


def _quote_warnings(quotes: Sequence[Quote], policy: Policy) -> list[str]:
    told = []
    unknown = [
        each for each in quotes if each.usd_per_million.planned.value is None and each.capacity_rps.value is None
    ]
    if unknown:
        told.append(
            f"{len(unknown)} of {len(quotes)} quotes have no capacity, so no cost; {unknown[0].variant} on "
            f"{unknown[0].instance_type}, for one, is {unknown[0].capacity_reason}"
        )
    priced = [each for each in quotes if each.usd_per_million.planned.value is not None]
    if any(each.kind == "machine" and each.capacity_rps.basis == "assumed" for each in priced):
        told.append("capacity marked assumed is scaled from the measured cores: load-test on the machine before buying")
    if any("spot" in each.purchase_option for each in quotes):
        away = policy.spot_interruption_ratio
        told.append(
            "spot machines can be taken back at any time and their prices move; "
            + (
                f"{percent(away)} of them are taken to be away at any time (assumed)"
                if away
                else "spares are not planned for that"
            )
        )
    if any(each.kind == "api" for each in quotes):
        told.append("an API's accuracy on this task, its latency and its rate limits are not verified")
    return told
