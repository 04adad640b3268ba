"""What artifacts did to answers, and the verdicts that come of it."""

from collections.abc import Callable
from typing import Any

import pytest

from deploycost.records import AccuracyDrop, Variant
from deploycost.reporting import artifact_grids


@pytest.mark.parametrize(
    ("limit", "verdict"), [(0.01, "kept"), (0.005, "FLAGGED: above 0.5"), (0.001, "REFUSED NOW: above 0.1")]
)
@pytest.mark.parametrize("measure", ["accuracy", "explained variance"])
def test_a_verdict_is_told_by_the_limit_of_the_record(
    make_variant: Callable[..., Variant], measure: Any, limit: float, verdict: str
) -> None:
    drop = AccuracyDrop(measure=measure, value=0.009, low=0.002, high=0.016, lost_rows=12, won_rows=3, limit=limit)
    variant = make_variant()
    judged = variant.model_copy(update={"export": variant.export.model_copy(update={"accuracy_drop": drop})})
    grid = artifact_grids.fidelity([judged])
    assert grid.rows[0][3:5] == ("0.90", "0.20 to 1.60")
    assert grid.rows[0][-1] == verdict
    assert "of a number: points of explained variance (R2)" in grid.notes[0]
