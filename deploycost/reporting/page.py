"""The report on disk: one page that stands alone, the same in Markdown, and the records behind both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from deploycost.records import TuningRecord, write_record
from deploycost.reporting import (
    artifact_grids,
    brought_grids,
    evidence_grids,
    grids,
    profile_grids,
    rank_grids,
    training_grids,
)
from deploycost.reporting.answer import Answer, answer
from deploycost.reporting.content import GENERATED_WARNING, ReportContent, tunings
from deploycost.reporting.figures import Picture, pictures
from deploycost.reporting.grid import Grid
from deploycost.reporting.workings import Working, assumptions, workings
from deploycost.workspace import write_text

# Beyond this a page is searched, not read; report.json has them all.
QUOTES_ON_PAGE = 30
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


@dataclass(frozen=True)
class _Page:
    """What the templates set, in their order."""

    content: ReportContent
    answer: Answer
    generated_warning: str
    quotes: Grid | None
    methods: Grid | None
    brought: Grid | None
    scores: tuple[Grid, ...]
    training: Grid | None
    training_details: tuple[Grid, ...]
    profiles: tuple[Grid, ...]
    artifacts: Grid | None
    doubtful: Grid | None
    curves: tuple[Grid, ...]
    returns: Grid | None
    workings: tuple[Working, ...]
    assumptions: tuple[str, ...]
    prices: Grid | None
    checks: Grid | None
    environments: Grid | None
    experiment_yaml: str
    warnings: tuple[str, ...]


def report_html(content: ReportContent) -> str:
    """The report as one HTML file that loads nothing from elsewhere; the same content gives the same bytes."""
    drawn: tuple[Picture, ...] = pictures(content)
    template = _templates().get_template("report.html.j2")
    return template.render(page=_page(content), pictures=drawn)


def report_markdown(content: ReportContent) -> str:
    """The report without figures, as GitHub-flavoured Markdown."""
    text = _templates().get_template("report.md.j2").render(page=_page(content))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_report(content: ReportContent, folder: Path) -> list[Path]:
    """Writes `report.html`, `report.md` and `report.json` to the folder, each whole or not at all; returns their paths.

    All are made before the first is written, so that a failure leaves an earlier report as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    texts = {
        "report.html": report_html(content),
        "report.md": report_markdown(content),
        "report.json": write_record(content),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _page(content: ReportContent) -> _Page:
    sheet, variants = content.sheet, content.variants
    models = content.tunings
    loads = [variant.load for variant in variants if variant.load and variant.load.curve]
    return _Page(
        content=content,
        answer=answer(content.recommendation, content.no_recommendation_reason),
        generated_warning=GENERATED_WARNING if content.dataset_generated else "",
        quotes=grids.quotes(sheet, QUOTES_ON_PAGE) if sheet and sheet.quotes else None,
        methods=grids.methods(variants, sheet) if tunings(variants) else None,
        brought=brought_grids.models(variants),
        scores=brought_grids.scores(variants),
        training=training_grids.training(models) if models else None,
        training_details=_training_details(models),
        profiles=profile_grids.tables(content.profiles),
        artifacts=grids.artifacts(variants) if variants else None,
        doubtful=artifact_grids.doubtful(variants, content.refusals),
        curves=tuple(grids.load_curve(load) for load in loads),
        returns=evidence_grids.returns(content.returns) if content.returns else None,
        workings=workings(content),
        assumptions=assumptions(content),
        prices=evidence_grids.price_rows(sheet.quotes) if sheet and sheet.quotes else None,
        checks=evidence_grids.checks(variants, content.chosen) if loads else None,
        environments=evidence_grids.environments(variants) if variants else None,
        experiment_yaml=yaml.safe_dump(content.experiment, sort_keys=False, allow_unicode=True).strip(),
        # The sheet's own warnings first: they are about the answer.
        warnings=tuple(dict.fromkeys([*(sheet.warnings if sheet else ()), *content.warnings])),
    )


def _training_details(models: tuple[TuningRecord, ...]) -> tuple[Grid, ...]:
    by_epoch = training_grids.epochs(models)
    decided = (rank_grids.decisions(model, limit=None) for model in models if model.ranks is not None)
    return (*((by_epoch,) if by_epoch.rows else ()), *decided)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("deploycost.reporting"),
        autoescape=select_autoescape(["html.j2"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = _plain
    return environment


def _plain(text: str) -> str:
    """The text as Markdown that shows as it is: on one line, nothing in it taken for markup."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))
