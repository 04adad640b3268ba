"""`deploycost study`: a grid of methods, hyper-parameters and seeds, held against the literature."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from deploycost.commands.options import flag_name
from deploycost.commands.output import say, show, show_json, width
from deploycost.errors import NoAnswer, UserError
from deploycost.study import StudyRequest, run_study
from deploycost.study_file import FULL_SIZE, StudyFile, find_study, merged, nested, shipped_studies
from deploycost.study_record import StudyRecord
from deploycost.user_path import user_path
from deploycost.workspace import DEFAULT_RUNS_DIR

_LIST = "list"
# With their intervals, so many fit beside one another in a narrow terminal.
_METRICS_AT_ONCE = 4


@Parameter(name="*")
@dataclass(frozen=True)
class StudyFlags:
    """What goes over the study's own settings."""

    size: Annotated[
        str, Parameter(help="A size that the study has beside the full one, such as small (two cores).")
    ] = FULL_SIZE
    model: Annotated[str | None, Parameter(help="Hub id, local folder, or minilm (packaged).")] = None
    dataset: Annotated[str | None, Parameter(help="Hub id, a folder or file, or demo (generated).")] = None
    text_column: Annotated[str | None, Parameter(help="Column of the texts.")] = None
    label_column: Annotated[str | None, Parameter(help="Column of the labels.")] = None
    train_rows: Annotated[int | None, Parameter(help="Train on so many rows, balanced.")] = None
    test_rows: Annotated[int | None, Parameter(help="Judge on so many rows.")] = None
    epochs: Annotated[int | None, Parameter(help="Passes over the training rows.")] = None
    artifacts: Annotated[str | None, Parameter(help="onnx-fp32, onnx-int8, a comma list, all, or none.")] = None
    seeds: Annotated[str | None, Parameter(help="A comma list, such as 1,2,3.")] = None

    def changes(self) -> dict[str, Any]:
        """The experiment's fields that were given."""
        given = {
            "model": self.model,
            "dataset.source": self.dataset,
            "dataset.text_column": self.text_column,
            "dataset.label_column": self.label_column,
            "dataset.train_rows": self.train_rows,
            "dataset.test_rows": self.test_rows,
            "training.epochs": self.epochs,
            "artifacts": self.artifacts,
        }
        return merged(*(nested(path, value) for path, value in given.items() if value is not None))

    def seed_numbers(self) -> tuple[int, ...] | None:
        """The seeds that were given, each once, or None.

        Raises:
            UserError: one of them is not a whole number from 0.
        """
        if self.seeds is None:
            return None
        parts = [part.strip() for part in self.seeds.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise UserError(f"--seeds {self.seeds!r}: expected whole numbers in a comma list, such as 1,2,3")
        return tuple(dict.fromkeys(map(int, parts)))


def study(
    name: Annotated[str, Parameter(help="A shipped study, a YAML file, or list.")] = _LIST,
    *,
    flags: StudyFlags | None = None,
    jobs: Annotated[int, Parameter(help="Cells trained at once, each on its own share of the cores.")] = 1,
    loadtest: Annotated[bool, Parameter(negative="", help="Export, load-test and price the first seed too.")] = False,
    page: Annotated[Path | None, Parameter(help="Also write NAME.md and figures/ into this folder.")] = None,
    runs_dir: Annotated[Path, Parameter(help="Folder that holds the runs.")] = DEFAULT_RUNS_DIR,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of tables.")] = False,
) -> int:
    """Repeat a study of the literature: cells on several seeds, tables, figures and a finding per claim.

    Cells that are done already are kept, also those of other studies. Text of a page below a line
    '<!-- by hand -->' stays when the page is written again.

    Example: deploycost study bits --size small --dataset demo --jobs 2
    """
    flags = flags or StudyFlags()
    if name == _LIST:
        _refuse_alone(flags, {"--jobs": jobs != 1, "--loadtest": loadtest, "--page": page is not None})
        return _list(json)
    asked = find_study(name)
    request = StudyRequest(
        study=asked,
        size=flags.size,
        runs_dir=runs_dir,
        command=repeating_command(name, flags, jobs, loadtest),
        changes=flags.changes(),
        seeds=flags.seed_numbers(),
        jobs=jobs,
        load_test=loadtest,
    )
    record = run_study(request, say)
    _write_pages(asked, record, request.folder, page)
    if json:
        show_json(record.model_dump(mode="json"))
    else:
        _show(asked, record)
    _require_all(record)
    return 0


def _refuse_alone(flags: StudyFlags, others: dict[str, bool]) -> None:
    """Refuses flags that a list makes no use of, so that nobody takes it for a study that ran."""
    given = [flag_name(flag) for flag in fields(flags) if getattr(flags, flag.name) != flag.default]
    given += [name for name, is_given in others.items() if is_given]
    if given:
        raise UserError(f"{', '.join(given)}: only with the name of a study; 'deploycost study list' names them")


def _require_all(record: StudyRecord) -> None:
    failed = [result for result in record.results if result.error]
    if failed:
        raise NoAnswer(f"{len(failed)} of {len(record.results)} cells failed: {failed[0].name}: {failed[0].error}")


def _list(json: bool) -> int:
    studies = shipped_studies()
    if json:
        show_json(
            {"studies": [{"name": s.name, "question": s.question, "sizes": [FULL_SIZE, *s.sizes]} for s in studies]}
        )
        return 0
    table = Table("study", "question", "cells", "sizes", box=None)
    for each in studies:
        table.add_row(each.name, each.question, str(len(each.all_cells())), ", ".join([FULL_SIZE, *each.sizes]))
    show(table)
    return 0


def _write_pages(asked: StudyFile, record: StudyRecord, folder: Path, page: Path | None) -> None:
    from deploycost.reporting.study_page import write_page

    written = write_page(asked, record, folder / "page.md", folder / "figures")
    if page is not None:
        written += write_page(asked, record, page / f"{record.name}.md", page / "figures")
    say("written: " + ", ".join(str(path) for path in written if path.suffix == ".md"))


def _show(asked: StudyFile, record: StudyRecord) -> None:
    from deploycost.reporting.study_page import facts_of, findings_of, grids_of
    from deploycost.reporting.tables import draw

    facts = "\n".join(f"{name}: {told}" for name, told in facts_of(asked, record))
    findings = "\n".join(f"{verdict}: {told}" for verdict, told in findings_of(record))
    tables = [draw(grid, width()) for grid in grids_of(asked, record, _METRICS_AT_ONCE)]
    # Text, not str: what users named things is not markup.
    show(Text(facts), *tables, *([Text(findings)] if findings else []))


def repeating_command(name: str, flags: StudyFlags, jobs: int, loadtest: bool) -> str:
    """The command that repeats a study, with placeholders for folders and files of this machine."""
    words = ["deploycost study", Path(name).name]
    for flag in fields(flags):
        value = getattr(flags, flag.name)
        if value is None or value == flag.default:
            continue
        local = flag.name in ("model", "dataset") and user_path(value).exists()
        told = f"{Path(value).resolve().stem.upper().replace('-', '_')}_FOLDER" if local else value
        words += [flag_name(flag), str(told)]
    words += ["--jobs", str(jobs)] if jobs > 1 else []
    return " ".join([*words, *(["--loadtest"] if loadtest else [])])
