"""What stands under a table of quotes: what was asked, what is added to the bills, and why some rows have no price."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.records import Quote
from deploycost.reporting.wording import number
from deploycost.units import percent, seconds_text, usd
from deploycost.verdicts import QuoteSheet, UnknownQuotes

ORDERS = {
    "planned": "cheapest",
    "floor": "cheapest at saturation",
    "per-correct": "cheapest per correct answer",
    "monthly": "lowest bill",
    "p95": "fastest",
    "accuracy": "most accurate",
    "energy": "least energy",
    "carbon": "least CO2e",
}
# Of the reasons why capacities are unknown, and of the machines of each: a note is to be read, not searched.
_REASONS_TOLD = 6
_MACHINES_NAMED = 3


def asked(sheet: QuoteSheet) -> list[str]:
    """The traffic and the policy in a few lines."""
    traffic, policy = sheet.traffic, sheet.policy
    shape = f" by the hour ({traffic.shape})" if traffic.shape else ""
    spare = f"{policy.spare_replicas} spare"
    told = [
        f"{traffic.requests_per_month:,} requests a month{shape}, peak {number(traffic.peak_to_mean_ratio)} x mean; "
        f"machines planned at {percent(policy.utilisation_ratio, 0)} load, {spare}; "
        f"p95 within {number(sheet.slo_p95_ms)} ms."
    ]
    if policy.autoscale:
        step = "" if policy.scale_step == 1 else f" in steps of {policy.scale_step}"
        told.append(
            f"Autoscaled by the hour{step}: each machine is started, and paid, "
            f"{seconds_text(policy.cold_start_s)} ahead."
        )
    if policy.mix:
        told.append(f"Mix: {policy.mix['base']} for what every hour needs, {policy.mix['peak']} for the rest.")
    added = []
    if policy.horizon_months:
        added.append(f"making the variant, spread over {policy.horizon_months} months")
    if policy.storage_gib:
        rate = f"{usd(policy.storage_usd_per_gib_month)} per GiB and month"
        added.append(f"{number(policy.storage_gib)} GiB of disk a machine at {rate}")
    if policy.response_bytes:
        added.append(f"{policy.response_bytes:,} B of egress an answer at {usd(policy.egress_usd_per_gib)} per GiB")
    if added:
        told.append(f"In the bill: {'; '.join(added)}.")
    left_out = [
        name
        for name, counted in (("storage", policy.storage_gib), ("egress", policy.response_bytes),
                              ("training", policy.horizon_months))
        if not counted
    ]  # fmt: skip
    if left_out:
        told.append(f"Not counted: {', '.join(left_out)}.")
    return told


def has_price(quote: Quote) -> bool:
    """Whether a quote has one: an API's needs no capacity."""
    return quote.usd_per_million.planned.value is not None and (
        quote.kind == "api" or quote.capacity_rps.value is not None
    )


def unknown(sheet: QuoteSheet) -> list[str]:
    """One line for each reason why capacities are unknown, those of most quotes first."""
    ordered = [*sheet.unknown, *_by_reason(sheet.quotes)]
    notes = [_note(each) for each in ordered[:_REASONS_TOLD]]
    rest = ordered[_REASONS_TOLD:]
    if rest:
        count = sum(each.quotes for each in rest)
        notes.append(f"{count:,} quotes unknown for {len(rest)} more reasons: 'deploycost quote --all' shows them.")
    return notes


def _by_reason(quotes: Sequence[Quote]) -> list[UnknownQuotes]:
    by_reason: dict[str, list[Quote]] = {}
    for quote in quotes:
        if not has_price(quote):
            # What follows the first clause is what to do about it, in words of this one variant and machine.
            reason = quote.capacity_reason.removeprefix("unknown: ").partition(";")[0]
            by_reason.setdefault(reason, []).append(quote)
    told = []
    for reason, concerned in by_reason.items():
        machines = list(dict.fromkeys(f"{quote.cloud} {quote.instance_type}" for quote in concerned))
        told.append(
            UnknownQuotes(
                reason=reason,
                quotes=len(concerned),
                machines=tuple(machines[:_MACHINES_NAMED]),
                machine_count=len(machines),
            )
        )
    return sorted(told, key=lambda each: -each.quotes)


def _note(told: UnknownQuotes) -> str:
    named = ", ".join(told.machines) + (", …" if told.machine_count > len(told.machines) else "")
    quotes, on = _counted(told.quotes, "quote"), _counted(told.machine_count, "machine")
    return f"{quotes} on {on} unknown: {told.reason} ({named}); 'deploycost quote --all' says how to measure them."


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
