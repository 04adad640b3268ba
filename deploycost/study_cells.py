"""One cell of a study on one seed: its run, what was measured there, and how long its artifacts take to answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from deploycost import pipeline
from deploycost.answers import kept_quote
from deploycost.errors import DeploycostError, UserError
from deploycost.experiment import Experiment, write_experiment
from deploycost.pipeline import Material, Say
from deploycost.records import ProfileRecord, Quote, Record, TuningRecord, Variant, write_record
from deploycost.reporting.content import predictable_peak_bytes
from deploycost.study_record import CellMeasurement, ServedArtifact, conditions_of
from deploycost.workspace import Run, fingerprint, write_text
from serving.classifier import Classifier
from serving.errors import BundleError, EngineError

# Enough for a median that repeats to a few per cent; a cell's artifacts take seconds for them.
_TIMED_TEXTS = 60
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class CellRun:
    """A cell of a study on one seed, and the run that holds its results.

    `digest` marks everything that decides what training it comes to.
    """

    name: str
    seed: int
    experiment: Experiment
    material: Material
    digest: str
    run: Run

    @property
    def label(self) -> str:
        """The cell as progress and errors name it."""
        return f"{self.name}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """The folder of its method inside its run."""
        return self.experiment.method_slug(self.experiment.methods[0])

    @property
    def is_due(self) -> bool:
        """Whether something of it is still to be done."""
        return bool(pipeline.due_stages(self.run, self.experiment, self.experiment.methods[0], self.digest))

    def tuning(self) -> TuningRecord | None:
        """What training left behind, or None before that."""
        return pipeline.finished(self.run.method_folder(self.slug) / "tuning.json", TuningRecord, self.digest)

    def variants(self) -> list[Variant]:
        """Those of its artifacts that are asked for and finished."""
        found = [variant for variant in pipeline.variants_of(self.run) if variant.tuning.fingerprint == self.digest]
        return [variant for variant in found if variant.export.artifact in self.experiment.artifacts]


class RequestTimes(Record):
    """Median time of one text on one core, by cell digest and artifact: `runs/study-NAME/request_times.json`."""

    fingerprint: str
    ms_p50: dict[str, dict[str, float]]


def build_cell(cell: CellRun) -> str | None:
    """Trains and exports what is due of a cell, under its lock; returns why something failed, or None.

    Raises:
        OSError: the disk is full or cannot be written: no matter of this cell alone.
    """
    try:
        with cell.run.locked():
            _keep_experiment(cell)
            refused = pipeline.build(cell.run, cell.experiment, cell.material, lambda _: None)
    except DeploycostError as error:
        return str(error)
    return "; ".join(refused) or None


def _keep_experiment(cell: CellRun) -> None:
    """Writes `experiment.yaml`, with the artifacts that other studies asked for.

    The digest in the run's name is the condition that its results hang on; the words may differ: the same rows by
    another path, the same model by its name or its folder, settings that the method does not read.
    """
    artifacts = cell.experiment.artifacts
    with suppress(UserError):  # none yet, or damaged: written anew
        artifacts = tuple(dict.fromkeys(cell.run.experiment().artifacts + artifacts))
    write_text(cell.run.experiment_path, write_experiment(cell.experiment.model_copy(update={"artifacts": artifacts})))


def load_test_cell(cell: CellRun, say: Say) -> str | None:
    """Load-tests a cell's artifacts; returns why that failed, or None."""
    seed = cell.experiment.training.seed
    try:
        with cell.run.locked():
            bench = pipeline.load_bench(cell.material.dataset, seed)
            pipeline.load_test(cell.run, cell.experiment, cell.variants(), bench, say)
    except (DeploycostError, BundleError, EngineError) as error:
        return str(error)
    return None


def measurement_of(cell: CellRun, request_ms: dict[str, float]) -> CellMeasurement | None:
    """What was measured of a cell, from its records, or None before it was trained; `request_ms` is by artifact.

    Raises:
        UserError: a record of an artifact is damaged, or its machines have no known price.
    """
    tuning = cell.tuning()
    if tuning is None:
        return None
    profile_path = cell.run.method_folder(cell.slug) / "profile" / "profile.json"
    spec, dataset = cell.experiment.training, cell.experiment.dataset
    on_gpu = tuning.peak_gpu_memory_bytes is not None
    return CellMeasurement(
        scores=tuning.scores,
        training_s=tuning.training_s,
        samples_per_s=tuning.samples_per_s,
        tokens_per_s=tuning.tokens_per_s,
        memory_bytes=max(0, predictable_peak_bytes(tuning)),
        memory_source="gpu" if on_gpu else "process",
        nvml_memory_bytes=tuning.peak_gpu_nvml_bytes,
        predicted_memory_bytes=tuning.predicted_memory.total if tuning.predicted_memory else None,
        trainable_parameters=tuning.trainable_parameters,
        head_parameters=tuning.head_parameters,
        total_parameters=tuning.total_parameters,
        step_ms_p50=tuning.step_ms_p50,
        step_ms_p95=tuning.step_ms_p95,
        epochs=tuning.epochs,
        ranks=tuning.ranks,
        unstable_steps=len(tuning.unstable_steps),
        profile=pipeline.finished(profile_path, ProfileRecord, cell.digest),
        served=tuple(_served(cell, variant, request_ms) for variant in cell.variants()),
        conditions=conditions_of(cell.experiment.methods[0], spec, dataset),
        machine=tuning.machine,
        finished_at=tuning.finished_at,
    )


