"""Energy and graphics memory as the machine itself counts them, and power by a stated assumption where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from deploycost.energy_counter import POWERCAP, GpuCounter, PackageCounter
from deploycost.records import Figure, PowerUse

# Thermal design power over physical cores of processors that clouds rent out: 240 W / 24, 300 / 32, 350 / 48, 350 / 44,
# 280 / 48, 280 / 48, 360 / 96; makers' data sheets and Karpenter's instance labels, read in July 2026.
WATTS_PER_CORE = {
    "8275CL": 10.0, "8375C": 9.4, "8488C": 7.3, "8481C": 8.0, "7R32": 5.8, "7R13": 5.8, "9R14": 3.8,
}  # fmt: skip


class GpuMeter:
    """Energy of the first usable GPU by its driver, and the memory that processes hold on it.

    Raises:
        pynvml.NVMLError: there is no driver or no GPU, or it counts no energy.
    """

    def __init__(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        place = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        by_number = place.isdecimal()
        self._nvml = pynvml
        self._gpu = (
            pynvml.nvmlDeviceGetHandleByIndex(int(place)) if by_number else pynvml.nvmlDeviceGetHandleByUUID(place)
        )
        self._energy = GpuCounter(self._gpu)

    def joules(self) -> float:
        """Energy since this was made."""
        return self._energy.joules()

    def memory_bytes(self, pids: Iterable[int]) -> int:
        """What the processes hold on the GPU."""
        wanted = set(pids)
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._gpu)
        return sum(process.usedGpuMemory or 0 for process in running if process.pid in wanted)


def gpu_meter() -> GpuMeter | None:
    """The GPU's meter, or None where no GPU may be used."""
    import pynvml

    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return None
    try:
        return GpuMeter()
    except pynvml.NVMLError:
        return None


def package_meter(folder: Path = POWERCAP) -> PackageCounter | None:
    """The packages' meter, or None where the system has none or shows it to the administrator only."""
    try:
        return PackageCounter(folder)
    except (OSError, ValueError):
        return None


def measured_power(watts: float, source: str, answers_per_s: float, idle_watts: float | None = None) -> PowerUse:
    """Power as a counter told it, of all that the counter covers, at work and before it."""
    return PowerUse(
        watts=Figure(value=watts),
        joules_per_request=Figure(value=watts / answers_per_s if answers_per_s else None),
        source=source,
        idle_watts=None if idle_watts is None else Figure(value=idle_watts),
    )


def assumed_power(cpu_model: str, cores_in_use: float, answers_per_s: float) -> PowerUse:
    """Power of the cores in use, taken to draw their share of a processor's thermal design power.

    The interval is the range over the processors known; memory, fans and the idle rest of the machine are not in it.
    """
    known = next((watts for name, watts in WATTS_PER_CORE.items() if name in cpu_model), None)
    each = known if known is not None else median(WATTS_PER_CORE.values())
    least, most = min(WATTS_PER_CORE.values()), max(WATTS_PER_CORE.values())
    whose = "of this processor" if known is not None else "of rented processors at the median"

    def figure(unit: float) -> Figure:
        return Figure(value=each * unit, low=least * unit, high=most * unit, basis="assumed")

    per_request = figure(cores_in_use / answers_per_s) if answers_per_s else Figure(value=None, basis="assumed")
    return PowerUse(
        watts=figure(cores_in_use),
        joules_per_request=per_request,
        source=f"assumed: {cores_in_use:.2f} cores in use at {each:.1f} W each, the design power per core {whose}",
    )
