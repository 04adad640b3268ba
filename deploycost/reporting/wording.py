"""How figures are written in reports: three digits, the interval beside, and a letter that says how it is known."""

from __future__ import annotations

from math import floor, log10

from deploycost.records import Basis, Figure

MARKS: dict[Basis, str] = {"measured": "m", "projected": "p", "assumed": "a"}
UNKNOWN_MARK = "?"
# Of a figure that rests on a load test which is not to be trusted.
NOT_CERTIFIED_MARK = "!"
# Of a row that no other beats in everything.
PARETO_MARK = "*"
LEGEND = f"m measured, p projected, a assumed, {UNKNOWN_MARK} unknown"
_YES_NO = {True: "yes", False: "no", None: UNKNOWN_MARK}


def number(value: float | None, digits: int = 3) -> str:
    """A number in plain notation with so many digits that matter: `1,234`, `94.1`, `0.0000132`, or `?`."""
    if value is None:
        return UNKNOWN_MARK
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(abs(rounded))))
    return f"{rounded if decimals else value:,.{decimals}f}"


def marked(figure: Figure, scale: float = 1.0) -> str:
    """The figure times `scale` with the letter of its basis: `94.1 m`, or `?` where it is unknown."""
    return UNKNOWN_MARK if figure.value is None else f"{number(figure.value * scale)} {MARKS[figure.basis]}"


def interval(figure: Figure, scale: float = 1.0) -> str:
    """The figure's interval times `scale`: `88.2-99.4`, `-3 to 5` where it may be negative, or nothing where it has
    none or where its ends are written alike."""
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    low, high = number(figure.low * scale), number(figure.high * scale)
    if low == high == number(figure.value * scale):
        return ""
    return f"{low} to {high}" if figure.low < 0 else f"{low}-{high}"


def percent_number(ratio: float | None, digits: int = 1) -> str:
    """A ratio 0..1 as a bare percentage for a column whose header has the unit: `89.2`, or `?`."""
    return UNKNOWN_MARK if ratio is None else f"{100 * ratio:.{digits}f}"


def yes_no(answer: bool | None) -> str:
    """`yes`, `no`, or `?` where it is not known."""
    return _YES_NO[answer]
