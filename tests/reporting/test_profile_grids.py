from __future__ import annotations

from collections.abc import Callable

from deploycost.records import ProfileRecord
from deploycost.reporting.profile_grids import profile, profiles, tables


def test_groups_by_phase_with_their_shares(profile_with: Callable[..., ProfileRecord]) -> None:
    grid = profile(profile_with())
    assert [column.header for column in grid.columns] == [
        "operators", "forward ms", "backward ms", "update ms", "together ms", "share %", "calls a step",
    ]  # fmt: skip
    assert grid.rows == (
        ("matmul", "20.0", "40.0", "0", "60.0", "60.0", "108"),
        ("attention", "10.0", "0", "0", "10.0", "10.0", "6.00"),
        ("optimiser", "0", "0", "5.00", "5.00", "5.0", "1.00"),
        ("other", "0", "25.0", "0", "25.0", "25.0", "300"),
        ("all", "30.0", "65.0", "5.00", "100", "100.0", "415"),
    )
    assert "lora-r8/profile/trace.json.gz" in grid.notes[1]


def test_where_qlora_loses_time_is_told_in_words(profile_with: Callable[..., ProfileRecord]) -> None:
    grid = profiles([profile_with("full"), profile_with("qlora", 35.0), profile_with("lora")])
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["quantisation"] == ("0", "35.0", "0")
    assert rows["in forward"] == ("30.0", "65.0", "30.0")
    assert rows["all"] == ("100", "135", "100")
    assert "A step of qlora-r8 takes 35.0 ms more than one of lora-r8: quantisation +35.0." in grid.notes
    assert "A step of full takes 0 ms less than one of lora-r8: the same in every group." in grid.notes


def test_one_profile_is_not_compared(profile_with: Callable[..., ProfileRecord]) -> None:
    assert tables([]) == ()
    assert len(tables([profile_with()])) == 1
    assert len(tables([profile_with(), profile_with("qlora", 1.0)])) == 3


def test_a_profile_without_operators_divides_by_nothing(profile_with: Callable[..., ProfileRecord]) -> None:
    assert profile(profile_with(times=())).rows == (("all", "0", "0", "0", "0", "?", "0"),)
