"""What a report says of models that were brought, and that it calls nothing an accuracy that is none."""

from collections.abc import Callable
from typing import Any

from deploycost.records import MultiLabelScores, RegressionScores, Variant
from deploycost.reporting import brought_grids, grids
from deploycost.reporting.tables import model_tables, render, score_tables

NUMBERS = RegressionScores(mse=0.25, mae=0.4, pearson=0.9, spearman=None, rows=10)


def test_models_that_were_brought(make_brought: Callable[..., Variant], make_variant: Callable[..., Variant]) -> None:
    assert brought_grids.models([make_variant()]) is None
    grid = brought_grids.models([make_brought(), make_brought("own.onnx-fp32"), make_variant()])
    assert grid is not None
    ((name, brought_as, architecture, task, labels, tokens, parameters, digest),) = grid.rows
    assert (name, brought_as, task, labels, tokens) == ("own", "classifier (model)", "single-label", "2", "64")
    assert (architecture, parameters, digest) == ("BertForSequenceClassification", "1.00", "d" * 16)
    assert "own: a note." in grid.notes
    assert any("accuracy is unknown" in note for note in grid.notes)


def test_numbers_have_errors_and_no_accuracy(make_brought: Callable[..., Variant]) -> None:
    variants = (make_brought(scores=NUMBERS, task="regression"),)
    (grid,) = brought_grids.scores(variants)
    assert [row[0] for row in grid.rows] == ["own itself", "own.onnx-int8"]
    assert grid.rows[1][1:] == ("0.250", "0.400", "0.900", "?", "10")
    assert grids.artifacts(variants).rows[0][1] == "?"
    assert "accuracy" not in render(score_tables(variants)[0])
    assert len(model_tables(variants, None)) == 1  # no table of methods


def test_several_labels_have_whole_answers(make_brought: Callable[..., Variant]) -> None:
    shares: dict[str, Any] = dict.fromkeys(("precision", "recall", "micro_precision", "micro_recall"), 0.5)
    scores = MultiLabelScores(accuracy=0.25, macro_f1=0.6, micro_f1=0.7, rows=8, **shares)
    (grid,) = brought_grids.scores([make_brought(scores=scores, task="multi-label")])
    assert grid.rows[1] == ("own.onnx-int8", "25.00", "70.00", "60.00", "50.00", "50.00", "8")
