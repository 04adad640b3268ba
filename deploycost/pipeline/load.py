"""The stage of load tests: variants that are due, one held at a rate for a while, a service that runs already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from statistics import pstdev
from typing import TYPE_CHECKING, Any

from deploycost.dataset import Dataset
from deploycost.environment import MachineFacts, machine_facts, now, usable_cores
from deploycost.errors import LoadTestFailed, UserError
from deploycost.experiment import Experiment
from deploycost.pipeline.due import finished
from deploycost.pipeline.material import Say
from deploycost.records import (
    LOAD_RULES,
    CurvePoint,
    LoadFailure,
    LoadRecord,
    Record,
    ServerSettings,
    SoakFailure,
    SoakRecord,
    TuningDraft,
    Variant,
    write_record,
)
from deploycost.workspace import Run, fingerprint, write_text
from serving.bundle import BundleError, open_bundle

if TYPE_CHECKING:
    from deploycost.benchmarking.client import Client
    from deploycost.benchmarking.task import LoadSubject, Task

# Settings are compared by what a machine did within the hour: later it may be another one.
_DRAFT, _DRAFT_LASTS_S = "load-draft.json", 3600
# Enough texts for their lengths to be like the task's; the load test repeats them in a seeded order.
LOAD_TEXTS = 500
# How far a number over HTTP may be from that expected, over the spread of those: in int8 it depends a little on what
# else is in the batch.
_NUMBER_TOLERANCE_RATIO = 0.1


@dataclass(frozen=True)
class LoadBench:
    """What every load test of a run shares: the texts to send, the machine, and how requests are made and by whom."""

    texts: tuple[str, ...]
    machine: MachineFacts
    client: Client | None = None
    own_texts: bool = False


def load_bench(dataset: Dataset[Any], seed: int, instance_type: str | None = None) -> LoadBench:
    """The bench for a data set: a seeded sample of its test texts, of the task's own length distribution."""
    return LoadBench(sample_texts(dataset.test.texts, seed), machine_facts(instance_type))


def sample_texts(texts: Sequence[str], seed: int) -> tuple[str, ...]:
    """Enough of the texts for a load test, drawn by a seed."""
    return tuple(Random(seed).sample(texts, min(LOAD_TEXTS, len(texts))))


def load_test(
    run: Run, experiment: Experiment, chosen: Sequence[Variant], bench: LoadBench, say: Say, *, again: bool = False
) -> list[LoadRecord]:
    """Load-tests variants one after another and keeps each record as soon as it is made.

    One that was tested before on the same question is kept, unless `again`.

    Raises:
        UserError: a bundle is damaged.
        LoadTestFailed: the endpoint or the client failed, of which a `load-failure.json` is kept, as of a Ctrl-C;
            earlier records stay as they were, and the other variants are tested before it is told.
    """
    records: list[LoadRecord] = []
    failures: list[LoadFailure] = []
    for number, variant in enumerate(chosen, 1):
        folder = run.artifact_folder(variant.tuning.slug, variant.export.artifact)
        mark = _load_fingerprint(variant, experiment, bench)
        kept = None if again else finished(folder / "load.json", LoadRecord, mark)
        if kept is not None:
            say(f"{variant.name}: load-tested before, kept")
            records.append(kept)
            continue
        stale = not again and (folder / "load.json").exists()
        why = "; what was found before is damaged, or of another question, machine or rule" if stale else ""
        say(f"{variant.name}: load test {number} of {len(chosen)}{why}")
        # A draft beside a finished test is of an earlier --again that was cut off.
        if again and finished(folder / "load.json", LoadRecord, mark) is None:
            (folder / _DRAFT).unlink(missing_ok=True)
        outcome = _measured(folder, variant, experiment, bench, mark, say)
        if isinstance(outcome, LoadRecord):
            records.append(outcome)
        else:
            failures.append(outcome)
    if failures:
        raise LoadTestFailed("; ".join(f"{each.variant}: {each.reason}" for each in failures))
    return records


