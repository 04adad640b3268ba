"""What every part of an experiment is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A record that refuses unknown fields and cannot be changed once made."""

    # JSON has no infinity: it would reach the process that trains as a field that was not given.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)


def comma_list(value: Any) -> Any:  # noqa: ANN401 - raw user input
    """The parts of a text such as `lora, full`; what is no text as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
