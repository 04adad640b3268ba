from math import expm1
from statistics import median

import pytest

from deploycost.projecting.evidence_base import evidence_of
from deploycost.projecting.fit import WAYS, LeftOut, fit, groups_of, left_out
from deploycost.projecting.fitted import Novelty, read_fitted
from deploycost.projecting.observations import shipped_observations


@pytest.fixture(scope="module")
def rows() -> list[LeftOut]:
    fitted, observations = read_fitted(), shipped_observations()
    return [row for way in WAYS for row in left_out(fitted, observations, way)]


def test_the_shipped_table_is_what_the_script_gives() -> None:
    shipped = read_fitted()
    again = fit(shipped.parameters)
    assert again.parameters == shipped.parameters
    assert again.factors == shipped.factors
    assert again.widths == pytest.approx(shipped.widths, rel=0.01)


def test_groups_part_the_evidence() -> None:
    settings = evidence_of(shipped_observations()).settings
    for groups in groups_of(settings).values():
        assert sorted(number for group in groups for number in group) == list(range(len(settings)))


@pytest.mark.parametrize(("novelty", "most_median_error"), [("device", 0.35), ("runtime", 0.20), ("length", 0.15)])
def test_rows_left_out_are_within_the_promised_errors(
    rows: list[LeftOut], novelty: Novelty, most_median_error: float
) -> None:
    """The target within a known device is 15 % over lengths and runtimes together: see the next test."""
    errors = [abs(expm1(-row.error)) for row in rows if row.novelty == novelty]
    assert len(errors) > 500
    assert median(errors) <= most_median_error


def test_rows_left_out_on_a_known_device_are_within_the_target(rows: list[LeftOut]) -> None:
    known = [row for row in rows if row.novelty != "device"]
    assert median(abs(expm1(-row.error)) for row in known) <= 0.15


@pytest.mark.parametrize("novelty", ["device", "runtime", "length"])
def test_intervals_hold_nine_in_ten_of_what_was_left_out(rows: list[LeftOut], novelty: Novelty) -> None:
    widths = read_fitted().widths
    held = [abs(row.error) <= widths[row.kind] * row.deviation for row in rows if row.novelty == novelty]
    assert 0.85 <= sum(held) / len(held) <= 0.95
