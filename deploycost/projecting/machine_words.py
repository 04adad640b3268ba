"""What people write of machines beside the name of a chip: how many of them, and how many cores were used."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from deploycost.errors import UserError

Unit = Literal["core", "vcpu", "socket"]
# More chips than this are in no machine, and mean that something else was read.
_MOST_CHIPS = 64
# More tell nothing but that a number is far too large.
_DIGITS = 9
_NUMBERS = {"a": 1, "single": 1, "one": 1, "dual": 2, "two": 2, "both": 2, "three": 3, "quad": 4, "four": 4, "eight": 8}
_NUMBER = rf"(\d{{1,2}}|{'|'.join(_NUMBERS)})"
# `T4 x4`, `(x4)`, `A100x4`, `A100 4x`; not the x of names such as DGX-2, RTX 40 or x86.
_AFTER = re.compile(
    r"(?<=[\s(])[x*]\s*(?!86\b|64\b)(\d+)(?![\w.])"
    r"|(?<=[a-z0-9)])(?<!\b[dh]gx)(?<!\b[dh]g)(?<!\b[rg]t)[x*](\d{1,2})(?![\w.])"
    r"|(?<=\s)(\d{1,2})\s*[x*]\s*(?=\)|$)"
)
# `4xA100`, `2 x Xeon`, `8 H100`; not the sizes of instances such as 2xlarge.
_BEFORE = re.compile(
    r"(?<![\w.])(\d{1,3})\s*[x*][\s-]*(?!large)(?=[a-z0-9])"
    r"|^\s*(\d{1,2}|dual|two|quad|four|eight)\s+(?!v?cpus?\b|cores?\b|threads?\b|[gm]hz\b|gi?b\b)(?=[a-z])"
)
# `2 sockets`, `dual-socket`, `single GPU`, `2S`; not the number of a `Graviton 3 processor` or of an `RTX 3090 GPU`.
_OF_UNITS = re.compile(
    rf"(?<![\w.])(?<!graviton )(?<!inferentia )(?<!trainium ){_NUMBER}[\s-]*"
    r"(?:sockets?|gpus?|cards?|chips?|accelerators?|processors?)(?!\w)"
    r"|(?<![\w.])([1248])[sp](?![\w.])"
)
_SHARE = re.compile(r"\bmig\b|\bvgpu\b|\d+g\.\d+gb|(?<!\w)\d*\.\d+\s*[x*]|\bhalf\b|(?<![\w.])1/\d")
_CORES_TOLD = re.compile(
    r"(?:(?<![\w.])|(?<=\dx)|(?<=\dx ))\d+[\s-]*(?:cores?|threads?|vcpus?)(?!\w)|(?<!\w)(?:per|one|a)[\s-]*vcpu(?!\w)"
)
_BLANK = ("", "nan", "none", "n/a", "-", "auto", "default")
_ALL = re.compile(r"(?:all|max)(?:\s*(?:the\s*)?(?:physical\s*)?(?:cores?|threads?|v?cpus?|sockets?))?(?:\s*\(.*\))?")
_THREADS = re.compile(
    rf"(?:(\d+|{'|'.join(_NUMBERS)})[\s-]*)?((?:physical|logical|hyper|cpu)?[\s-]*[a-z]*)(?:\s*\(.*\))?"
)
_CORES_AND_THREADS = re.compile(r"(\d+)\s*c(?:ores?)?\s*[/,]?\s*\d+\s*t(?:hreads?)?")
_UNITS: dict[str, Unit] = {
    "": "core", "thread": "core", "core": "core", "physicalcore": "core", "cputhread": "core", "cpucore": "core",
    "vcpu": "vcpu", "logicalcore": "vcpu", "logicalcpu": "vcpu", "hyperthread": "vcpu", "socket": "socket",
}  # fmt: skip


class Used(NamedTuple):
    """How much of a machine was used: a number of units; None of it is all."""

    number: int | None
    unit: Unit


def counted(name: str) -> tuple[str, int | None]:
    """A hardware's name without how many of it and of its cores there are, and how many of it; None if it says none.

    Raises:
        UserError: it is a share of a card, or tells two numbers, none, or more than any machine has.
    """
    text = re.sub(r"[_×]", lambda found: {"_": " ", "×": "x"}[found.group()], name.casefold())
    if _SHARE.search(text):
        raise UserError(f"hardware {name!r} is a share of a chip, and no share was measured")
    text, told = _CORES_TOLD.sub(" ", text), set()
    for pattern in (_AFTER, _BEFORE, _OF_UNITS):
        told |= {_number(next(filter(None, found.groups()))) for found in pattern.finditer(text)}
        text = pattern.sub(" ", text)
    if len(told) > 1:
        raise UserError(f"hardware {name!r} tells {' and '.join(map(str, sorted(told)))} chips: which is it?")
    count = told.pop() if told else None
    if count is not None and not 1 <= count <= _MOST_CHIPS:
        raise UserError(f"hardware {name!r} is {count} chips; expected 1 to {_MOST_CHIPS}")
    return text.strip(), count


def cores_told(name: str) -> str:
    """The part of a hardware's name that says how many cores or vCPUs of it, empty where none does."""
    found = _CORES_TOLD.search(name.casefold())
    return re.sub(r"^per\b", "a", found.group()) if found else ""


def read_used(text: str) -> Used | None:
    """What a cell says of threads: `16`, `4 vCPUs`, `one core`, `2 sockets`, `all cores`; None where it says nothing.

    A thread of a program keeps a core busy.

    Raises:
        ValueError: it says something else.
    """
    words = text.casefold().strip()
    if words in _BLANK:
        return None
    if _ALL.fullmatch(words):
        return Used(None, "core")
    if paired := _CORES_AND_THREADS.fullmatch(words):
        return Used(int(paired.group(1)), "core")
    found = _THREADS.fullmatch(re.sub(r"^(\d+)\.0$", r"\1", words))
    unit = _UNITS.get(re.sub(r"[\s-]|s$", "", found.group(2))) if found else None
    count = _number((found.group(1) if found else None) or ("1" if unit == "socket" else "0"))
    if unit is None or count < 1 or (unit == "socket" and count > _MOST_CHIPS):
        raise ValueError(f"{text!r} is no whole number above zero of cores, vCPUs or sockets")
    return Used(count, unit)


def _number(word: str) -> int:
    return _NUMBERS[word] if word in _NUMBERS else int(word[:_DIGITS])
