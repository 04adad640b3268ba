from __future__ import annotations

from collections.abc import Callable

from deploycost.records import TrainingMemory, TuningRecord, UnstableStep
from deploycost.reporting.training_grids import epochs, event_notes, training
from deploycost.units import MIB


def _cells(tuning: TuningRecord) -> dict[str, str]:
    grid = training([tuning])
    return dict(zip((column.header for column in grid.columns), grid.rows[0], strict=True))


def test_a_training_with_its_prediction(tuning_with: Callable[..., TuningRecord], memory: TrainingMemory) -> None:
    cells = _cells(tuning_with("lora", predicted_memory=memory, trainable_parameters=75_268, head_parameters=1_540))
    assert cells == {
        "method": "lora-r8",
        "training time": "20 min 00 s",
        "samples/s": "40.0",
        "tokens/s": "2,120",
        "step p50 ms": "200",
        "step p95 ms": "260",
        "peak MiB": "858",  # 900,000,000 / 1,048,576
        "over start MiB": "370",  # 850 - 480 of PSS
        "predicted MiB": "407",
        "error %": "+10",  # 407 / 370
        "trained": "73,728",
        "and head": "1,540",
    }


def test_without_samples_of_pss_resident_memory_is_compared(tuning_with: Callable[..., TuningRecord]) -> None:
    cells = _cells(tuning_with("full", baseline_pss_bytes=None, peak_pss_bytes=None, peak_memory_bytes=1500 * MIB))
    assert cells["over start MiB"] == "1,000"
    assert cells["predicted MiB"] == cells["error %"] == "?"


def test_on_a_gpu_the_allocator_counts(tuning_with: Callable[..., TuningRecord], memory: TrainingMemory) -> None:
    tuning = tuning_with("full", peak_gpu_memory_bytes=814 * MIB, predicted_memory=memory)
    cells = _cells(tuning)
    assert (cells["peak MiB"], cells["over start MiB"], cells["error %"]) == ("814", "814", "-50")
    assert any("allocator on the GPU" in note for note in training([tuning]).notes)


def test_energy_has_a_column_only_where_it_was_counted(tuning_with: Callable[..., TuningRecord]) -> None:
    assert "energy kJ" not in _cells(tuning_with())
    counted = tuning_with(energy_joules=12_345.0, energy_source="RAPL package 0")
    grid = training([tuning_with("lora"), counted])
    assert [row[-1] for row in grid.rows] == ["?", "12.3"]
    assert any("RAPL package 0" in note for note in grid.notes)


def test_stops_and_unstable_steps_are_told(tuning_with: Callable[..., TuningRecord]) -> None:
    steps = [UnstableStep(step=50 + n, remedy="damped", reason="gradient 30 times the usual") for n in range(6)]
    steps.insert(0, UnstableStep(step=7, remedy="undone", reason="the loss is not a number"))
    tuning = tuning_with("lora", resumed_at_steps=(120, 240), unstable_steps=tuple(steps))
    stopped, unstable = event_notes([tuning_with(), tuning])
    assert stopped == "lora-r8 was stopped and went on from its checkpoint at step 120, 240."
    assert unstable.startswith("lora-r8: 7 unstable steps (1 undone, 6 damped). step 7: the loss is not a number; ")
    assert unstable.endswith("; 2 more.")


def test_every_epoch_of_every_method(tuning_with: Callable[..., TuningRecord]) -> None:
    grid = epochs([tuning_with("full"), tuning_with("lora")])
    assert len(grid.rows) == 10
    # 0.892 - 0.04 / 2 after the second of five epochs, whose loss is 1 / 2.
    assert grid.rows[1] == ("full", "2", "0.500", "87.20", "87.10", "87.30", "87.20", "60.0")
