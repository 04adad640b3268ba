"""A table before it is drawn: the terminal, the page and the Markdown file draw the same one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column.

    Where there is too little room to set all columns side by side, one that is `below` moves under the column before
    it; in a narrow terminal a `wide` one is left out and `short` is the header. `text` columns are set left and may
    fold; the others hold figures, which are set right and never broken.
    """

    header: str
    short: str = ""
    text: bool = False
    below: bool = False
    wide: bool = False

    @property
    def narrow_header(self) -> str:
        """The header where room is scarce; may have several lines."""
        return self.short or self.header


@dataclass(frozen=True)
class Grid:
    """Cells under columns; `notes` are what a reader needs in order not to be misled by them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def groups(self, *, keep_wide: bool) -> tuple[tuple[int, ...], ...]:
        """Indices of the columns that share a place when they are stacked, each group from top to bottom."""
        groups: list[tuple[int, ...]] = []
        for index, column in enumerate(self.columns):
            if column.wide and not keep_wide:
                continue
            if column.below and groups:
                groups[-1] = (*groups[-1], index)
            else:
                groups.append((index,))
        return tuple(groups)