def _load_fingerprint(variant: Variant, experiment: Experiment, bench: LoadBench) -> str:
    """A digest of all that decides what load-testing a variant comes to."""
    return fingerprint(
        LOAD_RULES,
        variant.export.bundle_digest,
        experiment.load.model_dump(mode="json"),
        *(bench.machine.instance_type, bench.machine.cpu_model, bench.machine.cpu_cores),
        *_workload(bench),
    )


def _measured(
    folder: Path, variant: Variant, experiment: Experiment, bench: LoadBench, mark: str, say: Say
) -> LoadRecord | LoadFailure:
    """Load-tests one variant and keeps what came of it: its record, or why there is none beside an earlier one."""
    from deploycost.benchmarking.loadtest import measure
    from deploycost.benchmarking.task import Notes

    subject = _subject(folder / "bundle", variant, bench.texts, mark)
    seed = experiment.training.seed
    points: list[CurvePoint] = []
    notes = Notes(points.append, _draft(folder / _DRAFT, mark), partial(_write, folder / _DRAFT))
    try:
        record = measure(subject, experiment.load, bench.machine, seed, say, client=bench.client, notes=notes)
    except (LoadTestFailed, KeyboardInterrupt) as error:
        failure = load_failure(variant.name, experiment, bench, error, points, mark)
        _write(folder / "load-failure.json", failure)
        if isinstance(error, KeyboardInterrupt):
            raise
        say(f"{variant.name}: {error}")
        return failure
    _write(folder / "load.json", record)
    for name in ("load-failure.json", _DRAFT):
        (folder / name).unlink(missing_ok=True)
    return record


def _draft(path: Path, mark: str) -> TuningDraft | None:
    """How far a search for settings came that was cut off a while ago, on the same question; else None."""
    draft = finished(path, TuningDraft, mark)
    if draft is None:
        return None
    age_s = (datetime.fromisoformat(now()) - datetime.fromisoformat(draft.begun_at)).total_seconds()
    return draft if age_s <= _DRAFT_LASTS_S else None


def _write(path: Path, record: Record) -> None:
    write_text(path, write_record(record))


def load_failure(
    name: str,
    experiment: Experiment,
    bench: LoadBench,
    error: BaseException,
    points: Sequence[CurvePoint],
    mark: str = "",
) -> LoadFailure:
    """The record of a load test that ended without a capacity: by an error, or a Ctrl-C, which says nothing."""
    from deploycost.benchmarking.task import slo_of

    return LoadFailure(
        fingerprint=mark,
        variant=name,
        slo=slo_of(experiment.load),
        reason=str(error) or "interrupted",
        curve=tuple(points),
        environment=bench.machine,
        finished_at=now(),
    )


def soak_test(
    run: Run, experiment: Experiment, variant: Variant, bench: LoadBench, held: tuple[float, str, float], say: Say
) -> SoakRecord:
    """Holds a variant at a rate (`held`: requests per second, why that many, seconds) and keeps what came of it.

    The server has the settings that its load test chose, if it chose any.

    Raises:
        UserError: its bundle is damaged.
        LoadTestFailed: the endpoint or the client failed, of which a `soak-failure.json` is kept, as of a Ctrl-C;
            earlier records stay as they were.
    """
    from deploycost.benchmarking.soak import Soak, soak

    folder = run.artifact_folder(variant.tuning.slug, variant.export.artifact)
    subject = _subject(folder / "bundle", variant, bench.texts, "")
    tested = variant.load.server if variant.load else None
    settings = tested or ServerSettings(threads=experiment.load.server_threads)
    rate_rps, reason, duration_s = held
    asked, points = Soak(rate_rps, reason, duration_s, settings), list[CurvePoint]()
    try:
        record = soak(_task(subject, experiment, bench, say, points.append), asked)
    except (LoadTestFailed, KeyboardInterrupt) as error:
        _write(folder / "soak-failure.json", soak_failure(variant.name, experiment, bench, held, error, points))
        raise
    _write(folder / "soak.json", record)
    (folder / "soak-failure.json").unlink(missing_ok=True)
    return record


