"""What each table of a study says: means over seeds with their intervals, and the literature's figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from deploycost.records import ProfileRecord
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.profile_grids import profiles
from deploycost.reporting.rank_grids import SHOWN_DECISIONS, decisions_of
from deploycost.reporting.wording import UNKNOWN_MARK, number
from deploycost.stats import mean_interval
from deploycost.study_file import StudyFile, TableSpec
from deploycost.study_findings import choices, difference_text, values_of
from deploycost.study_metrics import METRICS, Metric
from deploycost.study_record import CellMeasurement, CellPlan, Finding, MetricName, StudyRecord

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
    """A line for each cell; under or beside each metric the literature's figure, where it printed any for it."""
    printed = {metric for cell in record.cells for metric in cell.literature}
    published: list[MetricName] = [metric for metric in table.metrics if metric in printed]
    columns = [Column("cell", text=True)]
    for metric in table.metrics:
        columns.append(Column(METRICS[metric].header, METRICS[metric].header.replace(" ", "\n", 1)))
        if metric in published:
            columns.append(Column("literature", "lit.", below=True))
    rows = tuple((cell.name, *_cells(record, cell, table.metrics, published)) for cell in record.cells)
    return Grid(table.title, tuple(columns), rows, tuple(_metric_notes(record, table.metrics)))


def findings_grid(found: Sequence[Finding]) -> Grid:
    """Each claim with both figures and the verdict; the reasons stand in the finding's own sentence."""
    columns = (
        Column("claim", text=True),
        Column("verdict", text=True),
        Column("ours"),
        Column("95 % interval", "interval", below=True),
        Column("literature", "lit.", below=True),
    )
    return Grid("Claims against measurements", columns, tuple(_finding_row(finding) for finding in found))


def scenarios_grid(study: StudyFile, record: StudyRecord) -> Grid | None:
    """What the measurements choose for each scenario, beside what the literature chose; None without scenarios."""
    chosen = choices(study, record.results)
    if not chosen:
        return None
    rows = tuple(
        (
            each.scenario,
            each.factor,
            each.cell or UNKNOWN_MARK,
            each.literature or UNKNOWN_MARK,
            "" if each.cell is None else "yes" if each.cell == each.literature else "no",
            each.reason,
        )
        for each in chosen
    )
    columns = tuple(
        Column(header, text=True) for header in ("scenario", "factor", "measured", "literature", "same", "because")
    )
    notes = ("measured: derived from the figures of this study by the rule under 'because', not chosen by hand.",)
    return Grid("Scenarios", columns, rows, notes)


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


def published_text(value: float | None, metric: Metric) -> str:
    """A figure of the literature in the unit of the metric's column, with all digits that it printed, or nothing."""
    return _BLANK if value is None else f"{float(f'{value * metric.shown_per_unit:.6g}'):,g}"


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
        spread = spread_of(measurements, metric)
        if spread is None:
            cells.append(UNKNOWN_MARK if measurements else FAILED)
        else:
            cells.append(spread_text(spread, METRICS[metric]))
        if metric in published:
            cells.append(published_text(cell.literature.get(metric), METRICS[metric]))
    return cells


def _metric_notes(record: StudyRecord, metrics: Sequence[MetricName]) -> list[str]:
    notes = [_seeds_note(len(record.seeds)), f"literature: {record.source}."]
    if "memory_bytes" in metrics:
        sources = {m.memory_source for cell in record.cells for m in record.measurements(cell.name).values()}
        told = {"gpu": "peak of the GPU allocator", "process": "peak of the process over what it held before the model"}
        notes.append(f"memory: {' or '.join(told[source] for source in sorted(sources)) or 'not measured'}; MB = 1e6.")
    if "trainable_parameters" in metrics or "trainable_ratio" in metrics:
        notes.append("trained: the classification head is counted.")
    if "request_ms_int8" in metrics or "request_ms_fp32" in metrics:
        notes.append("request: median of one text at a time on one core, without HTTP.")
    if any(record.errors(cell.name) for cell in record.cells):
        notes.append(f"{FAILED}: see the failed cells; a mean is then over the seeds that came through.")
    return notes


def _seeds_note(seeds: int) -> str:
    if seeds == 1:
        return "One seed: no interval can be given."
    return f"Mean ± half of the 95 % interval (Student's t; {seeds} seeds make it wide)."


def _finding_row(finding: Finding) -> tuple[str, ...]:
    metric = next(METRICS[name] for name in METRICS if name == finding.metric)

    def told(value: float | None) -> str:
        return UNKNOWN_MARK if value is None else difference_text(value, metric)

    known = finding.ours_low is not None and finding.ours_high is not None
    interval = f"{told(finding.ours_low)} to {told(finding.ours_high)}" if known else "none"
    return finding.claim, finding.verdict, told(finding.ours), interval, told(finding.theirs)


def _profile(record: StudyRecord, cell: str) -> ProfileRecord | None:
    return next((m.profile for m in record.measurements(cell).values() if m.profile), None)
