"""When requests are due: decided ahead from a seed, so that no answer, late or lost, can change the load."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from random import Random

NS_PER_S = 1_000_000_000


def arrival_offsets_ns(
    arrivals: str, rate_rps: float, seconds: float, seed: int, trace_s: Sequence[float] = ()
) -> list[int]:
    """Offsets in nanoseconds from the start, ascending, all within `seconds`.

    `poisson` draws each offset uniformly: a Poisson process given its number of arrivals (Kingman, Poisson Processes,
    1993, section 2.4). The number is `rate_rps * seconds`, because chance in it, 5 % at 400 arrivals, would be an error
    of the offered rate. `constant` spaces them evenly, the first half a gap after the start. `trace` replays `trace_s`
    (what `read_trace` gives) over and over, as recorded where `rate_rps` is 0, else faster or slower to that mean rate.
    """
    if arrivals == "trace":
        return _replayed_ns(trace_s, rate_rps, seconds)
    number = max(1, round(rate_rps * seconds))
    if arrivals == "constant":
        return [int((index + 0.5) * seconds * NS_PER_S / number) for index in range(number)]
    source = Random(seed)
    return sorted(int(source.random() * seconds * NS_PER_S) for _ in range(number))


def trace_rate_rps(trace_s: Sequence[float]) -> float:
    """Mean rate of a trace, as recorded."""
    return (len(trace_s) - 1) / trace_s[-1]


def read_trace(path: str) -> list[float]:
    """Seconds since the first arrival, ascending, of a file with one time a line: seconds, or ISO 8601 dates and times.

    Raises:
        ValueError: the file cannot be read, a line is neither, or all arrivals are at one moment.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the trace {path}: {error}") from None
    told = [(line.strip(), f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    times = sorted(_seconds(text, place) for text, place in told)
    if len(times) < 2 or times[0] == times[-1]:
        raise ValueError(f"{path} is no trace of arrivals: expected two different times at least, one a line")
    return [time - times[0] for time in times]


def _replayed_ns(trace_s: Sequence[float], rate_rps: float, seconds: float) -> list[int]:
    own_rps = trace_rate_rps(trace_s)
    pace = own_rps / rate_rps if rate_rps else 1.0
    # The gap from the last arrival to the first of the next round is the mean one.
    round_s = len(trace_s) / own_rps * pace
    offsets: list[int] = []
    start_s = 0.0
    while start_s < seconds:
        due_s = (start_s + offset_s * pace for offset_s in trace_s)
        offsets += [int(each_s * NS_PER_S) for each_s in due_s if each_s < seconds]
        start_s += round_s
    return offsets


def _seconds(text: str, place: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise ValueError(
                f"{place}: expected seconds (12.5) or a date and time (2026-01-31T12:00:00.5Z), got {text[:40]!r}"
            ) from None
    if not isfinite(seconds):
        raise ValueError(f"{place}: expected a moment, got {text!r}")
    return seconds
