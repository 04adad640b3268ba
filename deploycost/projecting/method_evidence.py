"""What studies know of a method: the cell nearest to the question, and what it says beside full fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean

from deploycost.records import Basis, Figure
from deploycost.stats import mean_interval
from deploycost.study_record import CellMeasurement, ServedArtifact, StudyRecord, TrainingConditions

# How far apart two predictions of memory may lie and still be of one and the same load.
_SAME_LOAD_RATIO = 0.001


@dataclass(frozen=True)
class KnownStudy:
    """A study's record and whether it is the user's own or came with the product."""

    record: StudyRecord
    own: bool

    @property
    def name(self) -> str:
        """Whose study of which name, as in `shipped study methods`."""
        return f"{'own' if self.own else 'shipped'} study {self.record.name}"

    @property
    def description(self) -> str:
        """Its name, and what it was made with: base model, data, size, date."""
        study = self.record
        seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}"
        return (
            f"{self.name}: {study.base_model} on {study.dataset}, {study.train_rows:,} training rows, "
            f"{study.epochs} epochs, {seeds}, {study.test_rows:,} test rows, {study.made_at[:10]}"
        )


@dataclass(frozen=True)
class Asked:
    """The training that evidence is sought for; `dataset` None is one that no study can have been made on.

    `conditions` are the method's, `full_conditions` those of the full fine-tuning that it is held against.
    """

    method: str
    slug: str
    base_model: str
    dataset: str | None
    conditions: TrainingConditions
    full_conditions: TrainingConditions


@dataclass(frozen=True)
class Evidence:
    """One cell of one study beside the full fine-tuning of the same study, seed by seed."""

    study: KnownStudy
    slug: str
    asked: Asked
    method: tuple[CellMeasurement, ...]
    full: tuple[CellMeasurement, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        """In what it is not the very training asked for, in words."""
        study, asked = self.study.record, self.asked
        told = [] if self.slug == asked.slug else [f"{self.slug}, not {asked.slug}"]
        told += [] if study.base_model == asked.base_model else [f"base {study.base_model}, not {asked.base_model}"]
        told += [] if study.dataset == asked.dataset else [f"texts of {study.dataset}, not {asked.dataset or 'yours'}"]
        told += self.method[0].conditions.differences(asked.conditions)
        of_full = [f"full: {line}" for line in self.full[0].conditions.differences(asked.full_conditions)]
        return (*told, *(line for line in of_full if line.removeprefix("full: ") not in told))

    @property
    def basis(self) -> Basis:
        """Measured where it is the very training asked for; projected to other texts or another schedule; of other
        hyper-parameters or another base assumed to carry over."""
        study, asked = self.study.record, self.asked
        same_settings = self.method[0].conditions.settings == asked.conditions.settings
        if self.slug != asked.slug or study.base_model != asked.base_model or not same_settings:
            return "assumed"
        return "projected" if self.differences else "measured"

    @property
    def source(self) -> str:
        """Which cell of which study."""
        return f"{self.slug} in {self.study.name}"

    @property
    def accuracy_drop(self) -> Figure:
        """Accuracy of full less the method's, with the 95 % interval over seeds, else that of the test rows alone."""
        drops = [a.scores.accuracy - b.scores.accuracy for a, b in zip(self.full, self.method, strict=True)]
        low, high = mean_interval(drops) or _sampling_interval(self.full[0], self.method[0])
        return Figure(value=fmean(drops), low=low, high=high, basis=self.basis)

    @property
    def machine(self) -> str | None:
        """What both were trained on, or None where that was not one machine."""
        names = {each.machine_name for each in (*self.method, *self.full)}
        return names.pop() if len(names) == 1 else None

    @property
    def kind(self) -> str | None:
        """Where both held their memory, `process` or `gpu`, or None where that was not one kind."""
        kinds = {each.memory_source for each in (*self.method, *self.full)}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def batches_are_comparable(self) -> bool:
        """Whether both had the same batch size, or each the one asked for: else it is batches that are compared."""
        method, full = self.method[0].conditions.batch_size, self.full[0].conditions.batch_size
        return method == full or (method, full) == (
            self.asked.conditions.batch_size,
            self.asked.full_conditions.batch_size,
        )

    def training_speed_ratio(self, machine: str | None) -> Figure:
        """Samples per second over those of full; on another machine than the one it was measured on, projected."""
        ratios = [b.samples_per_s / a.samples_per_s for a, b in zip(self.full, self.method, strict=True)]
        elsewhere = self.basis == "measured" and (machine is None or machine != self.machine)
        return _mean(ratios, "projected" if elsewhere else self.basis)

    @property
    def serving_cost_ratio(self) -> Figure | None:
        """Time of one request over that of full, served as the same artifact; None where it was not measured."""
        ratios = [ratio for a, b in zip(self.full, self.method, strict=True) if (ratio := _request_ratio(a, b))]
        return _mean(ratios, self.basis) if ratios else None


