"""How to find a capacity, and the objectives that define one, said in fields or in one line."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from deploycost.errors import nearest
from deploycost.experiment.base import Frozen, comma_list
from deploycost.experiment.names import PrecisionGoal

_SLO_PART = re.compile(r"(?P<name>[A-Za-z0-9]+)\s*=\s*(?P<value>[0-9.]+)\s*(?P<unit>ms|s|%|)")
_SLO_NAMES = {"p50": "slo_p50_ms", "p90": "slo_p90_ms", "p95": "slo_p95_ms", "p99": "slo_p99_ms"}
_SLO_UNITS = {"ms": 1.0, "s": 1000.0}


class LoadSpec(Frozen):
    """How to find a capacity: the objectives, and how much time may be spent on it.

    `slo` says several objectives at once, as in `p95=100ms,p99=300ms,errors=1%`, and is kept as the fields that it
    sets. There is always a limit of p95: the one named, else that of p99, which p95 is within, else the one before.
    """

    slo_p95_ms: float = Field(default=100.0, gt=0)
    slo_p50_ms: float | None = Field(default=None, gt=0)
    slo_p90_ms: float | None = Field(default=None, gt=0)
    slo_p99_ms: float | None = Field(default=None, gt=0)
    max_error_ratio: float = Field(default=0.01, ge=0, lt=1)
    precision: PrecisionGoal = "normal"
    server_threads: int = Field(default=1, ge=1)
    tune: bool = Field(default=False, description="seek server settings that carry more, and use them")

    @model_validator(mode="before")
    @classmethod
    def _spread_slo(cls, value: Any) -> Any:  # noqa: ANN401 - raw user input
        if not isinstance(value, dict) or "slo" not in value:
            return value
        return {**{k: v for k, v in value.items() if k != "slo"}, **slo_fields(value["slo"])}


def slo_fields(text: Any) -> dict[str, float | None]:  # noqa: ANN401 - raw user input
    """The fields of a `LoadSpec` that objectives such as `p95=100ms,p99=300ms,errors=1%` set.

    Raises:
        ValueError: all parts that are none, in one line.
    """
    known = [*_SLO_NAMES, "errors"]
    found: dict[str, float] = {}
    mistakes = []
    for part in comma_list(str(text)):
        match = _SLO_PART.fullmatch(part)
        name, unit = (match["name"], match["unit"]) if match else ("", "")
        if match is None or match["value"].count(".") > 1 or match["value"] == ".":
            mistakes.append(f"{part!r} is not like p95=100ms or errors=1%")
        elif name not in known:
            mistakes.append(f"unknown {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        elif (unit not in ("%", "")) if name == "errors" else (unit not in _SLO_UNITS):
            mistakes.append(f"{part!r}: expected {'a share, as 1% or 0.01' if name == 'errors' else 'ms or s'}")
        elif name in found:
            mistakes.append(f"{name} is given twice")
        else:
            found[name] = float(match["value"]) * (0.01 if unit == "%" else _SLO_UNITS.get(unit, 1.0))
    if mistakes:
        raise ValueError(f"--slo: {'; '.join(mistakes)}")
    return _joined_slo(found)


def _joined_slo(found: dict[str, float]) -> dict[str, float | None]:
    fields: dict[str, float | None] = {field: found.get(name) for name, field in _SLO_NAMES.items()}
    if fields["slo_p95_ms"] is None:
        fields["slo_p95_ms"] = fields["slo_p99_ms"]
    if fields["slo_p95_ms"] is None:
        del fields["slo_p95_ms"]
    if "errors" in found:
        fields["max_error_ratio"] = found["errors"]
    return fields
