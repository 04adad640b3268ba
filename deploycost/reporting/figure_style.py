"""How figures look: colours that most eyes can tell apart, markers, and the settings of the plotting library."""

from __future__ import annotations

from typing import Any

# Stands for the page's text colour while drawing; no other colour of a figure is written like it.
INK = "#012345"
# Okabe and Ito (2008), less black and yellow, which vanish on a dark and on a light page.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "osD^vPXp"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and set in the page's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar is a dollar
    **dict.fromkeys(
        (
            "text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color",
            "grid.color", "legend.labelcolor",
        ),
        INK,
    ),
}  # fmt: skip
