"""Counters of the machine while it trains: proportional memory, GPU memory by the driver, and energy.

They are sampled in a thread, five times a second. Proportional memory is the dear one: `/proc/self/smaps_rollup` walks
every page, 10 to 30 ms of CPU time for each GB. So it is read only when resident memory, which the kernel counts anyway
and tells in a tenth of a millisecond, stands higher than at all readings before: a dozen times or so in a training. The
kernel's own high-water mark of resident memory stands beside the samples: it misses no peak between two of them, and
does not fall when another process maps the same files, as proportional memory does.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any

import pynvml
import torch

from deploycost.energy_counter import NVML, POWERCAP, RAPL, EnergyCounter, GpuCounter, PackageCounter
from deploycost.units import MIB

INTERVAL_S = 0.2
# A new height of resident memory that is worth a look.
_NOTABLE_BYTES = 1 * MIB
NO_COUNTER = "no counter"
_ROLLUP = Path("/proc/self/smaps_rollup")
# A 5 written here resets the mark: proc(5).
_MARKS = Path("/proc/self/clear_refs")


def resident_memory_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return _status_bytes("VmRSS") or peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most memory of this process that has been in RAM, ever or since `restart_peak`.

    From the kernel's own high-water mark, which no sampling can miss. `ru_maxrss` is the fallback: on Linux it would
    count the parent's memory too, as it survives `exec`.
    """
    mark = _status_bytes("VmHWM")
    if mark:
        return mark
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def restart_peak() -> None:
    """Has the kernel's high-water mark begin anew at what is in RAM now; where it will not, the mark goes on."""
    with suppress(OSError):
        _MARKS.write_text("5", encoding="ascii")


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def proportional_memory_bytes() -> int | None:
    """Proportional set size of this process: its own pages, and its share of those it has in common; None if untold."""
    try:
        rollup = _ROLLUP.read_text(encoding="ascii")
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


class Spending:
    """What a counter of energy counts from one look to the next."""

    def __init__(self, counter: EnergyCounter) -> None:
        self._counter, self._last = counter, counter.joules()

    def spent_joules(self) -> float:
        """Energy since the last call; since this was made at the first."""
        reading = self._counter.joules()
        spent, self._last = reading - self._last, reading
        return spent


def gpu_uuid() -> str | None:
    """How the driver knows the GPU that torch computes on, as in `GPU-01234567-...`; None where there is none.

    Numbers would not do: `CUDA_VISIBLE_DEVICES` and the order of devices are torch's matter and not the driver's.
    """
    if not torch.cuda.is_available():
        return None
    told = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return told if told.startswith(("GPU-", "MIG-")) else f"GPU-{told}"


class GpuDriver:
    """What the driver tells of a GPU.

    Raises:
        pynvml.NVMLError: there is no driver, or it does not know the GPU.
    """

    def __init__(self, uuid: str) -> None:
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def memory_bytes(self) -> int | None:
        """GPU memory of this process, its context included; None where the driver does not tell."""
        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except pynvml.NVMLError:
            return None
        own = [process for process in processes if process.pid == os.getpid()]
        # In a container the driver counts processes by the host's numbers: one that is alone there must be this one.
        (process,) = own or (processes if len(processes) == 1 else [None])
        used = process.usedGpuMemory if process is not None else None
        return int(used) if used is not None else None

    def energy(self) -> GpuCounter:
        """Its counter of energy, which begins now.

        Raises:
            pynvml.NVMLError: the GPU has no such counter.
        """
        return GpuCounter(self._handle)


def find_energy_meter(gpu: GpuDriver | None, powercap: Path = POWERCAP) -> tuple[Spending | None, str]:
    """The energy counter of what trains, and its source; without one, None and why."""
    if gpu is not None:
        try:
            return Spending(gpu.energy()), NVML
        except pynvml.NVMLError:
            return None, f"{NO_COUNTER} (the GPU has none)"
    try:
        return Spending(PackageCounter(powercap)), RAPL
    except PermissionError:
        return None, f"{NO_COUNTER} that this user may read ({powercap}/intel-rapl:*/energy_uj)"
    except (OSError, ValueError):
        return None, NO_COUNTER


def _driver() -> GpuDriver | None:
    uuid = gpu_uuid()
    try:
        return GpuDriver(uuid) if uuid is not None else None
    except pynvml.NVMLError:
        return None


@dataclass
class Readings:
    """Memory and energy so far; baselines are of the process before the model was loaded.

    By the kernel's mark, by samples, by torch's allocator and by the driver, in this order.
    """

    baseline_memory_bytes: int
    peak_memory_bytes: int
    baseline_pss_bytes: int | None
    peak_pss_bytes: int | None
    peak_gpu_memory_bytes: int | None = None
    peak_gpu_nvml_bytes: int | None = None
    energy_joules: float | None = None


class Watch:
    """Samples the counters in a thread while the context lasts, except while paused.

    Make it before the model is loaded: the baselines are read then.
    """

    def __init__(self, *, gpu: bool, interval_s: float = INTERVAL_S) -> None:
        self._on_gpu, self._gpu = gpu, _driver() if gpu else None
        if gpu and self._gpu is None:
            # The processor's counter would tell of what does not train.
            self._meter, self.energy_source = None, f"{NO_COUNTER} (the GPU's driver library does not answer)"
        else:
            self._meter, self.energy_source = find_energy_meter(self._gpu)
        resident, proportional = resident_memory_bytes(), proportional_memory_bytes()
        energy = None if self._meter is None else 0.0
        self._highest_bytes = resident
        restart_peak()
        self.readings = Readings(resident, resident, proportional, proportional, energy_joules=energy)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        self._interval_s = interval_s
        self._lock, self._stopped = Lock(), Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        if self._meter is not None:
            self._meter.spent_joules()  # what loading took is not training's
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._sample()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A time that is not training: nothing in it is sampled, and the kernel's mark begins anew after it.

        What the heap keeps of it is counted all the same; the mark of torch's allocator knows no pause.
        """
        self._sample()
        with self._lock:
            yield
            restart_peak()
            if self._meter is not None:
                self._meter.spent_joules()

    def state_dict(self) -> dict[str, Any]:
        """The readings so far."""
        return vars(self.readings).copy()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from earlier readings: peaks are of all pieces of a training, baselines of the first."""
        now, before = self.readings, Readings(**state)
        before.peak_memory_bytes = max(before.peak_memory_bytes, now.peak_memory_bytes)
        before.peak_pss_bytes = _larger(before.peak_pss_bytes, now.peak_pss_bytes)
        if self._meter is None:
            before.energy_joules = None
        self.readings = before

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            readings = self.readings
            # The kernel brings its mark up to date now and then only, not at each reading.
            readings.peak_memory_bytes = max(readings.peak_memory_bytes, peak_memory_bytes())
            resident = resident_memory_bytes()
            if resident > self._highest_bytes + _NOTABLE_BYTES:
                self._highest_bytes = resident
                readings.peak_pss_bytes = _larger(readings.peak_pss_bytes, proportional_memory_bytes())
            if self._gpu is not None:
                readings.peak_gpu_nvml_bytes = _larger(readings.peak_gpu_nvml_bytes, self._gpu.memory_bytes())
            if self._on_gpu:
                readings.peak_gpu_memory_bytes = _larger(
                    readings.peak_gpu_memory_bytes, torch.cuda.max_memory_allocated()
                )
            if self._meter is not None and readings.energy_joules is not None:
                readings.energy_joules += self._meter.spent_joules()


def _larger(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
