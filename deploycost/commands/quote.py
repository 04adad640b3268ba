"""`deploycost quote`: what each variant costs on each machine."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from deploycost import answers
from deploycost.commands.options import Place, PriceFlags, SloFlags, asked, refuse_unread
from deploycost.commands.output import show, show_json, warn, width
from deploycost.costing.sieve import Bounds
from deploycost.errors import UserError
from deploycost.reporting.tables import crossover_table, hours_table, quotes_table
from deploycost.workspace import DEFAULT_RUN_NAME, Run, new_run, open_run

_SHOWN = 20


@Parameter(name="*")
@dataclass(frozen=True)
class RowFlags:
    """Which rows are shown, and in which order."""

    sort: Annotated[
        Literal["planned", "floor", "per-correct", "monthly", "p95", "accuracy", "energy", "carbon"],
        Parameter(help="What comes first: the least of it, the highest accuracy."),
    ] = "planned"
    max_p95: Annotated[float | None, Parameter(help="Only rows with a p95 within so many ms.")] = None
    min_accuracy: Annotated[float | None, Parameter(help="Only rows that are right at least so often, 0..1.")] = None
    max_monthly: Annotated[float | None, Parameter(help="Only rows with a bill of at most so many USD a month.")] = None
    all: Annotated[bool, Parameter(negative="", help="Every row, not only the first 20.")] = False

    def __post_init__(self) -> None:
        limits = {"--max-p95": self.max_p95, "--max-monthly": self.max_monthly}
        wrong = [
            f"{flag} {limit:g}: expected a number above zero"
            for flag, limit in limits.items()
            if limit is not None and not 0 < limit < inf
        ]
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            wrong.append(f"--min-accuracy {self.min_accuracy:g}: expected 0 to 1")
        if wrong:
            raise UserError("; ".join(wrong))


def quote(
    *,
    place: Place | None = None,
    price: PriceFlags | None = None,
    slo: SloFlags | None = None,
    rows: RowFlags | None = None,
    record: Annotated[
        tuple[Path, ...],
        Parameter(help="load.json that 'deploycost loadtest' made on another machine or of a running service."),
    ] = (),
    crossover: Annotated[
        tuple[str, str] | None,
        Parameter(help="Two rows (MACHINE, VARIANT@MACHINE, api:MODEL): from which volume the first is cheaper."),
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Price the variants of a run on machines, services and APIs, from the records on disk.

    Exit code 1 where no row is within --max-p95, --min-accuracy or --max-monthly; says what came nearest.

    Example: deploycost quote --cloud aws-g4dn,aws-c7i --requests-per-month 50000000
    """
    place, rows = place or Place(), rows or RowFlags()
    run = run_of_records(place) if record else open_run(place.runs_dir, place.run)
    wanted = asked(run, None, price, slo)
    refuse_unread(price, wanted.quote)
    bounds = Bounds(rows.max_p95, rows.min_accuracy, rows.max_monthly)
    variants = answers.known_subjects(run, record)
    whole = rows.all or json or crossover is not None
    sheet = answers.quote_now(
        run,
        variants,
        wanted.quote,
        wanted.load.slo_p95_ms,
        answers.Wanted(bounds, rows.sort, None if whole else _SHOWN),
    )
    crossings = [answers.crossing(variants, wanted.quote, sheet, crossover)] if crossover else []
    if json:
        told = {"crossovers": [each.model_dump(mode="json") for each in crossings]} if crossings else {}
        show_json(answers.sheet_as_json(sheet) | told)
        return 0
    show(
        quotes_table(sheet, width(), None if rows.all else _SHOWN),
        *([hours_table(sheet, width())] if sheet.policy.autoscale and sheet.quotes else []),
        *([crossover_table(crossings, width())] if crossings else []),
    )
    warn(sheet.warnings)
    return 0


def run_of_records(place: Place) -> Run:
    """The run to quote in; where there is none yet and records were given, a new one for their quotes."""
    if place.run is None and not any(place.runs_dir.glob("*/experiment.yaml")):
        return new_run(place.runs_dir, DEFAULT_RUN_NAME)
    return open_run(place.runs_dir, place.run)
