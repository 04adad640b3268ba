"""`deploycost loadtest --verify` and `--rate`: whether a variant holds its objectives where it is planned to run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost import pipeline
from deploycost.commands.output import say, show, show_json, width
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import Experiment
from deploycost.records import SoakRecord, Variant, read_record
from deploycost.reporting.tables import soak_table
from deploycost.verdicts import QuoteSheet
from deploycost.workspace import Run

NEWEST = "newest"
DEFAULT_DURATION = "60s"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|)")
_SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


@Parameter(name="*")
@dataclass(frozen=True)
class CourseFlags:
    """Whether to find a capacity, anew or not, or to hold a rate."""

    again: Annotated[bool, Parameter(negative="", help="Test anew what was tested before.")] = False
    verify: Annotated[
        str | None,
        Parameter(help="Hold the rate that a quote plans for a server: a file, one that the run keeps, or newest."),
    ] = None
    rate: Annotated[float | None, Parameter(help="Hold so many requests per second.")] = None
    duration: Annotated[
        str | None, Parameter(help="Of --verify and --rate: how long, as in 90s, 10min, 1h. Default: 60s.")
    ] = None

    @property
    def holds(self) -> bool:
        """Whether a rate is to be held.

        Raises:
            UserError: the flags contradict one another.
        """
        holds = self.verify is not None or self.rate is not None
        if self.verify is not None and self.rate is not None:
            raise UserError("--verify takes its rate from a quote; leave out --rate, or give it alone")
        if self.duration is not None and not holds:
            raise UserError("--duration is how long a rate is held: give --rate R, or --verify with a quote")
        if holds and self.again:
            raise UserError("--again finds a capacity anew; --verify and --rate always test")
        if self.rate is not None and not self.rate > 0:
            raise UserError(f"--rate must be above 0, got {self.rate:g}")
        return holds

    @property
    def duration_s(self) -> float:
        """The duration in seconds.

        Raises:
            UserError: it is none.
        """
        text = self.duration or DEFAULT_DURATION
        match = _DURATION.fullmatch(text.strip())
        if match is None or not float(match[1]):
            raise UserError(f"--duration {text!r}: expected a length of time such as 90s, 10min or 1h")
        return float(match[1]) * _SECONDS[match[2]]

    def rate_of(self, name: str, sheet: NamedSheet | None) -> tuple[float, str]:
        """The rate to hold a variant or a service at, and why this one: of the quote, or as asked.

        Raises:
            UserError: the quote knows no capacity of it.
        """
        return (self.rate or 0.0, "as asked") if sheet is None else planned_rate(sheet, name)


@dataclass(frozen=True)
class NamedSheet:
    """A kept quote, and what it is called."""

    name: str
    sheet: QuoteSheet


def hold(
    run: Run,
    wanted: Experiment,
    chosen: Sequence[Variant],
    bench: pipeline.LoadBench,
    course: CourseFlags,
    *,
    json: bool,
) -> int:
    """Holds each variant at its rate, one after another, and shows what came of it.

    Raises:
        NoAnswer: a variant did not hold its objectives.
    """
    sheet = quote_sheet(run, course.verify) if course.verify is not None else None
    rates = [course.rate_of(variant.name, sheet) for variant in chosen]
    records = []
    with run.locked():
        for variant, (rate_rps, reason) in zip(chosen, rates, strict=True):
            say(f"{variant.name}: {rate_rps:.3g}/s for {course.duration_s:g} s, {reason}")
            held = (rate_rps, reason, course.duration_s)
            records.append(pipeline.soak_test(run, wanted, variant, bench, held, say))
    show_soaks(records, json=json)
    return 0


def show_soaks(records: Sequence[SoakRecord], *, json: bool) -> None:
    """Shows what came of rates that were held.

    Raises:
        NoAnswer: one did not hold its objectives.
    """
    if json:
        documents = [record.model_dump(mode="json") for record in records]
        show_json(documents[0] if len(documents) == 1 else {"records": documents})
    else:
        show(soak_table(records, width()))
    if broken := [f"{each.variant} at {each.rate_rps:.3g}/s: {each.point.reason}" for each in records if not each.held]:
        raise NoAnswer(f"the objectives did not hold: {'; '.join(broken)}")


def planned_rate(sheet: NamedSheet, name: str) -> tuple[float, str]:
    """The rate that a kept quote plans for one server like the one measured, and why.

    That is the planning utilisation times the measured capacity. What a machine that was not measured would carry is
    no matter for a test on this one.

    Raises:
        UserError: it knows no capacity of what is named.
    """
    capacities = [q.measured_capacity_rps.value for q in sheet.sheet.quotes if q.variant == name]
    capacity_rps = next((value for value in capacities if value), None)
    if capacity_rps is None:
        known = sorted({q.variant for q in sheet.sheet.quotes if q.measured_capacity_rps.value})
        raise UserError(
            f"quote {sheet.name} knows no capacity of {name}; load-test it, then quote again; "
            f"it knows: {', '.join(known) or 'none'}"
        )
    ratio = sheet.sheet.policy.utilisation_ratio
    return ratio * capacity_rps, f"{100 * ratio:.0f} % of {capacity_rps:.3g}/s, as quote {sheet.name} plans"


def quote_sheet(run: Run, quote: str) -> NamedSheet:
    """The quote of a file, or of those that a run keeps: by its name, or the newest.

    Raises:
        UserError: there is no such quote, or it is damaged.
    """
    path = _quote_path(run, quote)
    return NamedSheet(path.stem, read_record(path, QuoteSheet))


def _quote_path(run: Run, quote: str) -> Path:
    kept = sorted((run.folder / "quotes").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    if quote == NEWEST:
        if not kept:
            raise UserError(f"run {run.name!r} keeps no quote; make one with 'deploycost quote --run {run.name}'")
        return kept[-1]
    named = [path for path in (Path(quote),) if path.is_file()]
    named += [path for path in kept if quote in (path.name, path.stem)]
    if not named:
        known = ", ".join(path.stem for path in kept) or "none"
        raise UserError(f"no quote {quote!r}; give a file, {NEWEST}, or one that the run keeps: {known}")
    return named[0]
