"""A drawing made fit to stand inside a page: no prologue, no size of its own, no clash of ids, the page's own ink."""

from __future__ import annotations

import re

_ID = re.compile(r'(\bid="|url\(#|href="#)')
# A style sheet inside an inline drawing would rule the whole page.
_STYLE_SHEET = re.compile(r"<style.*?</style>", re.DOTALL)
_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"')


def inline_svg(document: str, name: str, ink: str) -> str:
    """The `<svg>` element of an SVG document.

    `name` is set before every id, so that two drawings on a page stay apart; what is drawn in the colour `ink` follows
    the colour of the text around it, light or dark.
    """
    svg = document[document.index("<svg") :].replace(ink, "currentColor")
    svg = _ID.sub(rf"\g<1>{name}-", svg)
    svg = _STYLE_SHEET.sub("", svg)
    return _SIZE.sub(r"\1", svg, count=1).strip() + "\n"
