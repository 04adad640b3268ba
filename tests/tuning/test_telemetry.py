"""What training costs in time, and the loss it comes to: only training is timed, and pieces add up."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch  # noqa: TID253 - tests what is made of the framework

from deploycost.tuning import telemetry
from deploycost.tuning.telemetry import LossMeter, StepClock


class Stopwatch:
    """Stands in for the system's clock."""

    def __init__(self) -> None:
        self.now_ns = 0

    def pass_time(self, ms: float) -> None:
        self.now_ns += round(ms * 1_000_000)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr(telemetry, "perf_counter_ns", lambda: watch.now_ns)
    return watch


def _step(clock: StepClock, stopwatch: Stopwatch, state: Any, ms: float, loading_ms: float = 3) -> None:
    stopwatch.pass_time(loading_ms)
    clock.on_step_begin(None, state, None)
    stopwatch.pass_time(ms)
    state.global_step += 1
    clock.on_step_end(None, state, None)


def test_only_epochs_are_timed_and_not_what_is_done_between_them(stopwatch: Stopwatch) -> None:
    judged: list[float] = []
    steps: list[tuple[int, int]] = []

    def judge(epoch: float) -> None:
        judged.append(epoch)
        stopwatch.pass_time(5000)

    clock = StepClock(after_epoch=judge, on_step=lambda done, steps_in_all: steps.append((done, steps_in_all)))
    state: Any = SimpleNamespace(global_step=0, max_steps=4, epoch=0.0)
    for epoch, durations in enumerate([(10, 20), (30, 40)], start=1):
        clock.on_epoch_begin(None, state, None)
        for duration in durations:
            _step(clock, stopwatch, state, duration)
        state.epoch = float(epoch)
        clock.on_epoch_end(None, state, None)
    assert clock.epoch_s == pytest.approx([0.036, 0.076])
    assert clock.training_s == pytest.approx((10 + 20 + 30 + 40 + 4 * 3) / 1000)
    assert clock.step_ms(50) == pytest.approx(25)
    assert clock.step_ms(100) == pytest.approx(40)
    assert judged == [1.0, 2.0]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_training_in_pieces_adds_up_and_pauses_do_not_count(stopwatch: Stopwatch) -> None:
    state: Any = SimpleNamespace(global_step=0, max_steps=4, epoch=0.0)

    def fresh() -> StepClock:
        return StepClock(lambda _: None, lambda *_: None)

    first = fresh()
    first.on_epoch_begin(None, state, None)
    _step(first, stopwatch, state, 10)
    with first.paused():
        stopwatch.pass_time(700)
        kept = first.state_dict()
    _step(first, stopwatch, state, 99)  # lost when it is killed
    second = fresh()
    second.load_state_dict(kept)
    second.on_epoch_begin(None, state, None)
    _step(second, stopwatch, state, 20)
    with second.paused():
        stopwatch.pass_time(700)
    _step(second, stopwatch, state, 30)
    second.on_epoch_end(None, state, None)
    assert second.epoch_s == pytest.approx([(10 + 20 + 30 + 3 * 3) / 1000])
    assert second.step_ms(50) == pytest.approx(20)


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    meter = LossMeter()
    for loss in (1.0, 2.0, 6.0):
        meter.add(torch.tensor(loss))
    assert meter.take() == pytest.approx(3)
    meter.add(torch.tensor(5.0))
    meter.add(torch.tensor(float("nan")))
    meter.add(torch.tensor(float("inf")))
    again = LossMeter()
    again.load_state_dict(meter.state_dict())
    again.add(torch.tensor(7.0))
    assert again.take() == pytest.approx(6)
    assert again.take() is None
