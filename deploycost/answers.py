"""From records and prices to answers: the quote sheet, the recommendation, the return, and the report of all three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from deploycost.costing.crossing import crossovers
from deploycost.costing.quote import Bounds, Question, cost_order, quote, refuse_hopeless_slo
from deploycost.costing.recommendation import Limits, recommend
from deploycost.costing.returns import (
    Terms,
    one_off_notes,
    one_off_usd,
    return_against_api,
    return_against_variant,
)
from deploycost.costing.sieve import NO_BOUNDS, SortKey
from deploycost.environment import now
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import Experiment, QuoteSpec
from deploycost.market import alternatives_for, policy_for, request_for, site_finder, traffic_for
from deploycost.projecting.cores import capacity_on, carried_on
from deploycost.projecting.evidence import services_in, with_records
from deploycost.projecting.machines import Planned
from deploycost.records import (
    LoadRecord,
    ProfileRecord,
    Quote,
    Service,
    Subject,
    TuningRecord,
    Variant,
    read_record,
    write_record,
)
from deploycost.variants import refusals_of, variants_of
from deploycost.verdicts import Crossover, QuoteSheet, Recommendation, Return
from deploycost.workspace import Run, fingerprint, write_text
from pricing.errors import PriceError
from pricing.llm import find_llm_api

# What a newcomer would deploy, and so what savings are counted against: every weight tuned, nothing quantised.
BASELINE_VARIANT = "full.onnx-fp32"
# What a question always says; sheets are named after it.
_FIRST_WORDS = frozenset(
    {
        "clouds", "region", "purchase_option", "requests_per_month", "peak_to_mean_ratio", "utilisation_ratio",
        "spare_replicas", "max_accuracy_drop", "llm_api",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which rows of a sheet are wanted, in which order; all of them, cheapest first, unless told."""

    bounds: Bounds = NO_BOUNDS
    sort: SortKey = "planned"
    shown: int | None = None


