"""`deploycost loadtest`: what each variant carries within its objective."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from deploycost import pipeline
from deploycost.commands.options import LoadFlags, Place, asked
from deploycost.commands.output import say, show, show_json, width
from deploycost.errors import NoAnswer, UserError, unknown_name
from deploycost.records import LoadRecord, Variant
from deploycost.reporting.tables import load_curve_table
from deploycost.task_dataset import load_texts
from deploycost.units import milliseconds
from deploycost.workspace import open_run


def loadtest(
    *variants: Annotated[str, Parameter(help="Names such as lora-r8.onnx-int8. Default: all of the run.")],
    place: Place | None = None,
    load: LoadFlags | None = None,
    instance_type: Annotated[
        str | None, Parameter(help="What this machine is rented as (g4dn.xlarge): its record then counts as measured.")
    ] = None,
    again: Annotated[bool, Parameter(negative="", help="Test anew what was tested before.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Find the capacity of variants: the highest open-loop rate that holds the objective.

    Example: deploycost loadtest lora-r8.onnx-int8 --slo-p95 50
    """
    place = place or Place()
    run = open_run(place.runs_dir, place.run)
    wanted = asked(run, None, load)
    chosen = _chosen(pipeline.variants_of(run), variants)
    dataset = load_texts(wanted.dataset, wanted.training.seed)
    bench = pipeline.load_bench(dataset, wanted.training.seed, instance_type)
    with run.locked():
        records = pipeline.load_test(run, run.adopt(wanted), chosen, bench, say, again=again)
    if json:
        documents = [record.model_dump(mode="json") for record in records]
        show_json(documents[0] if len(documents) == 1 else {"records": documents})
    else:
        show(*(load_curve_table(record, width()) for record in records))
    _require_a_capacity(records)
    return 0


def _chosen(found: list[Variant], names: tuple[str, ...]) -> list[Variant]:
    by_name = {variant.name: variant for variant in found}
    if not by_name:
        raise UserError("this run holds no finished variant; build one with 'deploycost build'")
    for name in names:
        if name not in by_name:
            raise unknown_name("variant", name, by_name)
    return [by_name[name] for name in names] or found


def _require_a_capacity(records: list[LoadRecord]) -> None:
    if not any(record.capacity_rps.value for record in records):
        objective = milliseconds(records[0].slo.p95_ms)
        raise NoAnswer(f"no variant answers 95 % of requests within {objective} at any rate; relax it with --slo-p95")
