"""Machines for hire by their names: the chip, cores and cards of a `c7i.large`, as the price book knows it."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from deploycost.errors import UserError, nearest
from pricing.book import PriceError, VcpuKind, load_book

# How AWS, GCP, Azure and Lambda name theirs. A word of another form is looked for in no price book.
_LIKE_ONE = re.compile(
    r"(?<![\w.-])(?:"
    r"(?:aws-)?[a-z]+\d[a-z0-9-]*\.(?P<size>nano|micro|small|medium|(?P<times>\d*)x?large|metal[\w-]*)"
    r"|(?:gcp-)?[a-z]\d[a-z]?-(?:standard|high|mega|ultra|medium|micro|small)[a-z]*(?:-\d+[a-z]*)?(?:\+1xt4)?"
    r"|(?:azure-)?standard_[a-z]+\w*|[a-z]{1,3}\d+[a-z]*(?:_\w+)?_v\d"
    r"|(?:lambda-)?[gc]pu_\d+x_\w+"
    r")(?![\w.])"
)


# No instance has more; a size with more digits has.
_MOST_VCPUS, _DIGITS = 1024, 9
# What stands for an instance where its name is taken out.
PLACEHOLDER = "machine"


class Instance(NamedTuple):
    """A machine for hire: its chip as the price book calls it, None where that is not known.

    `cards` are its accelerators, a share of one on some, 0 where its own CPU computes.
    """

    name: str
    chip: str | None
    cards: float
    vcpus: float
    vcpu_is: VcpuKind | None = None


def split_instance(text: str) -> tuple[str, Instance | None]:
    """A text with `machine` for the name of an instance in it, and that instance, None where there is none.

    Raises:
        UserError: it is like the name of one, but of none that is known.
    """
    lowered = text.casefold()
    found = _LIKE_ONE.search(lowered)
    if found is None:
        return text, None
    name, known = found.group(), _instances()
    instance = known.get(name) or _by_size(name, found)
    if instance is None:
        raise UserError(f"unknown instance type {name!r}{nearest(name, list(known))}")
    return f"{lowered[: found.start()]}{PLACEHOLDER}{lowered[found.end() :]}", instance


def _by_size(name: str, found: re.Match[str]) -> Instance | None:
    """What the size of an AWS instance tells of one in no price book: a `large` has two vCPUs, a `4xlarge` sixteen."""
    size = found["size"]
    if size is None or not size.endswith("large"):
        return None
    vcpus = 2.0 if size == "large" else 4.0 * int((found["times"] or "1")[:_DIGITS])
    return Instance(name, None, 0, vcpus) if 0 < vcpus <= _MOST_VCPUS else None


@cache
def _instances() -> dict[str, Instance]:
    known = {}
    try:
        book = load_book()
    except PriceError as error:
        raise UserError(str(error)) from None
    for offer in book.offers:
        kind = offer.instance_type.casefold()
        chip = offer.accelerator_name or offer.cpu_model
        each = Instance(offer.instance_type, chip, float(offer.accelerator_count), float(offer.vcpus), offer.vcpu_is)
        known |= dict.fromkeys((kind, f"{offer.cloud}-{kind}", kind.removeprefix("standard_")), each)
    return known