def soak_failure(
    name: str,
    experiment: Experiment,
    bench: LoadBench,
    held: tuple[float, str, float],
    error: BaseException,
    points: Sequence[CurvePoint],
) -> SoakFailure:
    """The record of a rate that was not held to its end: by an error, or a Ctrl-C, which says nothing."""
    from deploycost.benchmarking.task import slo_of

    rate_rps, reason, duration_s = held
    return SoakFailure(
        variant=name,
        slo=slo_of(experiment.load),
        rate_rps=rate_rps,
        rate_reason=reason,
        duration_s=duration_s,
        reason=str(error) or "interrupted",
        point=points[-1] if points else None,
        environment=bench.machine,
        finished_at=now(),
    )


def measure_service(
    name: str, experiment: Experiment, bench: LoadBench, say: Say, keep: Callable[[CurvePoint], None] = lambda _: None
) -> LoadRecord:
    """Load-tests a service that is running already, which the client of the bench names; `keep` is given each point.

    Raises:
        LoadTestFailed: it could not be reached, died, or never gave a good answer.
    """
    from deploycost.benchmarking.loadtest import measure
    from deploycost.benchmarking.task import LoadSubject, Notes

    mark = fingerprint(LOAD_RULES, name, experiment.load.model_dump(mode="json"), *_workload(bench))
    subject = LoadSubject(name, Path(), "", bench.texts, None, None, mark)
    seed = experiment.training.seed
    return measure(subject, experiment.load, bench.machine, seed, say, client=bench.client, notes=Notes(keep))


def soak_service(
    name: str,
    experiment: Experiment,
    bench: LoadBench,
    held: tuple[float, str, float],
    say: Say,
    keep: Callable[[CurvePoint], None] = lambda _: None,
) -> SoakRecord:
    """Holds such a service at a rate, as `soak_test` does a variant; `keep` is given what was seen of it.

    Raises:
        LoadTestFailed: it could not be reached, died, or the client did.
    """
    from deploycost.benchmarking.soak import Soak, soak
    from deploycost.benchmarking.task import LoadSubject

    rate_rps, reason, duration_s = held
    subject = LoadSubject(name, Path(), "", bench.texts, None, None, "")
    asked = Soak(rate_rps, reason, duration_s, settings=None)
    return soak(_task(subject, experiment, bench, say, keep), asked)


def _task(
    subject: LoadSubject, experiment: Experiment, bench: LoadBench, say: Say, keep: Callable[[CurvePoint], None]
) -> Task:
    from deploycost.benchmarking.client import Client
    from deploycost.benchmarking.task import Notes, Task

    seed, client = experiment.training.seed, bench.client or Client()
    return Task(subject, experiment.load, bench.machine, seed, say, notes=Notes(keep), client=client)


def _workload(bench: LoadBench) -> tuple[object, ...]:
    """What decides a load test beside variant and objective, for its fingerprint; nothing where all is as usual."""
    from deploycost.benchmarking.generator import Traffic

    usual = bench.client is None or bench.client.traffic == Traffic()
    told = () if usual or bench.client is None else (asdict(bench.client.traffic),)
    return (*told, bench.texts) if bench.own_texts else told


def _subject(bundle_folder: Path, variant: Variant, texts: tuple[str, ...], mark: str) -> LoadSubject:
    from deploycost.benchmarking.task import LoadSubject
    from serving.classifier import Classifier
    from serving.predictions import NumberPrediction, told

    try:
        bundle = open_bundle(bundle_folder)
        classifier = Classifier(bundle, threads=len(usable_cores()))
    except BundleError as error:
        raise UserError(str(error)) from None
    # One by one, as a lone client is answered: int8 activations are scaled by what else is in a batch.
    answers = classifier.predict(texts, batch_size=1)
    numbers = [answer.value for answer in answers if isinstance(answer, NumberPrediction)]
    return LoadSubject(
        variant=variant.name,
        bundle_folder=bundle_folder,
        bundle_digest=bundle.digest,
        texts=texts,
        expected_labels=tuple(map(told, answers)),
        mean_tokens=sum(answer.tokens for answer in answers) / len(answers),
        fingerprint=mark,
        tolerance=_NUMBER_TOLERANCE_RATIO * pstdev(numbers) if numbers else None,
    )
