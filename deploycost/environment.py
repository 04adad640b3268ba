"""The machine a measurement is made on: what a reader needs to judge it, and nothing that names a host."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_TOLD_PACKAGES = (
    "torch", "transformers", "peft", "bitsandbytes", "onnx", "onnxruntime", "openvino", "nncf", "tokenizers", "locust",
)  # fmt: skip

# What hypervisors say instead of a model; family and model still tell the generation (AMD's PPRs, by family).
_MASKED_EPYC = ("AMD EPYC", "AMD EPYC Processor")
_EPYC_GENERATIONS = {
    ("23", "1"): "Naples", ("23", "49"): "Rome", ("25", "1"): "Milan", ("25", "17"): "Genoa", ("25", "160"): "Bergamo",
    ("26", "2"): "Turin", ("26", "17"): "Turin Dense",
}  # fmt: skip


class MachineFacts(BaseModel):
    """The machine and software that a measurement was made on."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    cpu_model: str
    cpu_cores: int
    memory_bytes: int
    gpu_model: str | None = None
    platform: str
    python: str
    packages: dict[str, str]
    instance_type: str | None = None


def machine_facts(instance_type: str | None = None, gpu_uuid: str | None = None) -> MachineFacts:
    """This machine.

    `instance_type` is the user's word for what it is rented as (`g4dn.xlarge`), if anything; `gpu_uuid` is the
    driver's for the GPU that was measured on, without which it is the first that may be used.
    """
    import psutil

    return MachineFacts(
        cpu_model=_cpu_model(),
        cpu_cores=len(usable_cores()),
        memory_bytes=psutil.virtual_memory().total,
        gpu_model=_gpu_model(gpu_uuid or _first_usable_gpu()),
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version for name in _TOLD_PACKAGES if (version := _version(name))},
        instance_type=instance_type,
    )


def usable_cores() -> list[int]:
    """The cores that this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware, as far as Linux tells."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def now() -> str:
    """The present moment in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return named_cpu(text) or platform.processor() or platform.machine() or "unknown"


def named_cpu(cpuinfo: str) -> str:
    """The CPU that the text of `/proc/cpuinfo` tells of, with its generation where a hypervisor masks it; or empty."""
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    told: dict[str, str] = {}
    for key, _, value in pairs:
        told.setdefault(key.strip(), value.strip())  # all cores of a machine say the same
    name, family, model = (told.get(key, "") for key in ("model name", "cpu family", "model"))
    generation = _EPYC_GENERATIONS.get((family, model)) if name in _MASKED_EPYC else None
    return f"{name} {generation} (name masked; family {family}, model {model})" if generation else name


def _first_usable_gpu() -> str:
    """The first of `CUDA_VISIBLE_DEVICES`, a number or a UUID; empty or below 0 where it hides all GPUs."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


def _gpu_model(place: str) -> str | None:
    """The name of the GPU with that number or UUID."""
    # Asked of the driver's library, so that no training framework is loaded to name a device.
    import pynvml

    if not place or place.startswith("-"):
        return None
    try:
        pynvml.nvmlInit()
        by_number = place.isdecimal()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(place)) if by_number else pynvml.nvmlDeviceGetHandleByUUID(place)
        name = pynvml.nvmlDeviceGetName(handle)
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return name.decode() if isinstance(name, bytes) else name
