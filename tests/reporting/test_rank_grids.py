from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.records import RankDecision, RankHistory, TuningRecord
from deploycost.reporting.rank_grids import decisions, rank_map, short_names


def test_the_decisions_that_changed_most_come_in_their_order(
    tuning_with: Callable[..., TuningRecord], ranks: RankHistory
) -> None:
    tuning = tuning_with("lora", ranks=ranks)
    assert decisions(tuning, limit=2).rows == (
        ("10", "0.query", "0.00400", "6", "4", "least"),
        ("20", "1.query", "0.00100", "6", "2", "least"),
    )
    assert "1 decision that changed less is not shown: report.html holds them all." in decisions(tuning, 2).notes
    assert len(decisions(tuning, limit=None).rows) == 3


def test_the_outcome_is_told_in_a_line(tuning_with: Callable[..., TuningRecord], ranks: RankHistory) -> None:
    (note,) = decisions(tuning_with("lora", ranks=ranks)).notes
    assert note == (
        "Total rank 18 at the start, 13 at the end within 2 GiB, over 3 matrices: "
        "most for 0.value (6), least for 1.query (2)."
    )


def test_a_history_without_decisions_says_so(tuning_with: Callable[..., TuningRecord], ranks: RankHistory) -> None:
    still = ranks.model_copy(update={"decisions": (), "memory_budget_bytes": None})
    assert decisions(tuning_with(ranks=still)).title.endswith(": none")
    with pytest.raises(ValueError, match="no ranks"):
        decisions(tuning_with())


def test_the_map_holds_each_rank_until_it_is_changed(ranks: RankHistory) -> None:
    shown = rank_map(ranks)
    assert shown.matrices == ("0.query", "0.value", "1.query")
    assert shown.steps == (0, 10, 20)
    assert shown.ranks == ((6, 4, 5), (6, 6, 6), (6, 6, 2))


@given(st.dictionaries(st.tuples(st.integers(1, 40), st.sampled_from("abc")), st.integers(0, 9), max_size=20))
def test_the_map_ends_at_the_last_decision_of_each_matrix(changes: dict[tuple[int, str], int]) -> None:
    final = dict.fromkeys("abc", 9)
    made = []
    for (step, name), rank in sorted(changes.items()):
        before, final[name] = final[name], rank
        made.append(RankDecision(step=step, layer=name, importance=0.0, rank_before=before, rank_after=rank, reason=""))
    history = RankHistory(
        memory_budget_bytes=None, initial_total_rank=27, final_total_rank=0, decisions=tuple(made), final_ranks=final
    )
    shown = rank_map(history)
    assert [row[0] for row in shown.ranks] == [9, 9, 9]
    assert {name: row[-1] for name, row in zip(shown.matrices, shown.ranks, strict=True)} == final


def test_names_keep_only_what_tells_them_apart() -> None:
    names = ["encoder.layer.0.q", "encoder.layer.11.q", "encoder.layer.0.v"]
    assert list(short_names(names).values()) == ["0.q", "11.q", "0.v"]
    assert short_names(["a.b", "a.b.c"]) == {"a.b": "a.b", "a.b.c": "a.b.c"}
    assert short_names(["layer.0"]) == {"layer.0": "layer.0"}
    assert short_names([]) == {}


def test_tiny_importances_have_an_exponent(tuning_with: Callable[..., TuningRecord], ranks: RankHistory) -> None:
    tiny = ranks.decisions[0].model_copy(update={"importance": 8.67e-11})
    told = decisions(tuning_with(ranks=ranks.model_copy(update={"decisions": (tiny,)})))
    assert told.rows[0][2] == "8.7e-11"