@dataclass(frozen=True)
class Answers:
    """A quote sheet and what follows from it; `no_recommendation_reason` is told where nothing fits."""

    sheet: QuoteSheet
    recommendation: Recommendation | None
    no_recommendation_reason: str
    returns: tuple[Return, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The recommendation, its return and the sheet, as scripts know them."""
        recommendation = self.recommendation.model_dump(mode="json") if self.recommendation else None
        return {
            "recommendation": recommendation,
            "no_recommendation_reason": self.no_recommendation_reason,
            "returns": [each.model_dump(mode="json") for each in self.returns],
            **sheet_as_json(self.sheet),
            "warnings": [*self.warnings, *self.sheet.warnings],
        }


def sheet_as_json(sheet: QuoteSheet) -> dict[str, Any]:
    """A quote sheet as scripts know it: `quotes`, `traffic`, `policy`, `warnings`."""
    return sheet.model_dump(mode="json")


def known_variants(run: Run, record_paths: Sequence[Path] = ()) -> list[Variant]:
    """The variants of a run, with load records from other machines beside their own.

    Raises:
        UserError: nothing was built, a record is damaged, or one is of a variant that is not here.
    """
    variants = variants_of(run)
    if not variants:
        raise UserError(
            f"run {run.name!r} holds no finished variant; build one with 'deploycost build --run {run.name}'"
        )
    return with_records(variants, [read_record(path, LoadRecord) for path in record_paths])


def known_subjects(run: Run, record_paths: Sequence[Path] = ()) -> list[Subject]:
    """The same, and the services that records are of; services need no variants beside them.

    Raises:
        UserError: there is neither, a record is damaged, or one is of a variant that is not here.
    """
    records = [read_record(path, LoadRecord) for path in record_paths]
    services = services_in(records)
    of_variants = [path for path, record in zip(record_paths, records, strict=True) if not record.url]
    variants = known_variants(run, of_variants) if of_variants or not services or variants_of(run) else []
    return [*variants, *services]


def tunings_of(run: Run) -> list[TuningRecord]:
    """Every fine-tuning of a run, also those that nothing was exported from.

    Raises:
        UserError: a record is damaged.
    """
    return [read_record(path, TuningRecord) for path in run.record_paths("tuning.json")]


def profiles_of(run: Run, tunings: Iterable[TuningRecord]) -> list[ProfileRecord]:
    """The profiles of those of the fine-tunings whose steps were recorded under the same inputs.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for tuning in tunings:
        path = run.method_folder(tuning.slug) / "profile" / "profile.json"
        if path.exists() and (record := read_record(path, ProfileRecord)).fingerprint == tuning.fingerprint:
            found.append(record)
    return found


def quote_now(
    run: Run, variants: Sequence[Subject], question: QuoteSpec, slo_p95_ms: float, wanted: Wanted | None = None
) -> QuoteSheet:
    """Prices the variants with the present price book, and keeps the sheet with the price rows it used.

    Raises:
        UserError: the clouds, region or purchase option name no known price.
        NoAnswer: no row is within the bounds that are wanted.
    """
    sheet = _price(run, variants, question, slo_p95_ms, wanted or Wanted())
    refuse_hopeless_slo(sheet, variants)
    return sheet


def _price(run: Run, variants: Sequence[Subject], question: QuoteSpec, slo_p95_ms: float, wanted: Wanted) -> QuoteSheet:
    request = request_for(question, variants)
    alternatives = alternatives_for(question, request)
    asked = Question(
        traffic_for(question), policy_for(question), slo_p95_ms, wanted.bounds, wanted.sort, wanted.shown, request
    )
    planned = Planned(asked.policy.utilisation_ratio, slo_p95_ms)
    sheet = quote(
        variants,
        alternatives,
        partial(capacity_on, planned=planned),
        site_finder(alternatives.machines),
        asked,
        partial(carried_on, planned=planned),
    )
    # A sheet of some of the rows, or in another order, is kept too, but no report takes it for the whole.
    is_whole = replace(wanted, shown=None) == Wanted() and not (sheet.left_out or sheet.unknown)
    mark = () if is_whole else (wanted,)
    write_text(_sheet_path(run, variants, question, slo_p95_ms, *mark), write_record(sheet))
    return sheet


def crossing(variants: Sequence[Subject], question: QuoteSpec, sheet: QuoteSheet, names: tuple[str, str]) -> Crossover:
    """From which volume on the row of a sheet that one name means is cheaper than that of the other.

    Raises:
        UserError: a name means no row with a price.
    """
    request = request_for(question, variants)
    return crossovers(sheet, variants, alternatives_for(question, request), capacity_on, names)


def kept_quote(run: Run, variants: Sequence[Subject], question: QuoteSpec, slo_p95_ms: float) -> QuoteSheet:
    """The sheet that was made for this question from this evidence, with its prices of then; else a new one."""
    path = _sheet_path(run, variants, question, slo_p95_ms)
    return read_record(path, QuoteSheet) if path.exists() else _price(run, variants, question, slo_p95_ms, Wanted())


def answer(sheet: QuoteSheet, variants: Sequence[Variant], question: QuoteSpec) -> Answers:
    """The recommendation from a sheet, and its return against the baseline variant and an LLM API.

    Raises:
        UserError: the LLM API is not one whose price is known.
    """
    recommendation, reason = None, ""
    try:
        recommendation = recommend(sheet, Limits(max_accuracy_drop=question.max_accuracy_drop))
    except NoAnswer as no:
        reason = str(no)
    returns, warnings = _returns(sheet, variants, question, recommendation)
    return Answers(sheet, recommendation, reason, returns, warnings)


def make_report(run: Run, experiment: Experiment) -> tuple[list[Path], Answers]:
    """Writes `report.html`, `report.md` and `report.json` from the records of a run, and returns where.

    A run that was only trained is reported as far as it went.

    Raises:
        UserError: nothing was trained yet, or a record is damaged.
    """
    from deploycost.reporting.content import ReportContent
    from deploycost.reporting.page import write_report

    variants, tunings = variants_of(run), tunings_of(run)
    if not tunings and not variants:
        raise UserError(f"run {run.name!r} holds nothing to report; build with 'deploycost build --run {run.name}'")
    slo_p95_ms = experiment.load.slo_p95_ms
    answers = answer(kept_quote(run, variants, experiment.quote, slo_p95_ms), variants, experiment.quote)
    if not variants:
        answers = replace(answers, no_recommendation_reason=_nothing_exported(run))
    exported = {variant.tuning.slug for variant in variants}
    content = ReportContent(
        run_name=run.name,
        experiment=experiment.model_dump(mode="json"),
        variants=tuple(variants),
        unexported=tuple(tuning for tuning in tunings if tuning.slug not in exported),
        refusals=tuple(refusals_of(run)),
        profiles=tuple(profiles_of(run, tunings)),
        sheet=answers.sheet,
        recommendation=answers.recommendation,
        no_recommendation_reason=answers.no_recommendation_reason,
        returns=answers.returns,
        warnings=answers.warnings,
        dataset_note=(tunings[0] if tunings else variants[0].tuning).dataset_description,
        commands=(
            f"deploycost run {run.experiment_path} --run {run.name}-again",
            f"deploycost quote --run {run.name} --cloud {','.join(experiment.quote.clouds)}",
            f"deploycost report --run {run.name}",
        ),
        made_at=now(),
    )
    return write_report(content, run.folder), answers


def _nothing_exported(run: Run) -> str:
    return f"nothing was exported that could be served: 'deploycost build --run {run.name} --artifacts all' exports"


def _returns(
    sheet: QuoteSheet, variants: Sequence[Variant], question: QuoteSpec, recommendation: Recommendation | None
) -> tuple[tuple[Return, ...], tuple[str, ...]]:
    if recommendation is None:
        return (), ()
    chosen = recommendation.quote
    variant = next(each for each in variants if each.name == chosen.variant)
    one_off = one_off_usd(variant, chosen.usd_per_hour)
    returns, warnings = [], []
    baseline_name = _baseline_of(variant)
    baseline = _baseline_row(sheet, baseline_name)
    if chosen.variant == baseline_name:
        warnings.append(f"the recommendation is the baseline itself, {baseline_name}: there is nothing to save")
    elif isinstance(baseline, str):
        warnings.append(f"no return against {baseline_name}: {baseline}")
    else:
        returns.append(return_against_variant(chosen, baseline, one_off, sheet, Terms()))
    try:
        api = find_llm_api(question.llm_api)
    except PriceError as error:
        raise UserError(str(error)) from None
    request = request_for(question, [variant])
    returns.append(return_against_api(chosen, api, request, one_off, sheet, Terms()))
    left_out = one_off_notes(variant)
    told = [each.model_copy(update={"notes": (*left_out, *each.notes)}) for each in returns]
    return tuple(told), tuple(warnings)


def _baseline_of(variant: Variant) -> str:
    """What savings are counted against: `BASELINE_VARIANT`, of a model that was brought itself as that artifact."""
    if isinstance(variant.tuning, TuningRecord):
        return BASELINE_VARIANT
    return f"{variant.tuning.slug}.{BASELINE_VARIANT.partition('.')[2]}"


def _baseline_row(sheet: QuoteSheet, name: str) -> Quote | str:
    """The cheapest quote of the baseline that could be deployed, or why there is none."""
    rows = [each for each in sheet.quotes if each.variant == name]
    if not rows:
        return "it was not built and load-tested in this run"
    priced = [each for each in rows if each.usd_per_million.planned.value is not None]
    if not priced:
        return f"its capacity is known in none of its {len(rows)} quotes"
    deployable = [each for each in priced if each.meets_slo and each.fits_memory]
    if not deployable:
        return f"none of its {len(priced)} quotes with a price is known to keep the SLO and to fit memory"
    return min(deployable, key=cost_order)


def _sheet_path(run: Run, variants: Sequence[Subject], question: QuoteSpec, slo_p95_ms: float, *more: Wanted) -> Path:
    evidence = [
        [each.name, _digest(each), *(load.finished_at for load in (each.load, *each.elsewhere) if load)]
        for each in variants
    ]
    # What is asked as by default leaves no mark, so that a sheet is still found when questions have learnt new words.
    asked = question.model_dump(mode="json")
    usual = QuoteSpec().model_dump(mode="json")
    asked = {name: value for name, value in asked.items() if name in _FIRST_WORDS or value != usual[name]}
    mark = fingerprint(evidence, asked, slo_p95_ms, *(str(each) for each in more))
    return run.folder / "quotes" / f"{mark}.json"


def _digest(subject: Subject) -> str:
    return "" if isinstance(subject, Service) else subject.export.bundle_digest