def best_evidence(studies: Iterable[KnownStudy], asked: Asked) -> Evidence | None:
    """The evidence nearest to what is asked: of its hyper-parameters, base and data set first, then of its schedule,
    then the user's own, then from more seeds and rows; None where no study measured the method beside full."""
    found = [each for study in studies for each in _of_study(study, asked)]
    return max(found, key=_nearness, default=None)


def measured_memory(
    studies: Iterable[KnownStudy], asked: Asked, predicted_bytes: int, source: str
) -> tuple[Figure, str] | None:
    """The measured peak of this very training, and where: the same hyper-parameters, base, kind of device and load.

    That the load (batch, text lengths, precision) is the same shows in that the same memory was predicted for it.
    """
    for study in sorted(studies, key=lambda each: (each.own, each.record.made_at), reverse=True):
        if study.record.base_model != asked.base_model:
            continue
        peaks = [
            float(each.memory_bytes)
            for each in _measured(study.record, asked.slug)
            if each.memory_source == source and _is_near(each.predicted_memory_bytes, predicted_bytes)
        ]
        if peaks:
            return Figure(value=max(peaks), low=min(peaks), high=max(peaks)), f"{asked.slug} in {study.name}"
    return None


def prediction_ratios(studies: Iterable[KnownStudy], source: str) -> list[float]:
    """Measured over predicted memory of every training in the studies on that kind of device."""
    measured = [result.measured for study in studies for result in study.record.results if result.measured]
    return [
        each.memory_bytes / each.predicted_memory_bytes
        for each in measured
        if each.predicted_memory_bytes and each.memory_source == source
    ]


def mean_tokens(studies: Sequence[KnownStudy], dataset: str | None) -> float | None:
    """Mean tokens of a text in a study on the data set, else in any, or None."""
    known = {
        study.record.dataset: each.tokens_per_s / each.samples_per_s
        for study in studies
        for result in study.record.results
        if (each := result.measured)
    }
    return known.get(dataset or "") or next(iter(known.values()), None)


def _of_study(study: KnownStudy, asked: Asked) -> list[Evidence]:
    record = study.record
    full = {r.seed: r.measured for r in record.results if r.method == "full" and r.measured}
    found = []
    for cell in record.cells:
        results = [r for r in record.results if r.name == cell.name and r.method == asked.method and r.seed in full]
        pairs = [(r.measured, full[r.seed]) for r in results if r.measured]
        if pairs:
            method, beside = zip(*pairs, strict=True)
            found.append(Evidence(study, results[0].slug, asked, method, beside))
    return found


def _nearness(evidence: Evidence) -> tuple[bool | int | str, ...]:
    study = evidence.study.record
    return (
        evidence.slug == evidence.asked.slug,
        study.base_model == evidence.asked.base_model,
        study.dataset == evidence.asked.dataset,
        -len(evidence.differences),
        evidence.study.own,
        len(evidence.method),
        study.train_rows,
        study.made_at,
    )


def _measured(record: StudyRecord, slug: str) -> list[CellMeasurement]:
    return [result.measured for result in record.results if result.slug == slug and result.measured]


def _is_near(known: int | None, predicted_bytes: int) -> bool:
    return known is not None and abs(known / predicted_bytes - 1) <= _SAME_LOAD_RATIO


def _mean(ratios: Sequence[float], basis: Basis) -> Figure:
    low, high = mean_interval(ratios) or (None, None)
    return Figure(value=fmean(ratios), low=low, high=high, basis=basis)


def _sampling_interval(full: CellMeasurement, method: CellMeasurement) -> tuple[float, float]:
    """Of the difference of two proportions. The rows are the same, so that the truth is narrower."""
    drop = full.scores.accuracy - method.scores.accuracy
    variance = sum(scores.accuracy * (1 - scores.accuracy) / scores.rows for scores in (full.scores, method.scores))
    half = NormalDist().inv_cdf(0.975) * sqrt(variance)
    return drop - half, drop + half


def _request_ratio(full: CellMeasurement, method: CellMeasurement) -> float | None:
    """Of the first artifact that both were served as, the int8 ones first: they are what is deployed."""
    beside = {each.artifact: each for each in full.served}
    served = sorted(method.served, key=lambda each: not each.artifact.endswith("int8"))
    ratios = (_time_ratio(beside[each.artifact], each) for each in served if each.artifact in beside)
    return next((ratio for ratio in ratios if ratio), None)


def _time_ratio(full: ServedArtifact, method: ServedArtifact) -> float | None:
    if full.request_ms_p50 and method.request_ms_p50:
        return method.request_ms_p50 / full.request_ms_p50
    return None
