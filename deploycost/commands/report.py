"""`deploycost report`: the page, from records alone."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from deploycost import answers
from deploycost.commands.options import Place
from deploycost.commands.output import show, show_json, warn
from deploycost.reporting.tables import answer_panel
from deploycost.workspace import open_run


def report(
    *,
    place: Place | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a panel.")] = False,
) -> int:
    """Write report.html, report.md and report.json from the records of a run.

    Prices are those that the run was quoted with, also after the price book was refreshed.

    Example: deploycost report --run demo
    """
    place = place or Place()
    run = open_run(place.runs_dir, place.run)
    with run.locked():
        files, known = answers.make_report(run, run.experiment())
    if json:
        show_json({"files": [str(path) for path in files]} | known.as_json())
    else:
        show(answer_panel(known.recommendation, known.no_recommendation_reason))
        print("\n".join(str(path) for path in files))
    warn(known.warnings)
    return 0
