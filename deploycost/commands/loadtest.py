"""`deploycost loadtest`: what each variant carries within its objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deploycost import pipeline
from deploycost.commands.options import LoadFlags, Place, asked
from deploycost.commands.output import say, show, show_json, width
from deploycost.commands.service import find_service_capacity, hold_service, service_test
from deploycost.commands.soak import CourseFlags, hold
from deploycost.commands.traffic import ServiceFlags, TrafficFlags, client_of, own_texts
from deploycost.environment import machine_facts
from deploycost.errors import NoAnswer, UserError, unknown_name
from deploycost.experiment import Experiment
from deploycost.records import LoadRecord, Variant
from deploycost.reporting.tables import load_curve_table, settings_table
from deploycost.task_dataset import load_texts
from deploycost.units import rate
from deploycost.workspace import open_run

if TYPE_CHECKING:
    from deploycost.benchmarking.client import Client


def loadtest(
    *variants: Annotated[str, Parameter(help="Names such as lora-r8.onnx-int8. Default: all of the run.")],
    place: Place | None = None,
    load: LoadFlags | None = None,
    traffic: TrafficFlags | None = None,
    service: ServiceFlags | None = None,
    instance_type: Annotated[
        str | None, Parameter(help="What this machine is rented as (g4dn.xlarge): its record then counts as measured.")
    ] = None,
    course: CourseFlags | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Find the capacity of variants, or of any running service: the highest open-loop rate that holds the objective.

    With --verify or --rate, hold a rate for a while instead, and say whether the objective held (exit 1: it did not).

    Example: deploycost loadtest lora-r8.onnx-int8 --slo-p95 50

    Example: deploycost loadtest --verify newest --duration 10min

    Example: deploycost loadtest --url http://127.0.0.1:9000 --texts mine.csv --name my-service

    Example: deploycost loadtest --url http://127.0.0.1:9000 --texts mine.csv --rate 40 --duration 10min
    """
    place, traffic, service = place or Place(), traffic or TrafficFlags(), service or ServiceFlags()
    client, course = client_of(traffic, service), course or CourseFlags()
    holds = course.holds
    if service.url is not None:
        test = service_test(variants, load, traffic, service, client, instance_type)
        if holds:
            return hold_service(test, load, place, course, json=json)
        return _show([find_service_capacity(test)], json=json)
    run = open_run(place.runs_dir, place.run)
    wanted = asked(run, None, load)
    chosen = _chosen(pipeline.variants_of(run), variants)
    bench = _bench(wanted, traffic, client, instance_type)
    if holds:
        return hold(run, wanted, chosen, bench, course, json=json)
    with run.locked():
        records = pipeline.load_test(run, run.adopt(wanted), chosen, bench, say, again=course.again)
    return _show(records, json=json)


def _bench(wanted: Experiment, traffic: TrafficFlags, client: Client, instance_type: str | None) -> pipeline.LoadBench:
    """The bench for the texts that were given, else for those of the test split."""
    seed, texts = wanted.training.seed, own_texts(traffic)
    sample = pipeline.sample_texts(texts or load_texts(wanted.dataset, seed).test.texts, seed)
    return pipeline.LoadBench(sample, machine_facts(instance_type), client, own_texts=texts is not None)


def _show(records: list[LoadRecord], *, json: bool) -> int:
    for record in records:
        _tell_texts(record)
    if json:
        documents = [record.model_dump(mode="json") for record in records]
        show_json(documents[0] if len(documents) == 1 else {"records": documents})
    else:
        show(*(load_curve_table(record, width()) for record in records))
        show(*(settings_table(record, width()) for record in records if record.tried))
    _require_a_capacity(records)
    return 0


def _tell_texts(record: LoadRecord) -> None:
    capacity_rps, size = record.capacity_rps.value, record.texts_per_request
    if size > 1 and capacity_rps:
        say(f"{record.variant}: {rate(capacity_rps)} of {size} texts each, {capacity_rps * size:.3g} texts/s")


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
        raise NoAnswer(f"no variant keeps {records[0].slo.text} at any rate; relax it with --slo-p95 or --slo")
