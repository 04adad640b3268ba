"""All that a report is made of, gathered by the caller: the report reads no clock, disk or machine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploycost.records import (
    FORMAT_VERSION,
    ExportRefusal,
    LoadRecord,
    ProfileRecord,
    Quote,
    Record,
    TuningRecord,
    Variant,
)
from deploycost.verdicts import QuoteSheet, Recommendation, Return

NO_QUOTES = "nothing was priced yet: quote the variants first with 'deploycost quote'"
GENERATED_WARNING = (
    "The data set is generated. Accuracy on generated data says nothing about your task: compare methods, speed, "
    "memory and cost here, and measure accuracy on your own texts with --dataset."
)


class ReportContent(Record):
    """What `report.json` holds, and what the page is drawn from.

    Either `recommendation` is given or `no_recommendation_reason` says why there is none. `unexported` are the
    fine-tunings that no variant was made of, `refusals` the artifacts that were not kept, `profiles` are of those
    methods whose steps were profiled. `commands` are those that repeat the run, in order.
    """

    format_version: int = FORMAT_VERSION
    run_name: str
    experiment: dict[str, Any]
    variants: tuple[Variant, ...]
    unexported: tuple[TuningRecord, ...] = ()
    refusals: tuple[ExportRefusal, ...] = ()
    profiles: tuple[ProfileRecord, ...] = ()
    sheet: QuoteSheet | None = None
    recommendation: Recommendation | None = None
    no_recommendation_reason: str = NO_QUOTES
    returns: tuple[Return, ...] = ()
    warnings: tuple[str, ...] = ()
    dataset_note: str = ""
    commands: tuple[str, ...] = ()
    made_at: str

    @property
    def dataset_generated(self) -> bool:
        """Whether anything was trained and scored on generated texts."""
        models = (*self.tunings, *(variant.tuning for variant in self.variants))
        return any(model.dataset_generated for model in models)

    @property
    def tunings(self) -> tuple[TuningRecord, ...]:
        """Each fine-tuned model once: those with artifacts in the order of their first, then the others."""
        return (*tunings(self.variants), *self.unexported)

    @property
    def chosen(self) -> Variant | None:
        """The variant that is recommended, with its records, if it is among them."""
        if self.recommendation is None:
            return None
        name = self.recommendation.quote.variant
        return next((variant for variant in self.variants if variant.name == name), None)


def tunings(variants: Sequence[Variant]) -> tuple[TuningRecord, ...]:
    """Each model that was fine-tuned here once, in the order of its first artifact."""
    models = {each.tuning.slug: each.tuning for each in variants if isinstance(each.tuning, TuningRecord)}
    return tuple(models.values())


def peak_training_bytes(tuning: TuningRecord) -> int:
    """Peak memory of training: that of the GPU where there was one, else that of the process."""
    return tuning.peak_memory_bytes if tuning.peak_gpu_memory_bytes is None else tuning.peak_gpu_memory_bytes


def predictable_peak_bytes(tuning: TuningRecord) -> int:
    """What the memory model predicts, as measured: the GPU allocator's peak, else the process's over its start.

    Of the process proportional memory where it was sampled, else resident memory.
    """
    if tuning.peak_gpu_memory_bytes is not None:
        return tuning.peak_gpu_memory_bytes
    if tuning.peak_pss_bytes is not None and tuning.baseline_pss_bytes is not None:
        return tuning.peak_pss_bytes - tuning.baseline_pss_bytes
    return tuning.peak_memory_bytes - tuning.baseline_memory_bytes


def cheapest_quotes(content: ReportContent) -> list[Quote]:
    """Each variant's first quote with a price and an accuracy: the sheet is in the order of cost."""
    cheapest: dict[str, Quote] = {}
    for quote in content.sheet.quotes if content.sheet else ():
        if quote.usd_per_million.planned.value is not None and quote.accuracy.value is not None:
            cheapest.setdefault(quote.variant, quote)
    return list(cheapest.values())


def loads_by_capacity(content: ReportContent) -> list[LoadRecord]:
    """The load tests, that of the chosen variant first, then from the highest capacity down."""
    chosen = content.chosen.name if content.chosen else ""
    loads = [variant.load for variant in content.variants if variant.load]
    return sorted(loads, key=lambda load: (load.variant != chosen, -(load.capacity_rps.value or 0.0)))
