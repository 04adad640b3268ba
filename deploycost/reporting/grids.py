"""What each table of a report says, in the order a reader needs it; how it is drawn is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploycost.records import CurvePoint, LoadRecord, Quote, TuningRecord, Variant
from deploycost.reporting import load_grids, quote_notes
from deploycost.reporting.content import peak_training_bytes, tunings
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.literature import DOLLAR_CAVEAT, SETTING, PublishedMethod, published
from deploycost.reporting.wording import (
    LEGEND,
    NOT_CERTIFIED_MARK,
    PARETO_MARK,
    UNKNOWN_MARK,
    interval,
    marked,
    number,
    percent_number,
    yes_no,
)
from deploycost.units import MIB, percent
from deploycost.verdicts import QuoteSheet

SHOWN_QUOTES = 20
# Where latency is read off a curve: the load that fleets are planned for unless told otherwise.
PLANNED_LOAD_RATIO = 0.7
_GENERATED_NOTE = "Generated data: the accuracy says nothing about your task."
_GB = 1e9

_METHOD_COLUMNS = (
    Column("method", text=True),
    Column("accuracy %", "acc.\n%"),
    Column("F1 %", "F1\n%"),
    Column("precision %", "prec.\n%"),
    Column("recall %", "recall\n%"),
    Column("training min", "train\nmin"),
    Column("training memory GB", "memory\nGB"),
    Column("$ per inference", "$ per\ninference"),
)
_ARTIFACT_COLUMNS = (
    Column("variant", text=True),
    Column("accuracy %", "acc. %"),
    Column("parity error", "parity", below=True),
    Column("agreement %", "agree %"),
    Column("size MiB", below=True),
    Column("capacity rps", "rps"),
    Column("interval", below=True),
    Column("p50 ms"),
    Column("p95 ms", below=True),
    Column("idle MiB"),
    Column("peak MiB", below=True),
    Column("certified", "cert."),
)
_CURVE_COLUMNS = (
    Column("rate rps", "rate\nrps"),
    Column("answered rps", "answered\nrps"),
    Column("p50 ms", "p50\nms"),
    Column("p95 ms", "p95\nms"),
    Column("p99 ms", "p99\nms"),
    Column("service p50 ms", "service\np50 ms"),
    Column("requests"),
    Column("errors"),
    Column("SLO"),
    Column("why not", text=True),
)


def methods(variants: tuple[Variant, ...], sheet: QuoteSheet | None) -> Grid:
    """Each method in the literature's columns, and under it the literature's own figures where it has them."""
    rows: list[tuple[str, ...]] = []
    for tuning in tunings(variants):
        rows.append(_method_row(tuning, _cheapest_of(tuning, variants, sheet)))
        row = published(tuning.method)
        if row:
            rows.append(_published_row(row))
    gpu = any(tuning.peak_gpu_memory_bytes is not None for tuning in tunings(variants))
    notes = [
        "$ per inference: the method's cheapest quote as planned, divided by a million.",
        f"Memory: peak of the training {'GPU' if gpu else 'process'}, 1 GB = 1e9 bytes.",
        SETTING,
        DOLLAR_CAVEAT,
        *_accuracy_note(variants),
        f"{LEGEND}.",
    ]
    return Grid("Methods, beside the literature", _METHOD_COLUMNS, tuple(rows), tuple(notes))


def artifacts(variants: Sequence[Variant], load_ratio: float = PLANNED_LOAD_RATIO) -> Grid:
    """Each servable artifact: what it answers right, how true it is to the trained model, what it carries and takes."""
    notes = (
        f"p50, p95: at the probe nearest above {percent(load_ratio, 0)} of capacity. Accuracy is that of the artifact.",
        "parity: RMS difference of logits from the trained model over their spread; agree: share of equal labels.",
        "idle, peak: memory of the server's processes (PSS).",
        *_accuracy_note(variants),
        f"{LEGEND}.",
    )
    rows = tuple(_artifact_row(variant, load_ratio) for variant in variants)
    return Grid("Artifacts, as served", _ARTIFACT_COLUMNS, rows, notes)


def load_curve(load: LoadRecord) -> Grid:
    """Every probe of one load test, by rate: open loop, latency from the moment a request was due."""
    rows = tuple(_curve_row(point) for point in sorted(load.curve, key=lambda point: point.rate_rps))
    capacity, spread = marked(load.capacity_rps), interval(load.capacity_rps)
    notes = (
        f"Capacity {capacity}{f' ({spread})' if spread else ''} rps within {load.slo.text} and "
        f"{percent(load.slo.max_error_ratio)} errors. {load_grids.trust(load.certificate)}",
        *load_grids.facts(load),
        f"{UNKNOWN_MARK}: too few samples to name the percentile.",
        *load_grids.line(load),
    )
    return Grid(f"Load curve of {load.variant}", _CURVE_COLUMNS, rows, notes)


def quotes(sheet: QuoteSheet, limit: int | None = SHOWN_QUOTES) -> Grid:
    """The first `limit` quotes in the order of the sheet, cheapest as planned first; None for all of them.

    With a limit, quotes without a known cost are no rows but a note for each reason, and of services and APIs the first
    of each is shown however dear.
    """
    known = [q for q in sheet.quotes if limit is None or quote_notes.has_price(q)]
    shown = known[:limit]
    if limit is not None:
        shown += _first_of_each_service(known[limit:], shown)
    hidden = len(known) - len(shown) + sheet.left_out
    notes = [
        *quote_notes.asked(sheet),
        _places(shown),
        "planned: idle and spare machines paid; floor: a machine that is never idle. $/month is planned.",
        f"{LEGEND}; {NOT_CERTIFIED_MARK} load test not certified.",
        f"{PARETO_MARK} no other row is at least as good in cost, p95 and accuracy." if _any_best(shown) else "",
    ]
    if hidden:
        notes.append(f"{hidden:,} more quotes are not shown: --all shows them, --json and report.json hold them.")
    if limit is not None:
        notes += quote_notes.unknown(sheet)
    count = len(known) + sheet.left_out
    title = f"Quotes, {quote_notes.ORDERS[sheet.sort]} of {count:,} first" if known else "Quotes: none"
    by = _SORTED_BY.get(sheet.sort)
    columns, rows = _quote_columns(shown, by), [_quote_row(quote, by) for quote in shown]
    # What it is sorted by stands once, where room is scarce too.
    kept = [
        number
        for number, column in enumerate(columns)
        if by is None or column == by[0] or column.header != by[0].header
    ]
    return Grid(
        title,
        tuple(columns[number] for number in kept),
        tuple(tuple(row[number] for number in kept) for row in rows),
        tuple(note for note in notes if note),
    )


def machine_name(quote: Quote) -> str:
    """Cloud and instance type, as in `aws c7i.large`."""
    return f"{quote.cloud} {quote.instance_type}"


def point_at(load: LoadRecord, ratio: float) -> CurvePoint | None:
    """The probe nearest above so much of the capacity that has percentiles, else the one nearest below, else None."""
    points = sorted((p for p in load.curve if p.p95_ms is not None), key=lambda point: point.rate_rps)
    due = ratio * (load.capacity_rps.value or 0.0)
    return next((point for point in points if point.rate_rps >= due), points[-1] if points else None)


def _method_row(tuning: TuningRecord, cheapest: Quote | None) -> tuple[str, ...]:
    scores = tuning.scores
    shares = (scores.accuracy, scores.macro_f1, scores.precision, scores.recall)
    return (
        tuning.slug,
        *(percent_number(share, 2) for share in shares),
        number(tuning.training_s / 60),
        f"{peak_training_bytes(tuning) / _GB:.2f}",
        marked(cheapest.usd_per_million.planned, 1e-6) if cheapest else UNKNOWN_MARK,
    )


def _published_row(row: PublishedMethod) -> tuple[str, ...]:
    percents = (row.accuracy_percent, row.f1_percent, row.precision_percent, row.recall_percent)
    return (
        "  literature",
        *(f"{value:.2f}" for value in percents),
        number(row.training_min, 2),
        f"{row.memory_gb:.2f}",
        f"{row.usd_per_inference:.3f}",
    )


def _cheapest_of(tuning: TuningRecord, variants: Sequence[Variant], sheet: QuoteSheet | None) -> Quote | None:
    names = {variant.name for variant in variants if variant.tuning.slug == tuning.slug}
    priced = [quote for quote in (sheet.quotes if sheet else ()) if quote.variant in names and quote.meets_slo]
    return next((quote for quote in priced if quote.usd_per_million.planned.value is not None), None)


def _artifact_row(variant: Variant, load_ratio: float) -> tuple[str, ...]:
    export, load = variant.export, variant.load
    told = (
        variant.name,
        percent_number(export.accuracy, 2),
        number(export.parity.relative_error, 2) + ("" if export.parity.ok else NOT_CERTIFIED_MARK),
        percent_number(export.parity.agreement_ratio, 2),
        number(export.size_bytes / MIB),
    )
    if load is None:
        return (*told, UNKNOWN_MARK, "", *[UNKNOWN_MARK] * 5)
    point, memory = point_at(load, load_ratio), load.memory_bytes
    return (
        *told,
        marked(load.capacity_rps),
        interval(load.capacity_rps),
        number(point.p50_ms if point else None),
        number(point.p95_ms if point else None),
        number(memory.idle / MIB if memory else None),
        number(memory.peak / MIB if memory else None),
        yes_no(load.certificate.certified),
    )


def _curve_row(point: CurvePoint) -> tuple[str, ...]:
    return (
        number(point.rate_rps),
        number(point.achieved_rps),
        number(point.p50_ms),
        number(point.p95_ms),
        number(point.p99_ms),
        number(point.service_p50_ms),
        f"{point.requests:,}",
        f"{point.errors:,}",
        yes_no(point.meets_slo),
        point.reason,
    )


_Cell = tuple[Column, Callable[[Quote], str]]
# What a sheet may be sorted by that a narrow table would not show: its column, and its cells.
_SORTED_BY: dict[str, _Cell] = {
    "per-correct": (Column("$/M correct", below=True), lambda quote: marked(quote.usd_per_million.per_correct)),
    "accuracy": (Column("accuracy", below=True), lambda quote: percent(quote.accuracy.value)),
    "energy": (Column("kWh/M", below=True), lambda quote: marked(quote.energy_kwh_per_million)),
    "carbon": (Column("g CO2e/M", below=True), lambda quote: marked(quote.grams_co2e_per_million)),
}


def _quote_columns(shown: Sequence[Quote], by: _Cell | None) -> tuple[Column, ...]:
    # A machine in two places is two offers: then the place must stay in the narrow table too.
    many_regions = len({(quote.cloud, quote.region) for quote in shown}) > len({quote.cloud for quote in shown})
    many_options = len({quote.purchase_option for quote in shown}) > 1
    return (
        Column("variant", text=True),
        Column("machine", text=True, below=True),
        Column("region", text=True, below=many_regions, wide=not many_regions),
        Column("bought", text=True, below=True, wide=not many_options),
        Column("$/hour", wide=True),
        Column("capacity rps", "rps"),
        Column("interval", below=True),
        Column("floor $/M", "floor\n$/M" if by is None else "floor $/M"),
        *([by[0]] if by else []),
        Column("planned $/M", "planned $/M"),
        Column("interval", below=True),
        Column("$/M correct", wide=True),
        Column("$/month"),
        Column("machines", below=True),
        Column("p95 ms"),
        Column("fits"),
        Column("SLO", below=True),
        Column("kWh/M", wide=True),
        Column("g CO2e/M", wide=True),
    )


def _quote_row(quote: Quote, by: _Cell | None) -> tuple[str, ...]:
    price = quote.usd_per_million
    return (
        quote.variant,
        machine_name(quote),
        quote.region,
        quote.purchase_option,
        number(float(quote.usd_per_hour)),
        marked(quote.capacity_rps) + (NOT_CERTIFIED_MARK if quote.doubted else ""),
        interval(quote.capacity_rps),
        marked(price.floor),
        *([by[1](quote)] if by else []),
        marked(price.planned) + (PARETO_MARK if quote.pareto else ""),
        interval(price.planned),
        marked(price.per_correct),
        number(quote.monthly_usd.value),
        _machines(quote),
        marked(quote.p95_ms),
        yes_no(quote.fits_memory),
        yes_no(quote.meets_slo),
        marked(quote.energy_kwh_per_million),
        marked(quote.grams_co2e_per_million),
    )


def _any_best(shown: Sequence[Quote]) -> bool:
    return any(quote.pareto for quote in shown)


def _machines(quote: Quote) -> str:
    """How many machines: the most, or from the least to the most where hours differ; none where requests are paid."""
    if quote.kind in ("serverless", "api") and quote.monthly_usd.value is not None:
        return ""
    if quote.replicas is None:
        return UNKNOWN_MARK
    least = min(quote.replicas_by_hour or (quote.replicas,))
    return f"{quote.replicas:,}" if least == quote.replicas else f"{least:,}-{quote.replicas:,}"


def _first_of_each_service(hidden: Sequence[Quote], shown: Sequence[Quote]) -> list[Quote]:
    there = {(quote.kind, quote.instance_type) for quote in shown}
    firsts: dict[tuple[str, str], Quote] = {}
    for quote in hidden:
        if quote.kind in ("serverless", "api", "owned"):
            name = quote.variant if quote.kind == "api" else quote.instance_type
            firsts.setdefault((quote.kind, name), quote)
    return [quote for (kind, name), quote in firsts.items() if (kind, name) not in there]


def _places(shown: Sequence[Quote]) -> str:
    regions: dict[str, list[str]] = {}
    for quote in shown:
        known = regions.setdefault(quote.cloud, [])
        if quote.region not in known:
            known.append(quote.region)
    if not regions:
        return ""
    options = ", ".join(dict.fromkeys(quote.purchase_option for quote in shown))
    places = "; ".join(f"{cloud} in {', '.join(names)}" for cloud, names in regions.items())
    return f"{places}; bought {options}."


def _accuracy_note(variants: Sequence[Variant]) -> tuple[str, ...]:
    return (_GENERATED_NOTE,) if any(variant.tuning.dataset_generated for variant in variants) else ()
