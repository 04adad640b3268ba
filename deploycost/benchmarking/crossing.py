"""Where a share of missed requests crosses what is allowed of it, as the rate rises, and how sure that is.

Near the limit the log-odds of a miss rise about linearly with the logarithm of the rate: in an M/M/1 queue the late
share is exp(-(mu - rate) t), and other queues' tails fall exponentially as well (Asmussen, Applied Probability and
Queues, 2003, XIII.5). The crossing is the one unknown of interest and the slope the other. Requests of one probe are no
independent samples, since a queue that is long stays long for a while: their number counts divided by the design
effect, the variance of the missed count over that of a binomial one (Kish, Survey Sampling, 1965). The interval is
the middle 95 % of the crossing's distribution, under a flat prior on the crossing and a wide one on the slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

# Misses of a slice against those of the next: longer than a busy period of a queue, as slices are merged.
BATCHES = 12
# Beyond so many times the allowed share the curve is no straight line any more, and says only "above".
MOST_STRAIN = 6.0
# Of the logarithm of the slope about what a queue with the same service times would have.
_SLOPE_SPREAD = 0.6
_LEAST_SLOPE, _MOST_SLOPE, _SLOPES = 1.0, 300.0, 25
# How far the crossing may lie from the middle of the probes near it, in widths of the curve, and the grid's fineness.
_REACH, _LEAST_REACH, _GRID = 12.0, 0.25, 501
# The design effect of a queue with the same service times weighs as much as so many probes at the limit.
_PRIOR_PROBES = 1.0
_TAIL = 0.025


@dataclass(frozen=True)
class Trial:
    """One probe under one objective: requests that missed it, of how many, and their counts in slices of time."""

    rate_rps: float
    missed: float
    requests: float
    design_effect: float | None = None


@dataclass(frozen=True)
class Prior:
    """What a queue with the same service times does: log-odds per logarithm of the rate, and the design effect."""

    slope: float = 20.0
    design_effect: float = 50.0


@dataclass(frozen=True)
class Crossing:
    """The rate at which the allowed share is missed, its 95 % interval, and the slope there."""

    rate_rps: float
    low_rps: float
    high_rps: float
    slope: float
    design_effect: float


def design_effect(slices: Sequence[tuple[int, int]]) -> float | None:
    """How many requests of a probe are worth one independent one, from (requests, missed) of equal slices of time.

    By batch means, with the covariance of neighbouring batches added; None where nothing was missed or too little was
    sent to tell.
    """
    counts = np.array(slices, dtype=float)
    if len(counts) < BATCHES or not 0 < counts[:, 1].sum() < counts[:, 0].sum():
        return None
    batches = np.array([part.sum(axis=0) for part in np.array_split(counts, BATCHES)])
    requests, missed = batches[:, 0], batches[:, 1]
    share = missed.sum() / requests.sum()
    residual = missed - share * requests
    square = float((residual**2).sum())
    spread = max(square + 2 * float((residual[1:] * residual[:-1]).sum()), square / 2)
    # The share is estimated from the same counts: what that takes from the variance and from the covariance.
    kept = 1 - 1 / BATCHES - 2 * (BATCHES - 1) / BATCHES**2
    return max(1.0, spread / (share * (1 - share) * float(requests.sum()) * kept))


def pooled_design_effect(trials: Sequence[Trial], allowed: float, prior: Prior) -> float:
    """One design effect for all probes near the limit, each by the variance that it saw; the prior counts as one."""
    near = [trial for trial in trials if trial.design_effect is not None and 0 < _share(trial) <= MOST_STRAIN * allowed]
    usual = allowed * (1 - allowed) * max((trial.requests for trial in trials), default=1.0)
    weights = [_share(trial) * (1 - _share(trial)) * trial.requests for trial in near]
    total = sum(w * (trial.design_effect or 1.0) for w, trial in zip(weights, near, strict=True))
    pooled = (total + _PRIOR_PROBES * usual * prior.design_effect) / (sum(weights) + _PRIOR_PROBES * usual)
    # A variance from few probes is itself uncertain, which widens an interval as Student's t does.
    return pooled * (1 + 2 / (len(near) + _PRIOR_PROBES))


def crossing(trials: Sequence[Trial], allowed: float, prior: Prior, middle_rps: float) -> Crossing:
    """Where the missed share crosses `allowed`, sought around `middle_rps`. `trials` is not empty."""
    effect = pooled_design_effect(trials, allowed, prior)
    slopes = np.exp(np.linspace(log(_LEAST_SLOPE), log(_MOST_SLOPE), _SLOPES))
    reach = min(1.0, max(_LEAST_REACH, _REACH / prior.slope))
    places = log(middle_rps) + np.linspace(-reach, reach, _GRID)
    fits = _log_likelihood(trials, allowed, effect, slopes, places)
    fits -= ((np.log(slopes) - log(prior.slope)) ** 2 / (2 * _SLOPE_SPREAD**2))[:, None]
    weights = np.exp(fits - fits.max())
    ladder = np.cumsum(weights.sum(axis=0)) / weights.sum()
    low, middle, high = (float(np.interp(level, ladder, places)) for level in (_TAIL, 0.5, 1 - _TAIL))
    slope = float(np.exp((weights.sum(axis=1) @ np.log(slopes)) / weights.sum()))
    return Crossing(exp(middle), exp(low), exp(high), slope, effect)


def _log_likelihood(
    trials: Sequence[Trial], allowed: float, effect: float, slopes: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Binomial log-likelihoods over slopes (rows) and crossings (columns), divided by the design effect."""
    total = np.zeros((len(slopes), len(places)))
    beyond = _logit(min(0.9, MOST_STRAIN * allowed))
    for trial in trials:
        odds = _logit(allowed) + slopes[:, None] * (log(trial.rate_rps) - places[None, :])
        if _share(trial) > MOST_STRAIN * allowed:
            # A share beyond the straight part tells no more than that it is beyond.
            odds, missed = np.minimum(odds, beyond), trial.requests * min(0.9, MOST_STRAIN * allowed)
        else:
            # A probe holds its number of arrivals fixed, so rates do not vary as long as it lasts, and a curve that
            # bends upwards misses what their variation would have added.
            odds = odds - np.minimum(slopes[:, None] ** 2 / (2 * max(trial.requests, 1.0)), 2.0)
            missed = trial.missed
        total += (missed * odds - trial.requests * np.logaddexp(0, odds)) / effect
    return total


def _share(trial: Trial) -> float:
    return trial.missed / trial.requests if trial.requests else 0.0


def _logit(share: float) -> float:
    return log(share / (1 - share))
