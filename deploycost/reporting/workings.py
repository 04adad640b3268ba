"""How the recommended price comes about, line by line, with this run's own numbers in each formula.

The results are those of the records; nothing is priced here. A reader with a pocket calculator can follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploycost.records import Quote, Variant
from deploycost.reporting import quote_notes
from deploycost.reporting.answer import price_text
from deploycost.reporting.content import ReportContent
from deploycost.reporting.wording import interval, number
from deploycost.units import SECONDS_PER_HOUR, UNKNOWN, milliseconds, percent, rate, usd
from deploycost.verdicts import QuoteSheet


@dataclass(frozen=True)
class Working:
    """One figure: what it is, its formula, the formula with numbers in it, and what it came to."""

    name: str
    formula: str
    numbers: str
    result: str


def workings(content: ReportContent) -> tuple[Working, ...]:
    """Each step from the load test to the planned price of the recommended quote; none without a recommendation."""
    if content.recommendation is None or content.sheet is None:
        return ()
    quote = content.recommendation.quote
    fleet = _hourly_fleet if _is_hourly(quote, content.sheet) else _fleet
    return (*_capacities(quote, content.chosen), *fleet(quote, content.sheet), *_prices(quote, content.sheet))


def assumptions(content: ReportContent) -> tuple[str, ...]:
    """Everything that was taken rather than measured, each once."""
    told: list[str] = []
    if content.sheet:
        traffic, policy = content.sheet.traffic, content.sheet.policy
        told += [
            f"traffic: {traffic.requests_per_month:,} requests a month, "
            f"at the peak {number(traffic.peak_to_mean_ratio)} times the mean rate",
            f"planning: {percent(policy.utilisation_ratio, 0)} of a machine's capacity at the peak, "
            f"{policy.spare_replicas} spare, {policy.hours_per_month} billed hours a month",
            *quote_notes.asked(content.sheet)[1:],
        ]
        told += [
            f"{quote.instance_type}: {quote.capacity_reason}"
            for quote in content.sheet.quotes
            if quote.capacity_rps.value is not None and quote.capacity_rps.basis != "measured"
        ]
    told += [note for answer in content.returns for note in answer.notes]
    return tuple(dict.fromkeys(told))


def _capacities(quote: Quote, variant: Variant | None) -> tuple[Working, ...]:
    load = variant.load if variant else None
    measured = quote.measured_capacity_rps
    spread = f" ({interval(measured)})" if interval(measured) else ""
    limits = (
        f"p95 within {milliseconds(load.slo.p95_ms)}, errors within {percent(load.slo.max_error_ratio)}, "
        f"{len(load.curve)} probes on {load.server_cores} core(s) of {load.environment.cpu_model}, seed {load.seed}"
        if load
        else "no load test of this run"
    )
    return (
        Working(
            "capacity, as measured",
            "highest open-loop Poisson arrival rate that keeps the SLO, latency from the moment a request was due",
            limits,
            f"{rate(measured.value)}{spread}",
        ),
        Working(
            f"capacity of one {quote.instance_type}",
            "as measured there, or carried over from where it was",
            quote.capacity_reason,
            f"{rate(quote.capacity_rps.value)} ({quote.capacity_rps.basis})",
        ),
    )


def _fleet(quote: Quote, sheet: QuoteSheet) -> tuple[Working, ...]:
    traffic, policy = sheet.traffic, sheet.policy
    seconds = policy.hours_per_month * SECONDS_PER_HOUR
    peak_rps = traffic.requests_per_month / seconds * traffic.peak_to_mean_ratio
    ratio = number(traffic.peak_to_mean_ratio)
    return (
        Working(
            "peak rate",
            "requests per month / seconds per month x peak to mean",
            f"{traffic.requests_per_month:,} / {seconds:,} s x {ratio}",
            rate(peak_rps),
        ),
        Working(
            "machines",
            "peak rate / (capacity x planned load), rounded up, at least 1; and the spares",
            f"{number(peak_rps)} / ({number(quote.capacity_rps.value)} x {policy.utilisation_ratio:g}) rounded up, "
            f"+ {policy.spare_replicas}",
            UNKNOWN if quote.replicas is None else f"{quote.replicas:,}",
        ),
    )


def _is_hourly(quote: Quote, sheet: QuoteSheet) -> bool:
    """Whether the machines are more than the peak over the capacity: by the hour, in several ways, or taken away."""
    return bool(sheet.policy.autoscale or len(quote.parts) > 1 or "spot" in quote.purchase_option)


def _hourly_fleet(quote: Quote, sheet: QuoteSheet) -> tuple[Working, ...]:
    policy = sheet.policy
    counts = quote.replicas_by_hour or ((quote.replicas,) if quote.replicas is not None else ())
    away = (
        f", over {1 - policy.spot_interruption_ratio:g} of spot that stays" if "spot" in quote.purchase_option else ""
    )
    bought = "; ".join(
        f"{part.part}: {part.replicas:,} {part.purchase_option} at most, {number(part.hours_per_month, 5)} h x "
        f"{usd(part.usd_per_hour)}"
        for part in quote.parts
    )
    return (
        Working(
            "machines, hour by hour",
            "rate of the hour / (capacity x planned load), rounded up, at least 1; and the spares",
            f"rate of the hour / ({number(quote.capacity_rps.value)} x {policy.utilisation_ratio:g}) rounded up, "
            f"+ {policy.spare_replicas}{away}",
            f"{min(counts):,} to {max(counts):,}" if counts else UNKNOWN,
        ),
        Working(
            "machine-hours",
            "machines of each hour of the week, with starts ahead of need, x hours per month / hours of the week",
            bought or UNKNOWN,
            UNKNOWN if quote.fleet_hours is None else number(quote.fleet_hours, 5),
        ),
    )


def _beside(quote: Quote, sheet: QuoteSheet) -> str:
    """What is in the bill beside the hours of machines."""
    requests, policy = sheet.traffic.requests_per_month, sheet.policy
    training = f" + {usd(quote.training_monthly_usd)} of training" if quote.training_monthly_usd else ""
    each = f" + {requests:,} x {usd(quote.usd_per_request)}" if quote.usd_per_request else ""
    free = f" - {usd(quote.free_monthly_usd)} that is free" if quote.free_monthly_usd else ""
    disk = ", and the disks" if policy.storage_gib else ""
    return f"{training}{each}{free}{disk}"


def _prices(quote: Quote, sheet: QuoteSheet) -> tuple[Working, ...]:
    hourly, price = usd(quote.usd_per_hour), quote.usd_per_million
    cheapest = min((part.usd_per_hour for part in quote.parts), default=quote.usd_per_hour)
    count = UNKNOWN if quote.replicas is None else f"{quote.replicas:,}"
    capacity, accuracy = number(quote.capacity_rps.value), number(quote.accuracy.value)
    return (
        Working(
            "monthly bill",
            *(
                (
                    "machine-hours x USD per hour, and what is beside",
                    f"{number(quote.fleet_hours, 5)} x {hourly}{_beside(quote, sheet)}",
                )
                if _is_hourly(quote, sheet)
                else (
                    "machines x USD per hour x hours per month",
                    f"{count} x {hourly} x {sheet.policy.hours_per_month}{_beside(quote, sheet)}",
                )
            ),
            price_text(quote.monthly_usd),
        ),
        Working(
            "planned price per million",
            "monthly bill / requests per month x 1,000,000 (idle and spare machines are paid)",
            f"{usd(quote.monthly_usd.value)} / {sheet.traffic.requests_per_month:,} x 1,000,000",
            price_text(price.planned),
        ),
        Working(
            "floor per million",
            "1,000,000 x USD per hour / (3,600 x capacity): a machine that is never idle, bought the cheapest way",
            f"1,000,000 x {usd(cheapest)} / (3,600 x {capacity})",
            price_text(price.floor),
        ),
        Working(
            "planned price per million correct",
            "planned price / accuracy of the artifact",
            f"{usd(price.planned.value)} / {accuracy}",
            price_text(price.per_correct),
        ),
        Working(
            "p95 latency at the planned load",
            *_latency_working(quote, sheet),
            f"{milliseconds(quote.p95_ms.value)} ({quote.p95_ms.basis})",
        ),
    )


def _latency_working(quote: Quote, sheet: QuoteSheet) -> tuple[str, str]:
    """How a p95 came about: by a probe, by one made as much longer as servers are slower, or by a queue."""
    planned, measured = f"{sheet.policy.utilisation_ratio:g}", number(quote.measured_capacity_rps.value)
    at_measured = f"{planned} x {measured} requests per second"
    if quote.p95_ms.basis == "measured":
        return "the probe nearest above planned load x measured capacity", at_measured
    if quote.p95_ms.basis == "assumed":
        return "the probe there / how fast each server is taken to be over the measured one", at_measured
    told = "projected with the capacity, for which see its reason, at planned load x capacity"
    return told, f"{planned} x {number(quote.capacity_rps.value)} requests per second"
