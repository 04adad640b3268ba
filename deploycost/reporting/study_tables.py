"""What each table of a study says: means over seeds with their intervals, and the literature's figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from deploycost.records import ProfileRecord
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.profile_grids import profiles
from deploycost.reporting.rank_grids import SHOWN_DECISIONS, decisions_of
from deploycost.reporting.wording import LEGEND, NOT_CERTIFIED_MARK, UNKNOWN_MARK, interval, marked, number
from deploycost.stats import mean_interval
from deploycost.study_file import TableSpec
from deploycost.study_findings import published_text, values_of
from deploycost.study_metrics import METRICS, Metric
from deploycost.study_record import CellMeasurement, CellPlan, MetricName, StudyRecord

FAILED = "failed"
_BLANK = ""


@dataclass(frozen=True)
class Spread:
    """The mean of a metric over seeds in the unit it is shown in, with half of its 95 % interval where it has one."""

    mean: float
    half: float | None
    seeds: int


def spread_of(measurements: Mapping[int, CellMeasurement], metric: MetricName) -> Spread | None:
    """A cell's metric over its seeds, or None where no seed knows it."""
    shown = [value * METRICS[metric].shown_per_unit for value in values_of(measurements, metric).values()]
    if not shown:
        return None
    interval = mean_interval(shown)
    return Spread(fmean(shown), (interval[1] - interval[0]) / 2 if interval else None, len(shown))


def metrics_grid(record: StudyRecord, table: TableSpec) -> Grid:
    """A line for each cell; under or beside each metric the source's figure, where it printed any for it.

    A metric that no measured cell knows has no column; what the source printed for it goes to a note.
    """
    metrics: list[MetricName] = [metric for metric in table.metrics if not is_unknown(record, metric)]
    printed = {metric for cell in record.cells for metric in cell.literature}
    published: list[MetricName] = [metric for metric in metrics if metric in printed]
    columns = [Column("cell", text=True)]
    for metric in metrics:
        columns.append(Column(METRICS[metric].header, METRICS[metric].header.replace(" ", "\n", 1)))
        if metric in published:
            columns.append(Column(record.reference, record.reference[:3] + ".", below=True))
    rows = tuple((cell.name, *_cells(record, cell, metrics, published)) for cell in record.cells)
    left_out = [_left_out(record, metric) for metric in table.metrics if metric not in metrics]
    return Grid(table.title, tuple(columns), rows, (*_metric_notes(record, metrics), *left_out))


def is_unknown(record: StudyRecord, metric: MetricName) -> bool:
    """Whether cells were measured and none of them knows the metric, as prices without a load test."""
    measured = [record.measurements(cell.name) for cell in record.cells]
    return any(measured) and not any(values_of(each, metric) for each in measured)


def scenarios_grid(record: StudyRecord) -> Grid | None:
    """What the measurements choose for each scenario, beside what the source chose; None without scenarios."""
    if not record.choices:
        return None
    rows = tuple(
        (
            each.scenario,
            each.factor,
            each.cell or UNKNOWN_MARK,
            ", ".join(each.alike) or "none",
            each.theirs or UNKNOWN_MARK,
            each.verdict,
        )
        for each in record.choices
    )
    headers = ("scenario", "factor", "measured", "not told apart", record.reference, "verdict")
    notes = (
        "measured: derived from the figures of this study, not chosen by hand; the findings say by which.",
        "not told apart: cells for which the paired 95 % interval over seeds leaves open which of the two is better.",
    )
    return Grid("Scenarios", tuple(Column(header, text=True) for header in headers), rows, notes)


def operators_grid(record: StudyRecord) -> Grid | None:
    """Where the steps of those cells go that were profiled, on the first seed that was; None where none was."""
    by_cell = [_profile(record, cell.name) for cell in record.cells]
    profiled = [profile for profile in by_cell if profile is not None]
    return profiles(profiled) if profiled else None


def decisions_grids(record: StudyRecord) -> list[Grid]:
    """The rank decisions of each cell with dynamic ranks, on the first of its seeds."""
    histories = {
        cell.name: next((m.ranks for m in record.measurements(cell.name).values() if m.ranks), None)
        for cell in record.cells
    }
    return [decisions_of(name, ranks, SHOWN_DECISIONS, "study.json") for name, ranks in histories.items() if ranks]


