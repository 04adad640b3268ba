"""Counters of energy that machines have: of the processor packages by RAPL, of a GPU by its driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
# What is counted, and by whom.
RAPL, NVML = "RAPL, processor packages", "NVML, the whole GPU"
_MICROJOULES_PER_JOULE, _MILLIJOULES_PER_JOULE = 1_000_000, 1_000


class EnergyCounter(Protocol):
    """A counter of energy that only rises."""

    def joules(self) -> float:
        """Energy since this was made."""
        ...


class PackageCounter:
    """Energy of the processor packages, as RAPL counts it; its own counters start anew when they are full.

    Raises:
        PermissionError: the system shows them to the administrator only.
        OSError: there are none.
        ValueError: they tell no number.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._domains = sorted(path for path in folder.glob("intel-rapl:*") if _is_package(path))
        if not self._domains:
            raise FileNotFoundError(f"no processor package in {folder}")
        self._ranges = [int((path / "max_energy_range_uj").read_text(encoding="ascii")) for path in self._domains]
        self._last = self._readings()
        self._spent = 0

    def joules(self) -> float:
        """Energy since this was made; right as long as it is asked before a counter fills up twice (minutes)."""
        readings = self._readings()
        self._spent += sum(
            (now - before) % full for now, before, full in zip(readings, self._last, self._ranges, strict=True)
        )
        self._last = readings
        return self._spent / _MICROJOULES_PER_JOULE

    def _readings(self) -> list[int]:
        return [int((path / "energy_uj").read_text(encoding="ascii")) for path in self._domains]


def _is_package(domain: Path) -> bool:
    """Whether a domain is a processor package: others are parts of one, or `psys`, which contains them all."""
    try:
        return (domain / "name").read_text(encoding="ascii").startswith("package")
    except (OSError, ValueError):
        return False


class GpuCounter:
    """Energy of a whole GPU, as its driver counts it.

    Raises:
        pynvml.NVMLError: it has no such counter.
    """

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - pynvml's is untyped
        self._handle = handle
        self._start = self._millijoules()

    def joules(self) -> float:
        """Energy since this was made."""
        return (self._millijoules() - self._start) / _MILLIJOULES_PER_JOULE

    def _millijoules(self) -> int:
        import pynvml

        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
