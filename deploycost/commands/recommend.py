"""`deploycost recommend`: which variant to deploy where, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost import answers
from deploycost.commands.options import Place, PriceFlags, asked
from deploycost.commands.output import show, show_json, warn, width
from deploycost.errors import NoAnswer
from deploycost.reporting.tables import answer_panel, returns_table
from deploycost.workspace import open_run


def recommend(
    *,
    place: Place | None = None,
    price: PriceFlags | None = None,
    record: Annotated[
        tuple[Path, ...], Parameter(help="load.json that 'deploycost loadtest' made on another machine.")
    ] = (),
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Recommend the cheapest variant and machine that keep accuracy, latency and memory, and say what it returns.

    Exit code 1 where none fits.

    Example: deploycost recommend --cloud aws,gcp --max-accuracy-drop 0.02
    """
    place = place or Place()
    run = open_run(place.runs_dir, place.run)
    wanted = asked(run, None, price)
    variants = answers.known_variants(run, record)
    sheet = answers.quote_now(run, variants, wanted.quote, wanted.load.slo_p95_ms)
    known = answers.answer(sheet, variants, wanted.quote)
    if known.recommendation is None:
        raise NoAnswer(known.no_recommendation_reason)
    if json:
        show_json(known.as_json())
        return 0
    show(answer_panel(known.recommendation), returns_table(known.returns, width()))
    warn([*known.warnings, *sheet.warnings])
    return 0
