"""Server settings that carry more: a small search by saturation, so that few of them need a search for a capacity.

Rounds of successive halving (Jamieson and Talwalkar, 2016): every candidate is saturated by a closed loop for a moment,
and once more in the reverse order, so that a machine that slows down meets all alike; the better half is again, and so
on until two are left. A candidate stands by the median of all its turns. Batches can raise what a server does at most
and ruin its latency at the same time, so the search only proposes: the capacity of what it proposes is then found
beside that of the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from deploycost.benchmarking.endpoint import endpoint_module
from deploycost.records import Figure, ServerSettings, TriedSettings

# Most texts computed together, and how long they wait for company.
_BATCHES = ((8, 0.0), (1, 0.0), (32, 0.0), (8, 2.0), (32, 5.0))
_LEAST_LEFT = 2


@dataclass(frozen=True)
class Saturation:
    """What a server with some settings did under a closed loop: answers per second, and their 95th percentile."""

    rate_rps: float
    p95_ms: float | None


Saturate = Callable[[ServerSettings], Saturation]


def candidates(cores: int) -> tuple[ServerSettings, ...]:
    """What to try on so many cores, the default of that many threads first: one engine on all, or one on each."""
    splits = ((1, cores),) if cores == 1 else ((1, cores), (cores, 1))
    return tuple(
        ServerSettings(workers=workers, threads=threads, max_batch=most, batch_window_ms=window_ms)
        for workers, threads in splits
        for most, window_ms in _BATCHES
    )


def propose(tries: Sequence[ServerSettings], saturate: Saturate, limit_ms: float) -> tuple[TriedSettings, ...]:
    """All that was tried, best first: those whose answers came within the limit before those whose did not.

    The first of `tries` is the default, which is saturated as often as the best; the two of them come first.
    """
    seen: dict[ServerSettings, list[Saturation]] = {each: [] for each in tries}
    left = list(tries)
    while True:
        for each in (*left, *reversed(left)):
            seen[each].append(saturate(each))
        kept = sorted(left, key=lambda each: _rank(seen[each], limit_ms))[: max(_LEAST_LEFT, len(left) // 2)]
        if tries[0] not in kept:
            kept[-1] = tries[0]
        left = [each for each in left if each in kept]
        if len(left) <= _LEAST_LEFT:
            break
    tried = sorted(seen, key=lambda each: (each not in left, -len(seen[each]), _rank(seen[each], limit_ms)))
    return tuple(
        TriedSettings(
            settings=each,
            saturation_rps=median(one.rate_rps for one in seen[each]),
            rounds=len(seen[each]),
            p95_ms=_p95_ms(seen[each]),
        )
        for each in tried
    )


def carries_more(other: Figure, default: Figure) -> bool:
    """Whether a capacity is above that of the default by more than chance: each is beyond an end of an interval.

    The greater of two capacities that are the same is too great, by chance; so the default stays where they may be.
    """
    value, usual = other.value or 0.0, default.value or 0.0
    beyond = default.high is not None and value >= default.high
    return value > usual and (beyond or usual <= (other.low or 0.0))


def module_of(bundle: Path, settings: ServerSettings) -> tuple[str, ...]:
    """Module and arguments of the endpoint that serves a bundle with such settings on a free loopback port."""
    return (
        *endpoint_module(bundle, settings.threads),
        *("--workers", str(settings.workers)),
        *("--max-batch", str(settings.max_batch)),
        *("--batch-window-ms", f"{settings.batch_window_ms:g}"),
    )


def _p95_ms(seen: Sequence[Saturation]) -> float | None:
    told = [one.p95_ms for one in seen if one.p95_ms is not None]
    return median(told) if told else None


def _rank(seen: Sequence[Saturation], limit_ms: float) -> tuple[bool, float]:
    p95_ms = _p95_ms(seen)
    return p95_ms is None or p95_ms > limit_ms, -median(one.rate_rps for one in seen)
