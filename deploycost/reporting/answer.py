"""The answer in a few sentences: what to deploy, what it costs, why, and what to beware of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploycost.records import Figure, Quote
from deploycost.reporting.grids import machine_name
from deploycost.reporting.method_grids import settings_text
from deploycost.units import UNKNOWN, bytes_text, milliseconds, percent, points, rate, usd
from deploycost.verdicts import MethodAdvice, Recommendation

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
    cautions = ["The load test behind this capacity is not certified."] if quote.doubted else []
    if recommendation.runner_ups and _DOUBTS[recommendation.distinguishable]:
        cautions.append(_DOUBTS[recommendation.distinguishable])
    return Answer(
        headline=f"Deploy {quote.variant} on {_fleet_name(quote)}",
        price=f"{price_text(quote.usd_per_million.planned)} per million predictions, as planned",
        facts=_facts(quote, recommendation.runner_ups),
        reason=recommendation.reason,
        cautions=tuple(cautions),
    )


def method_answer(advice: MethodAdvice, command: str) -> Answer:
    """The method that was chosen put into words, with the command that trains by it, or why there is none."""
    chosen = advice.chosen
    if chosen is None:
        return Answer("No method", "", (), advice.reason)
    facts = (
        ("Settings", settings_text(chosen)),
        ("Memory", _figure_text(chosen.memory_bytes, bytes_text, chosen.memory_source)),
        ("Accuracy lost to full", _figure_text(chosen.accuracy_drop, points, chosen.accuracy_source)),
        ("Training speed", _figure_text(chosen.training_speed_ratio, _times_full, chosen.training_source)),
        ("Cost of a request", _figure_text(chosen.serving_cost_ratio, _times_full, chosen.serving_source)),
        ("Trained parameters", f"{chosen.trainable_parameters:,}"),
        ("Train it", command),
    )
    return Answer(f"Fine-tune with {chosen.slug}", "", facts, advice.reason, advice.doubts)


def _figure_text(figure: Figure, write: Callable[[float | None], str], source: str) -> str:
    if figure.value is None:
        return f"{UNKNOWN}: {source}"
    ends = (figure.low, figure.high)
    spread = f"{write(figure.low)} to {write(figure.high)}, " if None not in ends and figure.low != figure.high else ""
    return f"{write(figure.value)} ({spread}{figure.basis}: {source})"


def _times_full(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.2f} x full"


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
