"""What is wrong with a record although all its fields are there: another format, a clock that ran backwards."""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import BaseModel

FORMAT_VERSION = 2
OLDEST_FORMAT_VERSION = 2
_DURATIONS = ("_s", "_ms")
_RATE = "_per_s"


def other_format(text: str) -> int | None:
    """The format version that the JSON of a record tells, if this deploycost does not read it."""
    if f'"format_version": {FORMAT_VERSION},' in text:
        return None  # as we write it: not worth reading twice
    try:
        content = json.loads(text)
    except ValueError:
        return None
    version = content.get("format_version") if isinstance(content, dict) else None
    return version if isinstance(version, int) and not OLDEST_FORMAT_VERSION <= version <= FORMAT_VERSION else None


def backward_clocks(record: BaseModel, place: str = "") -> list[str]:
    """All durations below zero, and each end that is before its beginning, wherever they are in the record."""
    told = []
    fields = vars(record)
    for name, value in fields.items():
        if isinstance(value, BaseModel):
            told += backward_clocks(value, f"{place}{name}.")
        elif isinstance(value, tuple):
            for number, each in enumerate(value):
                told += backward_clocks(each, f"{place}{name}.{number}.") if isinstance(each, BaseModel) else []
        elif isinstance(value, int | float) and value < 0 and name.endswith(_DURATIONS) and not name.endswith(_RATE):
            told.append(f"{place}{name} is {value:g}")
    began, ended = (_moment(fields.get(name)) for name in ("started_at", "finished_at"))
    if began and ended and ended < began:
        told.append(f"{place}finished_at {ended.isoformat()} is before started_at {began.isoformat()}")
    return told


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
