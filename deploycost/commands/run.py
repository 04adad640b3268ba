"""`deploycost run`: the whole way, from texts to a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost import answers, pipeline, sources
from deploycost.commands.options import (
    BringFlags,
    BuildFlags,
    ChoiceFlags,
    LoadFlags,
    Place,
    PriceFlags,
    asked,
    refuse_unread,
    require_readers,
)
from deploycost.commands.output import say, show, show_json, warn, width
from deploycost.errors import NoAnswer
from deploycost.reporting.tables import (
    answer_panel,
    artifacts_table,
    model_tables,
    quotes_table,
    returns_table,
    score_tables,
    training_tables,
)
from deploycost.workspace import DEFAULT_RUN_NAME, Run, new_run


def run(
    experiment: Annotated[Path | None, Parameter(help="YAML file of an experiment; flags go over it.")] = None,
    *,
    place: Place | None = None,
    build: BuildFlags | None = None,
    bring: BringFlags | None = None,
    load: LoadFlags | None = None,
    price: PriceFlags | None = None,
    choice: ChoiceFlags | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Build, load-test, quote, recommend and report. Stages that are done already are kept.

    Example: deploycost run --model minilm --dataset demo --epochs 2
    """
    place = place or Place()
    folder = new_run(place.runs_dir, place.run or DEFAULT_RUN_NAME)
    wanted = asked(folder, experiment, build, load, price, choice, bring=bring)
    refuse_unread(price, wanted.quote)
    if wanted.methods:
        require_readers(build, wanted.methods)
    gathered = sources.gather(wanted)
    with folder.locked():
        whole = folder.adopt(gathered.experiment)
        refused = sources.build(folder, gathered, say)
        found = pipeline.variants_of(folder)
        if not found:
            raise NoAnswer(f"no variant came through: {'; '.join(refused)}")
        bench = pipeline.load_bench(gathered.dataset, wanted.training.seed)
        pipeline.load_test(folder, whole, found, bench, say)
        files, known = answers.make_report(folder, whole)
    if json:
        show_json(known.as_json())
    else:
        _show_all(folder, known)
    warn([*refused, *known.warnings])
    say("written: " + ", ".join(str(path) for path in files))
    if known.recommendation is None:
        raise NoAnswer(known.no_recommendation_reason)
    return 0


def _show_all(run: Run, known: answers.Answers) -> None:
    variants, tunings = tuple(pipeline.variants_of(run)), answers.tunings_of(run)
    show(
        *model_tables(variants, known.sheet, width()),
        *training_tables(tunings, answers.profiles_of(run, tunings), width()),
        artifacts_table(variants, width()),
        *score_tables(variants, width()),
        quotes_table(known.sheet, width()),
        *([returns_table(known.returns, width())] if known.returns else []),
        answer_panel(known.recommendation, known.no_recommendation_reason),
    )
