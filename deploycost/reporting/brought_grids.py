"""The tables of models that were brought: what they are, and scores that are not a share of right answers."""

from __future__ import annotations

from collections.abc import Sequence

from deploycost.records import AnyScores, BroughtRecord, MultiLabelScores, RegressionScores, Variant
from deploycost.reporting.grid import Column, Grid
from deploycost.reporting.wording import UNKNOWN_MARK, number, percent_number

_MODEL_COLUMNS = (
    Column("model", text=True),
    Column("brought as", text=True),
    Column("architecture", text=True, below=True),
    Column("task", text=True),
    Column("labels", below=True),
    Column("most tokens"),
    Column("parameters M", "params M", below=True),
    Column("digest", text=True, wide=True),
)
_SEVERAL_COLUMNS = (
    Column("variant", text=True),
    Column("whole answers right %", "whole\n%"),
    Column("micro F1 %", "micro\nF1 %"),
    Column("macro F1 %", "macro\nF1 %"),
    Column("precision %", "prec.\n%"),
    Column("recall %", "recall\n%"),
    Column("rows"),
)
_NUMBER_COLUMNS = (
    Column("variant", text=True),
    Column("mean squared error", "MSE"),
    Column("mean absolute error", "MAE"),
    Column("Pearson"),
    Column("Spearman"),
    Column("rows"),
)


def brought_models(variants: Sequence[Variant]) -> tuple[BroughtRecord, ...]:
    """Each brought model once, in the order of its first artifact."""
    models = {each.tuning.slug: each.tuning for each in variants if isinstance(each.tuning, BroughtRecord)}
    return tuple(models.values())


def models(variants: Sequence[Variant]) -> Grid | None:
    """Each model that was brought: what it is and what had to be settled; None where none was."""
    brought = brought_models(variants)
    if not brought:
        return None
    rows = tuple(
        (
            model.slug,
            f"{model.kind} ({model.source})",
            model.architecture,
            model.task,
            str(len(model.label_names)),
            str(model.max_tokens),
            number(model.total_parameters / 1e6),
            model.digest[:16],
        )
        for model in brought
    )
    notes = [f"{model.slug}: {note}." for model in brought for note in model.notes]
    notes += [
        f"{model.slug}: no labelled texts, so accuracy is unknown; artifacts are held against the model's own answers."
        for model in brought
        if model.scores is None
    ]
    return Grid("Models that were brought", _MODEL_COLUMNS, rows, (*notes, "What training took is not known."))


def scores(variants: Sequence[Variant]) -> tuple[Grid, ...]:
    """How right each artifact is whose answers are several labels, or numbers; the model itself before them."""
    several: list[tuple[str, ...]] = []
    numbers: list[tuple[str, ...]] = []
    told: list[tuple[str, AnyScores]] = []
    for model in brought_models(variants):
        own = [each for each in variants if each.tuning.slug == model.slug]
        told += [(f"{model.slug} itself", model.scores), *((each.name, each.export.scores) for each in own)]
    for name, each in told:
        if isinstance(each, MultiLabelScores):
            several.append(_several_row(name, each))
        elif isinstance(each, RegressionScores):
            numbers.append(_number_row(name, each))
    grids = []
    if several:
        note = "whole: texts that get exactly their labels. Precision and recall are means over labels (macro)."
        grids.append(Grid("Scores, each label for itself", _SEVERAL_COLUMNS, tuple(several), (note,)))
    if numbers:
        note = f"Errors are in the unit of the number; {UNKNOWN_MARK}: no correlation, as the numbers are all the same."
        grids.append(Grid("Scores of the numbers", _NUMBER_COLUMNS, tuple(numbers), (note,)))
    return tuple(grids)


def _several_row(name: str, each: MultiLabelScores) -> tuple[str, ...]:
    shares = (each.accuracy, each.micro_f1, each.macro_f1, each.precision, each.recall)
    return (name, *(percent_number(share, 2) for share in shares), f"{each.rows:,}")


def _number_row(name: str, each: RegressionScores) -> tuple[str, ...]:
    return (name, *(number(value) for value in (each.mse, each.mae, each.pearson, each.spearman)), f"{each.rows:,}")
