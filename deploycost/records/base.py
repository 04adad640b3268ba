"""What all records are made of: frozen facts, figures that say how sure they are, and money."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

Basis = Literal["measured", "projected", "assumed"]
# From the surest to the least sure: a figure made of several is as sure as its least sure part.
BASES: tuple[Basis, ...] = ("measured", "projected", "assumed")
# Exact in memory, a plain number in JSON: prices have few enough digits to come back as they were.
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]


class Record(BaseModel):
    """A frozen fact on disk. Unknown fields are refused, so that a record of a newer format is never half-read."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Figure(Record):
    """A number with its interval and its basis. `value` None is unknown; `low`, `high` None is no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    basis: Basis = "measured"


UNKNOWN_FIGURE = Figure(value=None, basis="assumed")


def weakest(*bases: Basis) -> Basis:
    """The least sure of several bases."""
    return max(bases, key=BASES.index)
