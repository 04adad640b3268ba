"""`deploycost quote`: what each variant costs on each machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost import answers
from deploycost.commands.options import Place, PriceFlags, asked
from deploycost.commands.output import show, show_json, warn, width
from deploycost.reporting.tables import quotes_table
from deploycost.workspace import DEFAULT_RUN_NAME, Run, new_run, open_run


def quote(
    *,
    place: Place | None = None,
    price: PriceFlags | None = None,
    record: Annotated[
        tuple[Path, ...],
        Parameter(help="load.json that 'deploycost loadtest' made on another machine or of a running service."),
    ] = (),
    all: Annotated[bool, Parameter(negative="", help="Show every row, not only the cheapest.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Price the variants of a run on cloud machines, from the records on disk.

    Example: deploycost quote --cloud aws-g4dn,aws-c7i --requests-per-month 50000000
    """
    place = place or Place()
    run = run_of_records(place) if record else open_run(place.runs_dir, place.run)
    wanted = asked(run, None, price)
    variants = answers.known_subjects(run, record)
    sheet = answers.quote_now(run, variants, wanted.quote, wanted.load.slo_p95_ms)
    if json:
        show_json(answers.sheet_as_json(sheet))
        return 0
    show(quotes_table(sheet, width(), None) if all else quotes_table(sheet, width()))
    warn(sheet.warnings)
    return 0


def run_of_records(place: Place) -> Run:
    """The run to quote in; where there is none yet and records were given, a new one for their quotes."""
    if place.run is None and not any(place.runs_dir.glob("*/experiment.yaml")):
        return new_run(place.runs_dir, DEFAULT_RUN_NAME)
    return open_run(place.runs_dir, place.run)
