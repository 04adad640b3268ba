"""What machines can do at best: peak rates by precision, memory bandwidth, power and cores, from dated facts."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

from deploycost.errors import UserError, nearest
from deploycost.projecting.instances import PLACEHOLDER, Instance, split_instance
from deploycost.projecting.machine_words import counted

DATA_FOLDER = Path(__file__).parent / "data"
Precision = Literal["fp32", "tf32", "fp16", "int8"]
Kind = Literal["gpu", "accelerator", "cpu"]
Architecture = Literal["x86_64", "arm64"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "int8")
# What stands in for a rate that a chip has no unit for: it then computes at the next wider one.
_WIDER: dict[Precision, Precision] = {"int8": "fp16", "fp16": "tf32", "tf32": "fp32"}
_COLUMNS: dict[Precision, str] = {
    "fp32": "fp32_tflops", "tf32": "tf32_tflops", "fp16": "fp16_bf16_tflops", "int8": "int8_tops",
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A chip: peak rates in operations per second, bandwidth in bytes per second.

    `family` is what counts as one device when evidence is held out: all V100s are one. `cores` of a CPU are the
    physical ones of a socket; `rates` and `bytes_per_s` are of the whole socket.
    """

    name: str
    family: str
    kind: Kind
    rates: dict[Precision, float] = field(hash=False)
    bytes_per_s: float
    watts: float | None
    cores: int
    threads_per_core: int
    source: str

    @property
    def architecture(self) -> Architecture:
        """The instruction set of a CPU, as price rows name it."""
        return "arm64" if self.name.startswith(_ARM) else "x86_64"

    def rate(self, precision: Precision) -> float:
        """Operations per second at that precision, or at the next wider one that the chip has."""
        while precision not in self.rates:
            precision = _WIDER[precision]
        return self.rates[precision]


@dataclass(frozen=True)
class Place:
    """Where something runs: a device, how many of its sockets or chips, and how many cores of it are used.

    `told` says of what was asked how it was read, where that is not plain.
    """

    device: Device
    sockets: int = 1
    cores: float | None = None
    told: str = field(default="", compare=False)

    @property
    def share(self) -> float:
        """The cores used over those of one socket; a batch is computed by one card alone."""
        if self.device.kind != "cpu" or self.cores is None:
            return 1.0
        return self.cores / self.device.cores

    @property
    def batches_at_once(self) -> int:
        """How many batches it computes side by side: one on each card, while all cores of a CPU share theirs."""
        return 1 if self.device.kind == "cpu" else self.sockets

    def rate(self, precision: Precision) -> float:
        """Peak operations per second of what is used."""
        return self.device.rate(precision) * self.share

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of what is used. A few cores can draw more than their share of a socket's."""
        return self.device.bytes_per_s * (self.share if self.share >= 1 else self.share**0.5)


