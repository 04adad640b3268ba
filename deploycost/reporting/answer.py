"""The answer in a few sentences: what to deploy, what it costs, why, and what to beware of."""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.records import Figure, Quote
from deploycost.reporting.grids import machine_name
from deploycost.units import UNKNOWN, milliseconds, percent, rate, usd
from deploycost.verdicts import Recommendation

_DOUBTS = {
    True: "",
    False: "The price intervals of the two overlap: either may be the cheaper.",
    None: "Whether the first is surely cheaper cannot be told.",
}


@dataclass(frozen=True)
class Answer:
    """The parts of an answer. `facts` are label and value; `cautions` may be none."""

    headline: str
    price: str
    facts: tuple[tuple[str, str], ...]
    reason: str
    cautions: tuple[str, ...] = ()


def answer(recommendation: Recommendation | None, no_recommendation_reason: str) -> Answer:
    """The recommendation put into words, or the reason why there is none."""
    if recommendation is None:
        return Answer("No recommendation", "", (), no_recommendation_reason)
    quote = recommendation.quote
    cautions = [] if quote.certified else ["The load test behind this capacity is not certified."]
    if recommendation.runner_ups and _DOUBTS[recommendation.distinguishable]:
        cautions.append(_DOUBTS[recommendation.distinguishable])
    return Answer(
        headline=f"Deploy {quote.variant} on {_fleet_name(quote)}",
        price=f"{price_text(quote.usd_per_million.planned)} per million predictions, as planned",
        facts=_facts(quote, recommendation.runner_ups),
        reason=recommendation.reason,
        cautions=tuple(cautions),
    )


def price_text(figure: Figure) -> str:
    """Dollars with interval and basis in words: `$13.04 ($12.10 to $14.20, assumed)`."""
    if figure.value is None:
        return UNKNOWN
    spread = f"{usd(figure.low)} to {usd(figure.high)}, " if figure.low is not None and figure.high is not None else ""
    return f"{usd(figure.value)} ({spread}{figure.basis})"


def _facts(quote: Quote, runner_ups: tuple[Quote, ...]) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Bill", f"{usd(quote.monthly_usd.value)} a month"),
        ("At saturation", f"{usd(quote.usd_per_million.floor.value)} per million (a floor)"),
        ("Capacity of one machine", f"{rate(quote.capacity_rps.value)} ({quote.capacity_rps.basis})"),
        ("p95 latency", f"{milliseconds(quote.p95_ms.value)} ({quote.p95_ms.basis})"),
        ("Accuracy", percent(quote.accuracy.value)),
    ]
    if runner_ups:
        second = runner_ups[0]
        facts.append(
            ("Runner-up", f"{second.variant} on {_fleet_name(second)}, {usd(second.usd_per_million.planned.value)}")
        )
    return tuple(facts)


def _fleet_name(quote: Quote) -> str:
    count = "" if quote.replicas is None else f"{quote.replicas} x "
    return f"{count}{machine_name(quote)} ({quote.region}, {quote.purchase_option})"
