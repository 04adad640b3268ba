"""`deploycost calibrate`: what this machine computes at best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from deploycost.commands.output import say, show, show_json
from deploycost.environment import usable_cores
from deploycost.projecting.calibration import Calibration, calibration_file
from deploycost.projecting.calibration import calibrate as measure
from deploycost.records import write_record
from deploycost.units import milliseconds
from deploycost.workspace import write_text


def calibrate(
    *,
    threads: Annotated[
        tuple[int, ...], Parameter(help="Numbers of threads to measure on. Default: one, and all cores.")
    ] = (),
    output: Annotated[Path | None, Parameter(help="Where to keep it. Default: the user's data folder.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Measure this machine: matrix products, memory, a reference encoder; projections to it and from it use that.

    Example: deploycost calibrate && deploycost project --hardware here --model distilbert --threads 2
    """
    counts = sorted(set(threads)) or sorted({1, len(usable_cores())})
    found = measure(counts, say)
    place = output or calibration_file()
    write_text(place, write_record(found))
    if json:
        show_json({**found.model_dump(mode="json"), "file": str(place)})
        return 0
    show(_products_table(found), _references_table(found))
    say(f"kept in {place}")
    return 0


def _products_table(found: Calibration) -> Table:
    title = f"{found.machine.cpu_model}: {found.bytes_per_s / 1e9:.3g} GB/s copied by one thread"
    table = Table("matrix product", "precision", "threads", "GOP/s", title=title, title_justify="left")
    for each in found.products:
        size = f"{each.rows} x {each.inner} x {each.columns}"
        table.add_row(size, each.precision, str(each.threads), f"{each.flops_per_s / 1e9:.4g}")
    return table


def _references_table(found: Calibration) -> Table:
    table = Table("reference encoder", "precision", "threads", "tokens", "median", "from", "to")
    for each in found.references:
        times = (milliseconds(time) for time in (each.median_ms, each.least_ms, each.most_ms))
        table.add_row(each.model, each.precision, str(each.threads), str(each.tokens), *times)
    return table