# How devices are called elsewhere, most telling first: the first pattern found in the name decides. Patterns are sought
# in the lower-case name with everything but letters and digits taken out.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("gh200|h200", "H200-SXM"), ("b200", "B200-SXM"),
    ("h100.*nvl", "H100-NVL"), ("h100.*pcie", "H100-PCIe"), ("h100", "H100-SXM"),
    ("a100.*80.*pcie|a100.*pcie.*80", "A100-80GB-PCIe"), ("a100.*80", "A100-80GB-SXM"), ("a100", "A100-40GB-SXM"),
    ("a10g", "A10G"), ("rtxa6000|^a6000", "RTX A6000"), ("rtxa5000|^a5000", "RTX A5000"),
    ("rtxa4000|^a4000", "RTX A4000"),
    ("a10(?!\\d)", "A10"), ("a30(?!\\d)", "A30"), ("a40(?!\\d)", "A40"),
    ("l40s", "L40S"), ("l40(?!\\d)", "L40"), ("(^|nvidia|tesla|gpu)l4(?!\\d)", "L4"),
    ("v100.*pcie", "V100-PCIe"), ("v100", "V100-SXM2"), ("(^|nvidia|tesla|gpu)t4g", "T4G"),
    ("(^|nvidia|tesla|gpu)t4(?!\\d)", "T4"), ("(^|nvidia|tesla)p100", "P100"), ("(^|nvidia|tesla)p4(?!\\d)", "P4"),
    ("k80", "K80"), ("(^|nvidia)a2(?!\\d)", "A2"),
    ("(rtx)?6000ada", "RTX 6000 Ada"), ("5090", "RTX 5090"), ("4090", "RTX 4090"), ("4080", "RTX 4080"),
    ("3090", "RTX 3090"), ("3080", "RTX 3080"), ("3060", "RTX 3060 12GB"), ("2080ti", "RTX 2080 Ti"),
    ("titanrtx", "Titan RTX"),
    ("inferentia2|inf2", "Inferentia2 (per chip)"), ("inferentia|inf1", "Inferentia1 (per chip)"),
    ("trainium|trn1", "Trainium1 (per chip)"),
    ("flex170", "Intel Data Center GPU Flex 170"), ("flex140", "Intel Data Center GPU Flex 140"),
    ("a770", "Intel Arc A770M"),
    ("m1pro", "Apple M1 Pro"), ("m1max", "Apple M1 Max"),
    ("^m1$", "Apple M1"), ("^m2$", "Apple M2"), ("^m3$", "Apple M3"), ("^m4$", "Apple M4"),
    ("8375c|c6i|m6i|r6i|xeonicelake|8370c|icelakeserver", "Xeon Ice Lake 8375C (AWS c6i/m6i)"),
    ("8488c|c7i|m7i|r7iz|8480|sapphirerapids$|sapphirerapidsaws", "Xeon Sapphire Rapids 8488C (AWS c7i/m7i)"),
    ("8481c|gcpc3$", "Xeon Sapphire Rapids 8481C (GCP c3)"),
    ("8581c|8573c|gcpc4$|xeonemeraldrapids", "Xeon Emerald Rapids 8581C (GCP c4)"),
    ("graniterapids|c8i", "Xeon Granite Rapids (AWS c8i)"),
    ("8275cl|8259cl|8252c|awsc5$|^c5(?!a)", "Xeon Cascade Lake 8275CL (AWS c5)"),
    ("8124m|8175m|skylakesp", "Xeon Skylake 8124M"), ("8280", "Xeon Platinum 8280"), ("8270", "Xeon Platinum 8270"),
    ("8380", "Xeon Platinum 8380"), ("8490", "Xeon Platinum 8490H"), ("8580", "Xeon Platinum 8580"),
    ("xeoncascadelake", "Xeon Cascade Lake (GCP c2 / n2)"),
    ("sapphirerapids", "Xeon Sapphire Rapids 8488C (AWS c7i/m7i)"),
    ("7r32|7v12|epycrome|c5a", "EPYC Rome 7R32 (AWS c5a)"),
    ("7r13|7b13|7v13|7763|74f3|7j13|epycmilan|c6a|m6a", "EPYC Milan 7R13 (AWS c6a/m6a), 7B13 (GCP t2d/n2d)"),
    ("9r14|genoa|9004|9b14|c7a|m7a|9v33|9v74", "EPYC Genoa 9R14 (AWS c7a/m7a)"),
    ("turin|9r45|c8a|9b45", "EPYC Turin (AWS c8a, GCP c4d)"),
    ("graviton2|c6g|m6g|t4ginstance", "Graviton2 (c6g)"), ("graviton3|c7g|m7g", "Graviton3 (c7g)"),
    ("graviton4|c8g|m8g", "Graviton4 (c8g)"),
    ("altra", "Ampere Altra"), ("axion", "Google Axion (Neoverse V2)"), ("cobalt", "Azure Cobalt 100 (Neoverse N2)"),
)  # fmt: skip
# One family is one silicon: what was measured on one of its forms says much about the others.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("V100", "V100"), ("A100", "A100"), ("H100", "H100"), ("H200", "H100"), ("T4", "T4"), ("L40", "L40"),
    ("A10G", "A10"), ("A10", "A10"), ("Apple", "Apple"), ("Xeon Cascade Lake", "Cascade Lake"),
    ("Xeon Sapphire", "Sapphire Rapids"), ("Graviton4", "Neoverse V2"), ("Google Axion", "Neoverse V2"),
    ("Graviton2", "Neoverse N1"), ("Ampere Altra", "Neoverse N1"),
)  # fmt: skip
_ARM = ("Graviton", "Ampere", "Google Axion", "Azure Cobalt", "Apple")
# What makes another chip of one that is known.
_ANOTHER = re.compile(r"(?<![a-z])(ti|super|max|pro|ultra|laptop|mobile|lite)(?![a-z])")


