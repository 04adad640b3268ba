"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path


def user_path(text: str) -> Path:
    """The path that `text` means, `~` and `~name` being home folders; as it is written where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
