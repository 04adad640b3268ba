"""A flag: the field of an experiment that it sets, and how it is given."""

from __future__ import annotations

from dataclasses import Field, field
from typing import Any

_ASKS_FOR = "asks_for"


def flag_for(place: str) -> Any:  # noqa: ANN401 - dataclasses.field is untyped too
    """A flag that, when given, sets the field at `place` of the experiment."""
    return field(default=None, metadata={_ASKS_FOR: place})


def flag_name(flag: Field[Any]) -> str:
    """A flag as it is given, as in `--memory-budget`."""
    return f"--{flag.name.replace('_', '-')}"


def asked_field(flag: Field[Any]) -> str:
    """The field of an experiment that a flag sets, as in `training.lora.rank`."""
    return flag.metadata[_ASKS_FOR]
