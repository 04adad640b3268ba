"""What training costs the machine: only training is timed, and memory is the kernel's own figure."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deploycost.tuning import telemetry
from deploycost.tuning.telemetry import StepClock, peak_memory_bytes, resident_memory_bytes


def test_only_epochs_are_timed_and_not_what_is_done_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0

    def pass_time(ms: float) -> None:
        nonlocal now_ns
        now_ns += round(ms * 1_000_000)

    monkeypatch.setattr(telemetry, "perf_counter_ns", lambda: now_ns)
    judged: list[float] = []
    steps: list[tuple[int, int]] = []

    def judge(epoch: float) -> None:
        judged.append(epoch)
        pass_time(5000)

    clock = StepClock(after_epoch=judge, on_step=lambda done, steps_in_all: steps.append((done, steps_in_all)))
    state: Any = SimpleNamespace(global_step=0, max_steps=4, epoch=0.0)
    for epoch, durations in enumerate([(10, 20), (30, 40)], start=1):
        clock.on_epoch_begin(None, state, None)
        for duration in durations:
            pass_time(3)  # loading the batch
            clock.on_step_begin(None, state, None)
            pass_time(duration)
            state.global_step += 1
            clock.on_step_end(None, state, None)
        state.epoch = float(epoch)
        clock.on_epoch_end(None, state, None)
    assert clock.training_s == pytest.approx((10 + 20 + 30 + 40 + 4 * 3) / 1000)
    assert clock.step_ms(50) == pytest.approx(25)
    assert clock.step_ms(100) == pytest.approx(40)
    assert judged == [1.0, 2.0]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_peak_stays_after_memory_was_given_back() -> None:
    before = resident_memory_bytes()
    assert 0 < before <= peak_memory_bytes()
    block = np.ones(200 * 1024**2, dtype=np.uint8)
    assert resident_memory_bytes() >= before + 150 * 1024**2
    del block
    assert resident_memory_bytes() < before + 100 * 1024**2
    assert peak_memory_bytes() >= before + 150 * 1024**2