@cache
def devices() -> dict[str, Device]:
    """All devices of the shipped facts by name; a CPU is its socket."""
    with (DATA_FOLDER / "hardware.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "cpu_vcpu"]
    return {row["name"]: _device(row) for row in rows}


def find_place(name: str) -> Place:
    """What a name such as `4xA100-SXM4-80GB`, `Xeon Platinum 8380 x2` or `c7i.large` means: all cores of a CPU.

    Raises:
        UserError: no such device is known.
    """
    try:
        return _place(name)
    except _UnknownDevice as unknown:
        raise UserError(
            f"unknown hardware {str(unknown)!r}{nearest(name, list(devices()))}; "
            "'deploycost project --list-hardware' lists what is known"
        ) from None


@lru_cache(maxsize=1024)
def known_place(name: str) -> Place | None:
    """The same, or None where no such device is known."""
    try:
        return _place(name)
    except (_UnknownDevice, UserError):
        return None


class _UnknownDevice(Exception):  # noqa: N818 - told as what it is where a user asked
    """No device is called that."""


@lru_cache(maxsize=1024)
def _place(name: str) -> Place:
    exact = {each.casefold(): each for each in devices()}.get(name.casefold())
    if exact:
        return _all_of(devices()[exact], 1)
    rest, instance = split_instance(name)
    rest, count = counted(rest)
    if instance is None:
        return _all_of(_find_device(rest, name), count or 1)
    try:
        device = _find_device(rest.replace(PLACEHOLDER, " "), name)
    except _UnknownDevice:
        place = _all_of_instance(instance, count or 1)
    else:
        place = _all_of(device, count or 1) if device.kind != "cpu" else cores_of(instance, device)
    if place.device.kind == "cpu" and (count or 1) > 1:
        raise UserError(f"hardware {name!r} is {count} machines, and a text is computed by one: name one")
    return place


def _all_of(device: Device, count: int) -> Place:
    if device.kind == "cpu":
        return Place(device, count, float(device.cores * count))
    return Place(
        device, count, None, f"{count} of them side by side, each with batches of its own" if count > 1 else ""
    )


def _all_of_instance(instance: Instance, count: int) -> Place:
    # Of one in no price book its family says what its CPU is.
    named = f"{instance.name} ({instance.chip})" if instance.chip else instance.name
    device = _find_device(instance.chip or instance.name, named)
    if device.kind == "cpu":
        return cores_of(instance, device)
    if instance.chip is None:
        raise UserError(f"unknown instance type {instance.name!r}")
    if instance.cards != int(instance.cards):
        raise UserError(f"{instance.name} has a share of a {device.name}, and no share was measured")
    return _all_of(device, int(instance.cards) * count)


def cores_of(instance: Instance, cpu: Device) -> Place:
    """All cores of an instance that has such a CPU."""
    threads = {"core": 1, "thread": 2, None: cpu.threads_per_core}[instance.vcpu_is]
    cores = instance.vcpus / threads
    return Place(cpu, ceil(cores / cpu.cores), cores, f"{instance.name} taken for {cores:g} of its cores")


def _find_device(part: str, name: str) -> Device:
    """The device that a part of a name tells; the whole is for errors."""
    known = devices()
    exact = {each.casefold(): each for each in known}
    if part.casefold() in exact:
        return known[exact[part.casefold()]]
    squeezed = _squeeze(part)
    meant = next((meant for pattern, meant in _PATTERNS if re.search(pattern, squeezed)), None)
    if meant is None:
        # A longer name that holds a known one, as in `Intel Core i9-13900K (24 cores)`.
        meant = max((each for each in known if _holds(squeezed, _squeeze(each))), key=len, default=None)
    if meant is not None and set(_ANOTHER.findall(part.casefold())) <= set(_ANOTHER.findall(meant.casefold())):
        return known[meant]
    raise _UnknownDevice(name)


def _holds(name: str, part: str) -> bool:
    """Whether the part is in the name, and no digit beside it goes on with a number of it."""
    # Patterns are compiled for the few parts that are in it at all.
    return part in name and re.search(rf"(?<!\d){re.escape(part)}(?!\d)", name) is not None


def _squeeze(name: str) -> str:
    return re.sub(r"\(r\)|\(tm\)|[^a-z0-9+]", "", name.casefold())


def _device(row: dict[str, str]) -> Device:
    rates: dict[Precision, float] = {
        precision: float(row[column]) * 1e12 for precision, column in _COLUMNS.items() if row[column]
    }
    # A new card's single-precision rate is left out of some tables; nothing wider than half precision stands in for it.
    rates.setdefault("fp32", min(rates.values()) / 16 if rates else 0.0)
    name, kind = row["name"], row["kind"]
    if "Apple" in name:
        rates.pop("int8", None)  # of another unit, that no runtime here drives
    return Device(
        name=name,
        family=next((family for start, family in _FAMILIES if name.startswith(start)), name),
        kind="cpu" if kind.startswith("cpu") else "accelerator" if kind == "accelerator" else "gpu",
        rates=rates,
        bytes_per_s=float(row["memory_bandwidth_gb_s"]) * 1e9,
        watts=float(row["tdp_w"]) if row["tdp_w"] else None,
        cores=int(float(row["physical_cores"])) if row["physical_cores"] else 0,
        threads_per_core=int(row["threads_per_core"]) if row["threads_per_core"] else 1,
        source=row["source"],
    )
