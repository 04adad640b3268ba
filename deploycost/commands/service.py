"""`deploycost loadtest --url`: the capacity of a service that is running already, or whether it holds a rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploycost import pipeline
from deploycost.commands.options import LoadFlags, Place, with_flags
from deploycost.commands.output import say
from deploycost.commands.quote import run_of_records
from deploycost.commands.soak import CourseFlags, quote_sheet, show_soaks
from deploycost.commands.traffic import ServiceFlags, TrafficFlags, own_texts
from deploycost.environment import machine_facts
from deploycost.errors import LoadTestFailed, UserError
from deploycost.experiment import Experiment
from deploycost.records import CurvePoint, LoadRecord, write_record
from deploycost.workspace import write_text

if TYPE_CHECKING:
    from deploycost.benchmarking.client import Client


@dataclass(frozen=True)
class ServiceTest:
    """A running service, what is asked of it, who sends requests to it, and where its records go."""

    name: str
    wanted: Experiment
    bench: pipeline.LoadBench
    out: Path | None

    def path(self, kind: str) -> Path:
        """The file of a record: the one that was asked for, or NAME.KIND.json here."""
        return self.out or Path(f"{self.name}.{kind}.json")


def service_test(
    variants: tuple[str, ...],
    load: LoadFlags | None,
    traffic: TrafficFlags,
    service: ServiceFlags,
    client: Client,
    instance_type: str | None,
) -> ServiceTest:
    """What flags ask of a service.

    Raises:
        UserError: they contradict one another, or the texts cannot be read.
    """
    texts = own_texts(traffic)
    if variants or texts is None:
        raise UserError(
            "--url tests what runs there: name no variants, and give its requests by --texts FILE (.txt, .jsonl, .csv "
            "or .parquet)"
        )
    if load is not None and load.tune:
        raise UserError("--tune seeks settings of our own endpoint; it has no say over a service that runs at --url")
    name = service.name or urlsplit(service.url or "").netloc.replace(":", "-")
    wanted = with_flags(Experiment(), load)
    sample = pipeline.sample_texts(texts, wanted.training.seed)
    bench = pipeline.LoadBench(sample, machine_facts(instance_type), client, own_texts=True)
    return ServiceTest(name, wanted, bench, service.out)


def find_service_capacity(test: ServiceTest) -> LoadRecord:
    """The record of a service that was running, which is also written where the user asked.

    Raises:
        LoadTestFailed: it could not be reached, died, or never gave a good answer; NAME.load-failure.json says so.
    """
    points: list[CurvePoint] = []
    failure = test.path("load").with_name(f"{test.name}.load-failure.json")
    try:
        record = pipeline.measure_service(test.name, test.wanted, test.bench, say, points.append)
    except (LoadTestFailed, KeyboardInterrupt) as error:
        told = pipeline.load_failure(test.name, test.wanted, test.bench, error, points)
        write_text(failure, write_record(told))
        raise
    path = test.path("load")
    write_text(path, write_record(record))
    failure.unlink(missing_ok=True)
    say(f"{test.name}: record written to {path}; price it with 'deploycost quote --record {path}'")
    return record


def hold_service(test: ServiceTest, load: LoadFlags | None, place: Place, course: CourseFlags, *, json: bool) -> int:
    """Holds a service at its rate for a while, and shows what came of it.

    Raises:
        NoAnswer: it did not hold its objectives.
        LoadTestFailed: it could not be reached, or died; NAME.soak-failure.json says so.
    """
    sheet = quote_sheet(run_of_records(place), course.verify) if course.verify is not None else None
    rate_rps, reason = course.rate_of(test.name, sheet)
    wanted = test.wanted
    if sheet is not None and (load is None or (load.slo is None and load.slo_p95 is None)):
        # What it was priced for.
        wanted = with_flags(wanted, LoadFlags(slo_p95=sheet.sheet.slo_p95_ms))
    say(f"{test.name}: {rate_rps:.3g}/s for {course.duration_s:g} s, {reason}")
    held, points = (rate_rps, reason, course.duration_s), list[CurvePoint]()
    failure = test.path("soak").with_name(f"{test.name}.soak-failure.json")
    try:
        record = pipeline.soak_service(test.name, wanted, test.bench, held, say, points.append)
    except (LoadTestFailed, KeyboardInterrupt) as error:
        told = pipeline.soak_failure(test.name, wanted, test.bench, held, error, points)
        write_text(failure, write_record(told))
        raise
    path = test.path("soak")
    write_text(path, write_record(record))
    failure.unlink(missing_ok=True)
    say(f"{test.name}: record written to {path}")
    show_soaks([record], json=json)
    return 0