def failures_grid(record: StudyRecord) -> Grid | None:
    """Each cell and seed that failed, with the one line that says why; None where none did."""
    rows = tuple((each.name, str(each.seed), each.error) for each in record.results if each.error)
    columns = (Column("cell", text=True), Column("seed"), Column("why", text=True))
    return Grid("Failed cells", columns, rows) if rows else None


def spread_text(spread: Spread, metric: Metric) -> str:
    """Mean and half interval: `88.25 ± 0.41`, `412 ± 20`."""
    told = f"{spread.mean:.2f}" if metric.by_difference else number(spread.mean)
    if spread.half is None or metric.exact:
        return told
    return f"{told} ± {f'{spread.half:.2f}' if metric.by_difference else number(spread.half, 2)}"


def _cells(
    record: StudyRecord, cell: CellPlan, metrics: Sequence[MetricName], published: Sequence[MetricName]
) -> list[str]:
    measurements = record.measurements(cell.name)
    cells: list[str] = []
    for metric in metrics:
        cells.append(_cell(measurements, metric) if measurements else FAILED)
        if metric in published:
            printed = cell.literature.get(metric)
            cells.append(_BLANK if printed is None else published_text(printed, METRICS[metric]))
    return cells


def _cell(measurements: Mapping[int, CellMeasurement], metric: MetricName) -> str:
    spread, load_tested = spread_of(measurements, metric), METRICS[metric].load_tested
    if spread is None:
        return UNKNOWN_MARK
    if load_tested is None:
        return spread_text(spread, METRICS[metric])
    tested = next(found for measured in measurements.values() if (found := load_tested(measured)))
    ends = interval(tested.figure)
    doubt = "" if tested.certified else NOT_CERTIFIED_MARK
    return f"{marked(tested.figure)}{doubt}" + (f" ({ends})" if ends else "")


def _left_out(record: StudyRecord, metric: MetricName) -> str:
    printed = [
        f"{cell.name} {published_text(cell.literature[metric], METRICS[metric])}"
        for cell in record.cells
        if metric in cell.literature
    ]
    remedy = " (--loadtest measures it)" if METRICS[metric].load_tested else ""
    told = f"; the {record.reference} has {', '.join(printed)}" if printed else ""
    return f"{METRICS[metric].header} was not measured{remedy}{told}."


def _metric_notes(record: StudyRecord, metrics: Sequence[MetricName]) -> list[str]:
    notes = [_seeds_note(len(record.seeds)), f"{record.reference}: {record.source}."]
    measured = [m for cell in record.cells for m in record.measurements(cell.name).values()]
    if "memory_bytes" in metrics:
        sources = {m.memory_source for m in measured}
        told = {"gpu": "peak of the GPU allocator", "process": "peak of the process over what it held before the model"}
        notes.append(f"memory: {' or '.join(told[source] for source in sorted(sources)) or 'not measured'}; MB = 1e6.")
    if "trainable_parameters" in metrics or "trainable_ratio" in metrics:
        heads = ", ".join(sorted({f"{m.head_parameters:,}" for m in measured}))
        notes.append(f"trained: the classification head is counted ({heads or 'unknown'} parameters).")
    if "request_ms_int8" in metrics or "request_ms_fp32" in metrics:
        notes.append("request: median of one text at a time on one core, without HTTP.")
    if any(METRICS[metric].load_tested for metric in metrics):
        notes.append(f"Load-tested on the first seed, with the test's own interval; {LEGEND}.")
        notes.append(f"{NOT_CERTIFIED_MARK}: the load test is not certified, so that its figure is in doubt.")
    if "usd_per_million" in metrics:
        machines = sorted({served.priced_on for m in measured for served in m.served if served.priced_on})
        notes.append(f"floor $: a machine that is never idle ({'; '.join(machines)}); what is planned costs more.")
    if any(record.errors(cell.name) for cell in record.cells):
        notes.append(f"{FAILED}: see the failed cells; a mean is then over the seeds that came through.")
    return notes


def _seeds_note(seeds: int) -> str:
    if seeds == 1:
        return "One seed: no interval can be given."
    return f"Mean ± half of the 95 % interval (Student's t; {seeds} seeds make it wide)."


def _profile(record: StudyRecord, cell: str) -> ProfileRecord | None:
    return next((m.profile for m in record.measurements(cell).values() if m.profile), None)
