"""Whether requests pile up for good: arrivals at a known rate outrun the answers, and the rest of a probe is hopeless.

A queue that can bear its rate also grows for moments, most of all near its capacity. Two things tell it apart. The
rise must be significant against the spread of its own parts in time, as a walk without a drift would hardly show it:
requests in flight at a saturated server are such a walk, and those at one that has room to spare fall back. And it
must lead far: taken on for as long again at the least slope that is likely, to a wait far beyond the objective.

Requests in flight also grow where a few answers take very long and nobody queues. So many of all must be late, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

LOOK_EVERY_S = 0.05
BLOCKS = 20
# A shorter rise may be a pause of the server; fewer requests say nothing.
LEAST_S, LEAST_REQUESTS = 1.0, 60
# Standard errors that the rise must be of, and that its slope is taken to be less than it seems.
SIGNIFICANT, DOUBTED = 4.0, 3.0
# Answers must have come in so many blocks: a server that pauses is not outrun, it pauses.
LEAST_ANSWERED_BLOCKS = 15


class Look(NamedTuple):
    """What had been sent and answered by a moment, in seconds from the first request on."""

    at_s: float
    sent: int
    answered: int


@dataclass
class Backlog:
    """Requests in flight of an open loop at `rate_rps`, which ends at `end_s`, looked at as time goes by.

    It is hopeless once waits are sure to come to `hopeless_s`, and more than `late_ratio` of all are late, which is
    beyond `late_s`. All are seconds.
    """

    rate_rps: float
    late_s: float
    hopeless_s: float
    end_s: float
    late_ratio: float
    looks: list[Look] = field(default_factory=list)

    def wants(self, at_s: float) -> bool:
        """Whether it is time for another look."""
        # Until the first answers are due requests in flight grow at any server that serves some side by side.
        return at_s >= self.late_s and (not self.looks or at_s - self.looks[-1].at_s >= LOOK_EVERY_S * 0.999)

    def look(self, at_s: float, sent: int, answered: int, late: int) -> str:
        """Take a look, at most every `LOOK_EVERY_S`; returns why the rest is hopeless, or nothing.

        Of those sent so many were answered, and so many are late: were answered too late, or are still waited for.
        """
        if not self.wants(at_s):
            return ""
        self.looks.append(Look(at_s, sent, answered))
        first, last = self.looks[0], self.looks[-1]
        stretch_s = last.at_s - first.at_s
        if stretch_s < LEAST_S or last.sent - first.sent < LEAST_REQUESTS or len(self.looks) <= BLOCKS:
            return ""
        if late <= self.late_ratio * sent:
            return ""
        return self._judged(first, last, stretch_s)

    def _judged(self, first: Look, last: Look, stretch_s: float) -> str:
        behind, served_rps = self._behind(last), (last.answered - first.answered) / stretch_s
        if behind <= self.late_s * served_rps:
            return ""
        number = len(self.looks) - 1
        ends = [self.looks[number * block // BLOCKS] for block in range(BLOCKS + 1)]
        pairs = list(pairwise(ends))
        if sum(after.answered > before.answered for before, after in pairs) < LEAST_ANSWERED_BLOCKS:
            return ""
        rises = [self._behind(after) - self._behind(before) for before, after in pairs]
        error = standard_error(rises)
        if sum(rises) < SIGNIFICANT * error:
            return ""
        slope_rps = (sum(rises) - DOUBTED * error) / stretch_s
        # No farther ahead than it has been seen to rise.
        ahead_s = min(stretch_s, max(0.0, self.end_s - last.at_s))
        wait_s = (behind + slope_rps * ahead_s) / served_rps
        if wait_s <= self.hopeless_s:
            return ""
        return f"requests pile up: {100 * served_rps / self.rate_rps:.0f} % of them are answered"

    def _behind(self, look: Look) -> float:
        """Requests in flight; less those that came, by chance, beyond what the rate promises."""
        return min(look.sent, self.rate_rps * look.at_s) - look.answered


def standard_error(parts: list[float]) -> float:
    """Of a sum, by the spread of its parts, with the covariance of neighbours added: as if there were fewer of them."""
    number = len(parts)
    mean = sum(parts) / number
    away = [part - mean for part in parts]
    square = sum(one * one for one in away)
    spread = max(square, square + 2 * sum(one * other for one, other in pairwise(away)))
    # The mean is of the same parts: what that takes from the variance, and from the covariance where it is added.
    kept = 1 - 1 / number - (2 * (number - 1) / number**2 if spread > square else 0.0)
    return sqrt(spread / kept)
