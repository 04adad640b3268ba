"""What to deploy: the cheapest quote that keeps accuracy, latency and memory within limits, or an honest no."""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.costing.quote import cost_order
from deploycost.errors import NoAnswer
from deploycost.records import Figure, Quote
from deploycost.units import milliseconds, percent, usd
from deploycost.verdicts import QuoteSheet, Recommendation

RUNNER_UPS = 3
# Accuracies are ratios of counts: what differs by less than this is equal.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Limits:
    """What may be given up for money: accuracy against the best variant of the sheet, and its least value, 0..1."""

    max_accuracy_drop: float = 0.01
    min_accuracy: float = 0.0


@dataclass(frozen=True)
class _Sieve:
    """Quotes that passed each limit so far, and how many each limit refused."""

    passed: list[Quote]
    no_capacity: int
    slow: list[Quote]
    too_large: list[Quote]
    inaccurate: list[Quote]
    unjudged: list[Quote]


def recommend(sheet: QuoteSheet, limits: Limits | None = None) -> Recommendation:
    """The cheapest quote as planned that meets the SLO, fits memory and keeps accuracy, with reason and runner-ups.

    Of equal bills the one with the lower cost at saturation comes first: it has more room to grow.

    Raises:
        NoAnswer: none is within the limits; says how many each limit refused and what would change that.
    """
    limits = limits or Limits()
    best = max((value for each in sheet.quotes if (value := each.accuracy.value) is not None), default=None)
    least = max((best or 0.0) - limits.max_accuracy_drop, limits.min_accuracy)
    sieve = _sift(sheet, least)
    if not sieve.passed:
        raise NoAnswer(_why_none(sheet, sieve, least))
    first, *others = sorted(sieve.passed, key=cost_order)
    distinguishable = _surely_cheaper(first, others[0]) if others else None
    return Recommendation(
        quote=first,
        reason=_reason(first, sheet, len(sieve.passed), best, least) + _against(first, others, distinguishable),
        runner_ups=tuple(others[:RUNNER_UPS]),
        distinguishable=distinguishable,
    )


def _sift(sheet: QuoteSheet, least_accuracy: float) -> _Sieve:
    sieve = _Sieve([], sum(each.capacity_rps.value is None for each in sheet.quotes), [], [], [], [])
    for each in sheet.quotes:
        if each.capacity_rps.value is None:
            continue
        if not each.meets_slo:
            sieve.slow.append(each)
        elif not each.fits_memory:
            sieve.too_large.append(each)
        elif each.accuracy.value is None and least_accuracy > 0:
            sieve.unjudged.append(each)
        elif (each.accuracy.value or 0.0) < least_accuracy - _ROUNDING:
            sieve.inaccurate.append(each)
        else:
            sieve.passed.append(each)
    return sieve


def _why_none(sheet: QuoteSheet, sieve: _Sieve, least: float) -> str:
    if not sheet.quotes:
        return "none fits: there are no quotes; build and load-test a variant first with 'deploycost run'"
    told, advice = [], []
    if sieve.no_capacity:
        told.append(f"{sieve.no_capacity} have no known capacity")
        advice.append("load-test with 'deploycost loadtest', or give --record from such a machine")
    if sieve.slow:
        told.append(f"{len(sieve.slow)} do not keep p95 within {milliseconds(sheet.slo_p95_ms)}")
        fastest = min((value for each in sieve.slow if (value := each.p95_ms.value) is not None), default=None)
        seen = f" (the lowest p95 seen is {milliseconds(fastest)})" if fastest is not None else ""
        advice.append(f"allow more with --slo-p95{seen}")
    untold = [each for each in sieve.too_large if each.fits_memory is None]
    if len(sieve.too_large) > len(untold):
        told.append(f"{len(sieve.too_large) - len(untold)} do not fit the machine's memory")
        advice.append("choose machines with more memory")
    if untold:
        told.append(f"of {len(untold)} it is not known whether they fit the memory of machines not tested on")
        advice.append(f"load-test on one such as {untold[0].instance_type} and give its load.json with --record")
    if sieve.inaccurate:
        most = max(each.accuracy.value or 0.0 for each in sieve.inaccurate)
        told.append(f"{len(sieve.inaccurate)} are below {percent(least)} accuracy")
        advice.append(f"accept {percent(most)} with --max-accuracy-drop")
    if sieve.unjudged:
        told.append(f"{len(sieve.unjudged)} are of unknown accuracy")
        advice.append("judge them on labelled texts, or ask for no accuracy")
    return f"none fits: of {len(sheet.quotes)} quotes {', '.join(told)}; to get an answer: {'; or '.join(advice)}"


def _reason(first: Quote, sheet: QuoteSheet, passed: int, best: float | None, least: float) -> str:
    accuracy = f"accuracy {percent(first.accuracy.value)} (best {percent(best)}, asked at least {percent(least)})"
    if best is None:
        accuracy = "their answers near the model's own (accuracy is unknown)"
    basis = first.capacity_rps.basis
    caution = "" if basis == "measured" else f" Its capacity there is {basis}, not measured."
    doubt = "" if first.certified else " Its load test is not certified."
    return (
        f"{first.variant} on {_machine(first)}: {usd(first.usd_per_million.planned.value)} per million as planned, "
        f"{usd(first.monthly_usd.value)} a month{_machines(first)}; the cheapest of {passed} quotes that "
        f"keep p95 within {milliseconds(sheet.slo_p95_ms)}, fit memory and keep {accuracy}.{caution}{doubt}"
    )


def _against(first: Quote, others: list[Quote], distinguishable: bool | None) -> str:
    if not others:
        return " No other quote is within the limits."
    second = others[0]
    name = f"{second.variant} on {_machine(second)}"
    if first.usd_per_million.planned.value == second.usd_per_million.planned.value:
        return f" {name} costs the same in whole machines; it comes second by its cost at saturation."
    if distinguishable is None:
        return f" Next comes {name}; whether it really costs more cannot be told without intervals."
    if not distinguishable:
        return f" {name} is not distinguishable from it: the intervals overlap."
    return f" Next comes {name} at {usd(second.usd_per_million.planned.value)} per million."


def _machines(quoted: Quote) -> str:
    return " by the request" if quoted.replicas is None else f" for {quoted.replicas} machines"


def _machine(quoted: Quote) -> str:
    return f"{quoted.cloud} {quoted.instance_type} ({quoted.region}, {quoted.purchase_option})"


def _surely_cheaper(first: Quote, second: Quote) -> bool | None:
    """Whether the first is cheaper throughout both intervals; None where an interval is missing.

    Equal bills are equal, however sure. Where one assumption scales both on one machine, what was measured decides.
    """
    if first.usd_per_million.planned.value == second.usd_per_million.planned.value:
        return False
    if _machine(first) == _machine(second) and _times_measured(first) == _times_measured(second):
        return _apart(second.measured_capacity_rps, first.measured_capacity_rps)
    return _apart(first.usd_per_million.planned, second.usd_per_million.planned)


def _times_measured(quoted: Quote) -> float | None:
    """By how much a capacity is above the measured one that it rests on."""
    there, measured = quoted.capacity_rps.value, quoted.measured_capacity_rps.value
    return round(there / measured, 6) if there and measured else None


def _apart(lower: Figure, upper: Figure) -> bool | None:
    if lower.high is None or upper.low is None:
        return None
    return lower.high < upper.low
