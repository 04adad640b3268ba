"""What an LLM behind an API costs per token: the alternative to serving a model of one's own."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from pricing.errors import PriceError, nearest_names
from pricing.table import DATA_FOLDER, Row, read_rows, refuse_mistakes

_COLUMNS = (
    "model", "provider", "mode", "input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok",
    "batch_input_usd_per_mtok", "batch_output_usd_per_mtok", "max_input_tokens", "source", "as_of", "note",
)  # fmt: skip
_MODES = ("chat", "embedding", "moderation")


@dataclass(frozen=True, slots=True)
class LlmApi:
    """One model's price list in USD per million tokens; None where a price is not listed."""

    model: str
    provider: str
    mode: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None
    batch_input_usd_per_mtok: Decimal | None
    batch_output_usd_per_mtok: Decimal | None
    max_input_tokens: int
    source: str
    as_of: datetime.date
    note: str

    @property
    def key(self) -> str:
        """Names the row and its date, as in `openai/gpt-5-nano@2026-11-22`."""
        return f"{self.provider}/{self.model}@{self.as_of.isoformat()}"


@cache
def load_llm_apis(path: Path = DATA_FOLDER / "llm_apis.csv") -> tuple[LlmApi, ...]:
    """All known APIs, in the order of the file; the shipped one unless told.

    Raises:
        PriceError: the file cannot be read, or all its mistakes.
    """
    rows = read_rows(path, _COLUMNS)
    apis = []
    for row in rows:
        api = _api(row)
        if api.model in {other.model for other in apis}:
            row.mistakes.append(f"{api.model} is priced twice")
        apis.append(api)
    refuse_mistakes(path, rows)
    return tuple(apis)


def find_llm_api(name: str, apis: Sequence[LlmApi] | None = None) -> LlmApi:
    """The API of that name, whole or its last part (`gemini-2.5-flash`); case does not matter.

    Raises:
        PriceError: no API, or more than one, has this name.
    """
    known = load_llm_apis() if apis is None else apis
    wanted = name.strip().lower()
    found = [api for api in known if api.model.lower() == wanted]
    found = found or [api for api in known if api.model.lower().rsplit("/", 1)[-1] == wanted]
    if len(found) == 1:
        return found[0]
    names = [api.model for api in found or known]
    if found:
        raise PriceError(f"{name!r} means several APIs: say {' or '.join(names)}")
    raise PriceError(f"unknown LLM API {name!r}{nearest_names(name, names)}; known: {', '.join(names)}")


def _api(row: Row) -> LlmApi:
    return LlmApi(
        model=row.name("model"),
        provider=row.name("provider"),
        mode=row.choice("mode", _MODES),
        # Some APIs are free of charge, so zero is a price.
        input_usd_per_mtok=row.number("input_usd_per_mtok", zero_allowed=True),
        output_usd_per_mtok=row.number("output_usd_per_mtok", zero_allowed=True),
        cached_input_usd_per_mtok=row.optional_number("cached_input_usd_per_mtok"),
        batch_input_usd_per_mtok=row.optional_number("batch_input_usd_per_mtok"),
        batch_output_usd_per_mtok=row.optional_number("batch_output_usd_per_mtok"),
        max_input_tokens=row.whole("max_input_tokens"),
        source=row.name("source"),
        as_of=row.date("as_of"),
        note=row.text("note"),
    )
