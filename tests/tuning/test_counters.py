"""Counters of the machine: memory is the kernel's own figure, and energy comes only from a counter that is there."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pynvml
import pytest
import torch  # noqa: TID253 - tests what is made of the framework

from deploycost.tuning import counters
from deploycost.tuning.counters import (
    GpuDriver,
    Watch,
    find_energy_meter,
    gpu_uuid,
    peak_memory_bytes,
    proportional_memory_bytes,
    resident_memory_bytes,
)
from deploycost.units import MIB


class Memory:
    """Memory as a test says: a real process may shrink at any moment, as garbage goes or its system reclaims pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.peak_bytes = 500 * MIB
        self.dear_looks = 0
        monkeypatch.setattr(counters, "resident_memory_bytes", lambda: self.bytes)
        monkeypatch.setattr(counters, "peak_memory_bytes", lambda: self.peak_bytes)
        monkeypatch.setattr(counters, "restart_peak", lambda: self.set(self.bytes))
        monkeypatch.setattr(counters, "proportional_memory_bytes", self._proportional)

    def set(self, to_bytes: int) -> None:
        """Memory is so much, and so is its high-water mark."""
        self.bytes = self.peak_bytes = to_bytes

    def grow(self, by_bytes: int) -> None:
        """More of it is in use, and stays so for as long as any sampling takes."""
        self.bytes += by_bytes
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        time.sleep(0.1)

    def _proportional(self) -> int:
        self.dear_looks += 1
        return self.bytes


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def test_proportional_memory_counts_own_pages_whole() -> None:
    block = np.ones(200 * MIB, dtype=np.uint8)
    proportional = proportional_memory_bytes()
    assert proportional is not None
    assert block.nbytes < proportional <= resident_memory_bytes() + 100 * MIB


def test_the_peak_stays_after_memory_was_given_back() -> None:
    before = resident_memory_bytes()
    assert 0 < before <= peak_memory_bytes()
    block = np.ones(500 * MIB, dtype=np.uint8)
    assert resident_memory_bytes() >= before + 300 * MIB
    del block
    assert resident_memory_bytes() < before + 200 * MIB
    assert peak_memory_bytes() >= before + 300 * MIB


def test_samples_see_a_peak_but_for_one_in_a_pause(memory: Memory) -> None:
    watch = Watch(gpu=False, interval_s=0.01)
    with watch:
        with watch.paused():
            memory.grow(300 * MIB)
            memory.bytes -= 300 * MIB
        memory.grow(100 * MIB)
        memory.bytes -= 100 * MIB
    readings = watch.readings
    assert (readings.baseline_pss_bytes, readings.peak_pss_bytes) == (500 * MIB, 600 * MIB)
    assert (readings.baseline_memory_bytes, readings.peak_memory_bytes) == (500 * MIB, 600 * MIB)
    assert readings.peak_gpu_nvml_bytes is None


def test_the_dear_counter_is_read_at_new_heights_only(memory: Memory) -> None:
    watch = Watch(gpu=False, interval_s=0.005)
    with watch:
        for _ in range(3):
            memory.grow(50 * MIB)
    assert memory.dear_looks == 1 + 3, "of some sixty samples"
    assert (watch.readings.baseline_pss_bytes, watch.readings.peak_pss_bytes) == (500 * MIB, 650 * MIB)


def test_peaks_of_all_pieces_count_and_the_first_baseline() -> None:
    watch = Watch(gpu=False)
    kept = watch.state_dict() | {"baseline_pss_bytes": 5, "peak_pss_bytes": 1 << 50, "peak_memory_bytes": 7}
    watch.load_state_dict(kept)
    assert watch.readings.baseline_pss_bytes == 5
    assert watch.readings.peak_pss_bytes == 1 << 50
    assert watch.readings.peak_memory_bytes > 7


def _domain(powercap: Path, microjoules: int) -> Path:
    domain = powercap / "intel-rapl:0"
    domain.mkdir(parents=True)
    (domain / "name").write_text("package-0\n")
    (domain / "energy_uj").write_text(f"{microjoules}\n")
    (domain / "max_energy_range_uj").write_text("1000000\n")
    return domain


def test_energy_is_told_from_one_look_to_the_next(tmp_path: Path) -> None:
    domain = _domain(tmp_path, 900_000)
    meter, source = find_energy_meter(None, tmp_path)
    assert meter is not None
    assert source == "RAPL, processor packages"
    (domain / "energy_uj").write_text("100000\n")  # full at 1 J, and begun anew
    assert meter.spent_joules() == pytest.approx(0.2)
    assert meter.spent_joules() == 0
    (domain / "energy_uj").write_text("350000\n")
    assert meter.spent_joules() == pytest.approx(0.25)


def test_without_a_counter_it_is_said(tmp_path: Path) -> None:
    assert find_energy_meter(None, tmp_path) == (None, "no counter")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_counter_that_is_not_ours_to_read_is_said(tmp_path: Path) -> None:
    (_domain(tmp_path, 1) / "energy_uj").chmod(0)
    meter, why = find_energy_meter(None, tmp_path)
    assert meter is None
    assert why.startswith("no counter that this user may read")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for the driver of a GPU, which the machine of the tests need not have."""
    told = SimpleNamespace(processes=[], millijoules=5_000)
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: told.processes,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: told.millijoules,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return told


def test_the_driver_counts_this_process_alone(driver: SimpleNamespace) -> None:
    gpu = GpuDriver("GPU-1")
    assert gpu.memory_bytes() is None
    other, own = (SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in ((1, 7), (os.getpid(), 9)))
    driver.processes = [other, own]
    assert gpu.memory_bytes() == 9
    driver.processes = [other]  # the only one there is this one, counted by the host
    assert gpu.memory_bytes() == 7
    driver.processes = [other, SimpleNamespace(pid=2, usedGpuMemory=8)]
    assert gpu.memory_bytes() is None


def test_the_energy_of_a_gpu_is_the_difference_of_its_counter(driver: SimpleNamespace) -> None:
    meter, source = find_energy_meter(GpuDriver("GPU-1"))
    assert meter is not None
    assert source == "NVML, the whole GPU"
    driver.millijoules = 7_500
    assert meter.spent_joules() == pytest.approx(2.5)


@pytest.fixture
def torch_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for torch's GPU, the second of the machine."""
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_properties": lambda _: SimpleNamespace(uuid="0a-second"),
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 77,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)


def test_the_driver_is_asked_of_the_gpu_that_torch_computes_on(
    driver: SimpleNamespace, torch_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", asked.append)
    driver.processes = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=9)]
    with Watch(gpu=True) as watch:
        pass
    assert asked == [gpu_uuid()] == ["GPU-0a-second"]
    assert (watch.readings.peak_gpu_nvml_bytes, watch.readings.peak_gpu_memory_bytes) == (9, 77)


def test_a_gpu_whose_driver_does_not_answer_is_still_watched_by_torch(
    torch_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with Watch(gpu=True) as watch:
        pass
    assert watch.energy_source == "no counter (the GPU's driver library does not answer)"
    assert watch.readings.energy_joules is None
    assert (watch.readings.peak_gpu_nvml_bytes, watch.readings.peak_gpu_memory_bytes) == (None, 77)
