"""Records as JSON files: reading one tells what is wrong with it, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from deploycost.errors import UserError
from deploycost.records.base import Record
from deploycost.records.checks import FORMAT_VERSION, OLDEST_FORMAT_VERSION, backward_clocks, other_format

RecordType = TypeVar("RecordType", bound=Record)


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """The record in a JSON file.

    Raises:
        UserError: the file cannot be read, is damaged, is of another format version, or tells of a clock that ran
            backwards.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    version = other_format(text)
    if version is not None:
        readable = " to ".join(str(each) for each in dict.fromkeys((OLDEST_FORMAT_VERSION, FORMAT_VERSION)))
        raise UserError(
            f"{path} is a record of format {version}, and this deploycost reads format {readable}: "
            + ("take a newer deploycost" if version > FORMAT_VERSION else "run the command again to make it anew")
        )
    try:
        record = kind.model_validate_json(text)
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole file" for item in error.errors()}))
        raise UserError(
            f"{path} is not a {kind.__name__} of format {FORMAT_VERSION} (see {places}); "
            "delete it and run the command again to make it anew"
        ) from None
    backwards = backward_clocks(record)
    if backwards:
        raise UserError(
            f"{path}: a clock ran backwards ({'; '.join(backwards)}); set the clock right and measure again"
        )
    return record


def write_record(record: Record) -> str:
    """The record as the JSON that `read_record` takes."""
    return record.model_dump_json(indent=2) + "\n"
