"""How quantities are written for people: one place, so that every table and page agrees."""

from decimal import Decimal

GIB = 1024**3
MIB = 1024**2
SECONDS_PER_HOUR = 3600
# A provider's month: 365 days x 24 h / 12, as AWS, GCP and Azure calculators use.
HOURS_PER_MONTH = 730
UNKNOWN = "unknown"


def usd(amount: Decimal | float | None) -> str:
    """Dollars with the digits that matter: `$1,234`, `$12.30`, `$0.0042`, or `unknown`."""
    if amount is None:
        return UNKNOWN
    value = float(amount)
    if abs(value) >= 1000:
        return f"${value:,.0f}"
    if abs(value) >= 1:
        return f"${value:.2f}"
    return f"${value:.3g}" if value else "$0"


def bytes_text(count: float | None) -> str:
    """Bytes in binary units: `812 KiB`, `22.9 MiB`, `1.34 GiB`, or `unknown`."""
    if count is None:
        return UNKNOWN
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}" if count / size < 999.5 else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"


def seconds_text(seconds: float | None) -> str:
    """A duration: `840 ms`, `12.3 s`, `4 min 10 s`, `2 h 05 min`, or `unknown`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(ratio: float | None, digits: int = 1) -> str:
    """A ratio 0..1 as a percentage: `89.2 %`, or `unknown`."""
    return UNKNOWN if ratio is None else f"{100 * ratio:.{digits}f} %"


def points(ratio: float | None) -> str:
    """A difference of ratios in percentage points: `0.76 points`, or `unknown`."""
    return UNKNOWN if ratio is None else f"{100 * ratio:.2f} points"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three digits: `4.12 ms`, `412 ms`, or `unknown`."""
    return UNKNOWN if value is None else f"{value:.3g} ms" if value < 999.5 else f"{value:,.0f} ms"


def rate(value: float | None) -> str:
    """Requests per second with three digits: `94.1/s`, or `unknown`."""
    return UNKNOWN if value is None else f"{value:.3g}/s" if value < 999.5 else f"{value:,.0f}/s"