def time_requests(cells: Sequence[CellRun], path: Path, say: Say) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Median time of one request, by cell digest and artifact; kept at `path` as long as the bundles stay the same.

    The artifacts of a seed answer each text in turn, so that whatever else the machine does meets all of them alike.

    Returns:
        The times, and why artifacts could not be timed, by cell digest.
    """
    bundles = {cell.digest: {v.export.artifact: v.export.bundle_digest for v in cell.variants()} for cell in cells}
    if not bundles:
        return {}, {}
    mark = fingerprint(bundles)
    kept = pipeline.finished(path, RequestTimes, mark)
    if kept is not None:
        return kept.ms_p50, {}
    say("timing single requests of each artifact")
    times: dict[str, dict[str, float]] = {}
    problems: dict[str, str] = {}
    for seed in dict.fromkeys(cell.seed for cell in cells):
        times |= _times_of_seed([cell for cell in cells if cell.seed == seed], problems)
    if not problems:
        write_text(path, write_record(RequestTimes(fingerprint=mark, ms_p50=times)))
    return times, problems


def _times_of_seed(cells: Sequence[CellRun], problems: dict[str, str]) -> dict[str, dict[str, float]]:
    classifiers = _classifiers(cells, problems)
    texts = pipeline.load_bench(cells[0].material.dataset, cells[0].seed).texts[:_TIMED_TEXTS]
    durations_ns: dict[tuple[str, str], list[int]] = {key: [] for key in classifiers}
    for text in texts:
        for (digest, artifact), classifier in classifiers.items():
            if digest in problems:
                continue
            began = perf_counter_ns()
            try:
                classifier.predict([text])
            except EngineError as error:
                problems[digest] = f"{artifact} does not answer: {error}"
            durations_ns[digest, artifact].append(perf_counter_ns() - began)
    times: dict[str, dict[str, float]] = {}
    for (digest, artifact), spent in durations_ns.items():
        if digest not in problems:
            times.setdefault(digest, {})[artifact] = median(spent) / _NS_PER_MS
    return times


def _classifiers(cells: Sequence[CellRun], problems: dict[str, str]) -> dict[tuple[str, str], Classifier]:
    loaded = {}
    for cell in cells:
        for variant in cell.variants():
            artifact = variant.export.artifact
            try:
                bundle = cell.run.artifact_folder(cell.slug, artifact) / "bundle"
                loaded[cell.digest, artifact] = Classifier(bundle)
            except (BundleError, EngineError) as error:
                problems[cell.digest] = f"{artifact} cannot be loaded: {error}"
    return loaded


def _served(cell: CellRun, variant: Variant, request_ms: dict[str, float]) -> ServedArtifact:
    export, load = variant.export, variant.load
    assert export.accuracy is not None, "a study trains on labelled texts"  # noqa: S101 - for the types
    cheapest = None
    if load is not None:
        sheet = kept_quote(cell.run, [variant], cell.experiment.quote, cell.experiment.load.slo_p95_ms)
        cheapest = _cheapest(sheet.quotes)
    return ServedArtifact(
        artifact=export.artifact,
        accuracy=export.accuracy,
        request_ms_p50=request_ms.get(export.artifact),
        capacity_rps=load.capacity_rps if load else None,
        certified=load.certificate.certified if load else None,
        usd_per_million=cheapest.usd_per_million.floor if cheapest else None,
        priced_on=f"{cheapest.cloud} {cheapest.instance_type}, {cheapest.price_date}" if cheapest else "",
    )


def _cheapest(quotes: Sequence[Quote]) -> Quote | None:
    """The quote with the lowest floor price of those that keep the objective and have the memory."""
    fit = [
        (floor, place)
        for place, quote in enumerate(quotes)
        if quote.meets_slo and quote.fits_memory and (floor := quote.usd_per_million.floor.value) is not None
    ]
    return quotes[min(fit)[1]] if fit else None
