"""The tables that let a reader check the others: returns, price rows, checks of the load tests, machines."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.environment import MachineFacts
from deploycost.records import Figure, Quote, TuningRecord, Variant
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.grids import machine_name
from deploycost.reporting.wording import LEGEND, UNKNOWN_MARK, interval, marked, number, yes_no
from deploycost.units import bytes_text, percent
from deploycost.verdicts import NOT_REACHED, NotReached, Return


def returns(answers: Sequence[Return]) -> Grid:
    """What the choice returns against each alternative: one column each, one line for each figure."""
    columns = [Column("against", text=True)]
    columns += [Column(answer.baseline, text=True) for answer in answers]
    cells = [_return_cells(answer) for answer in answers]
    labels = tuple(cells[0]) if cells else ()
    rows = tuple((label, *(cell[label] for cell in cells)) for label in labels)
    notes = [f"Choice: {answers[0].candidate}."] if answers else []
    notes += list(dict.fromkeys(note for answer in answers for note in answer.notes))
    return Grid("Return on the choice", tuple(columns), rows, (*notes, f"{LEGEND}."))


def price_rows(quotes: Sequence[Quote]) -> Grid:
    """Each price that a quote used, once, with where and when it was read."""
    rows = {
        (
            machine_name(quote),
            quote.region,
            quote.purchase_option,
            number(float(quote.usd_per_hour), 4),
            quote.price_date,
            quote.price_source,
        ): None
        for quote in quotes
    }
    columns = (
        Column("machine", text=True),
        Column("region", text=True),
        Column("bought", text=True),
        Column("$/hour"),
        Column("as of", text=True),
        Column("source", text=True),
    )
    return Grid("Price rows used", columns, tuple(rows))


def checks(variants: Sequence[Variant], chosen: Variant | None) -> Grid:
    """Each check of the chosen variant's load test, and those that failed of the others'."""
    rows = []
    for variant in variants:
        for check in variant.load.certificate.checks if variant.load else ():
            if check.ok and chosen is not None and variant.name != chosen.name:
                continue
            held = "held" if check.ok else "FAILED"
            rows.append((variant.name, check.name, held, number(check.value), number(check.limit), check.explanation))
    columns = (
        Column("variant", text=True),
        Column("check", text=True),
        Column("verdict", text=True),
        Column("value"),
        Column("limit"),
        Column("meaning", text=True),
    )
    of_others = " Of the other variants, only checks that failed are listed." if chosen is not None else ""
    return Grid("Checks of the load tests", columns, tuple(rows), (f"{UNKNOWN_MARK}: not measured.{of_others}",))


def environments(variants: Sequence[Variant]) -> Grid:
    """Each machine that something was measured on, once, with what was measured there."""
    stages: dict[str, tuple[MachineFacts, list[str]]] = {}
    for variant in variants:
        places = [("training", variant.tuning.machine)] if isinstance(variant.tuning, TuningRecord) else []
        places.append(("export", variant.export.machine))
        loads = [variant.load] if variant.load else []
        places += [("load test", load.environment) for load in (*loads, *variant.elsewhere)]
        for stage, facts in places:
            told = stages.setdefault(facts.model_dump_json(), (facts, []))[1]
            if stage not in told:
                told.append(stage)
    columns = tuple(
        Column(header, text=True)
        for header in ("used for", "CPU", "cores", "memory", "GPU", "system", "Python", "packages")
    )
    return Grid("Machines and software", columns, tuple(_machine_row(*place) for place in stages.values()))


def _return_cells(answer: Return) -> dict[str, str]:
    even = answer.break_even
    return {
        "its bill, $/month": _with_interval(answer.baseline_monthly_usd),
        "the choice's bill, $/month": _with_interval(answer.candidate_monthly_usd),
        "saving, $/month": _with_interval(answer.monthly_saving_usd),
        "one-off cost, $": marked(answer.one_off_usd),
        "payback, months": _reached(answer.payback_months),
        "horizon, months": str(answer.horizon_months),
        "discount a year": percent(answer.annual_discount_ratio),
        "NPV of the horizon, $": _with_interval(answer.npv_usd),
        "ROI of the horizon, x one-off": number(answer.roi_ratio),
        "cheaper from, requests/month": _reached(even.requests_per_month),
        "never dearer above that": yes_no(even.stays_cheaper),
        "cheaper for good from, requests/month": _reached(even.cheaper_for_good_from),
    }


def _with_interval(figure: Figure) -> str:
    spread = interval(figure)
    return f"{marked(figure)} ({spread})" if spread else marked(figure)


def _reached(value: float | NotReached | None) -> str:
    if value == NOT_REACHED:
        return NOT_REACHED
    if value is None or isinstance(value, str):
        return UNKNOWN_MARK
    return f"{value:,}" if isinstance(value, int) else number(value)


def _machine_row(facts: MachineFacts, stages: Sequence[str]) -> tuple[str, ...]:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(facts.packages.items()))
    return (
        ", ".join(stages),
        facts.cpu_model + (f" ({facts.instance_type})" if facts.instance_type else ""),
        str(facts.cpu_cores),
        bytes_text(facts.memory_bytes),
        facts.gpu_model or "none",
        facts.platform,
        facts.python,
        packages,
    )
