from collections import Counter

import pytest

from deploycost.projecting.fit import fit, left_out
from deploycost.projecting.fitted import Novelty, read_fitted
from deploycost.projecting.observations import shipped_observations


def test_the_shipped_table_is_what_the_script_gives() -> None:
    shipped = read_fitted()
    again = fit(shipped.parameters)
    assert again.parameters == shipped.parameters
    assert again.factors == shipped.factors
    assert again.widths == pytest.approx(shipped.widths, rel=0.01)


@pytest.mark.parametrize(("novelty", "most_median_error"), [("device", 0.35), ("runtime", 0.15), ("length", 0.15)])
def test_held_out_rows_are_within_the_promised_errors_and_intervals(novelty: Novelty, most_median_error: float) -> None:
    fitted = read_fitted()
    rows = left_out(fitted, shipped_observations(), novelty)
    errors = sorted(abs(2.718281828**row.error - 1) for row in rows)
    assert errors[len(errors) // 2] <= most_median_error
    held = Counter(
        abs(row.error) <= fitted.widths[f"{row.observation.setting.place.device.kind}/{novelty}"] * row.deviation
        for row in rows
    )
    assert 0.85 <= held[True] / len(rows) <= 0.95
