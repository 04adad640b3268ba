"""The steps that the training benchmark times: after a warm-up, each end once."""

import pytest

from benchmarks import training
from benchmarks.training import _table
from benchmarks.training_piece import StepTimer


def test_what_comes_after_training_moves_no_end() -> None:
    timer = StepTimer(warm_up_steps=1, steps=3)
    for step in (1, 2, 3):
        timer.step_ended(step)
    before = timer.durations_s
    assert before[0] > 0
    timer.step_ended(1)  # the judging that follows, as the first of one step
    assert timer.durations_s == before


@pytest.mark.parametrize(("warm_up_steps", "steps"), [(0, 3), (3, 3)])
def test_a_start_that_is_no_step_is_refused(warm_up_steps: int, steps: int) -> None:
    with pytest.raises(ValueError, match="warm-up steps of 3"):
        StepTimer(warm_up_steps, steps)


def test_no_warm_up_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["training", "--warm-up-steps", "0"])
    with pytest.raises(SystemExit):
        training.main()
    assert "--warm-up-steps 0: expected 1 or more" in capsys.readouterr().err


def test_every_cell_of_the_table_has_a_heading() -> None:
    side = {"samples_per_s": 1.0, "tokens_per_s": 2.0, "peak_memory_bytes": 3.0}
    ratio = {"value": 1.0, "low": None, "high": None}
    names = ("samples_per_s", "samples_per_core_s", "peak_memory_bytes")
    row = {"method": "full", "peer": "full", "ours": side, "plain": side, "ratios": dict.fromkeys(names, ratio)}
    table = _table([row])
    assert [column.header for column in table.columns][5:7] == ["faster by", "by core time"]
    assert all(column.header for column in table.columns)
