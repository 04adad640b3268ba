"""What a command prints: tables or one JSON document on standard output, progress on standard error."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType

# A pipe has no width: what is written into one fits a narrow terminal.
_PIPE_WIDTH = 80


def say(line: str) -> None:
    """Tells of progress, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False, style="dim")


def warn(lines: tuple[str, ...] | list[str]) -> None:
    """Tells what the reader of the answer must know, on standard error."""
    console = Console(stderr=True, highlight=False)
    for line in lines:
        # Folded between words for a reader, whole for a log.
        console.print(f"note: {line}", markup=False, soft_wrap=not console.is_terminal)


def width() -> int:
    """Columns that a table may take."""
    console = Console()
    return console.width if console.is_terminal else _PIPE_WIDTH


def show(*parts: RenderableType) -> None:
    """Prints tables and panels, a blank line between them; to a reader that has gone, nothing."""
    console = Console(width=width())
    # Where its reader has gone, as in `| head -1`, Rich would end the process: with 1, which is an answer of ours.
    with suppress(SystemExit):
        for number, part in enumerate(parts):
            if number:
                console.print()
            console.print(part)


def show_json(document: dict[str, Any]) -> None:
    """Prints exactly one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))
