"""Crossings of curves that are known, and design effects worked out by hand."""

from math import exp, log
from random import Random

import pytest

from deploycost.benchmarking.crossing import Prior, Trial, crossing, design_effect, pooled_design_effect


def test_independent_misses_have_a_design_effect_of_one() -> None:
    source, effects = Random(1), []
    for _ in range(200):
        slices = [(100, sum(source.random() < 0.1 for _ in range(100))) for _ in range(60)]
        effect = design_effect(slices)
        assert effect is not None
        effects.append(effect)
    # Never below 1, so above it on average; a dozen batches tell a variance to a third or so.
    assert 1 <= sum(effects) / len(effects) < 1.6


def test_misses_that_come_in_bursts_are_worth_fewer() -> None:
    # A burst of 5 slices, all late, in every 20: 12 batches of 5 slices, of which 3 are late as a whole. Their share is
    # 1/4, a residual is 50 x 3/4 or 50 x 1/4, so their squares sum to 3 x 37.5^2 + 9 x 12.5^2 = 5625. Of the 11 pairs
    # of neighbours 5 hold a late one: 5 x -37.5 x 12.5 + 6 x 12.5^2 = -1406.25. 5625 - 2812.5 is no less than half.
    slices = ([(10, 10)] * 5 + [(10, 0)] * 15) * 3
    kept = 1 - 1 / 12 - 2 * 11 / 144
    assert design_effect(slices) == pytest.approx(2812.5 / (0.25 * 0.75 * 600 * kept))


def test_nothing_missed_or_all_missed_tells_no_design_effect() -> None:
    assert design_effect([(10, 0)] * 60) is None
    assert design_effect([(10, 10)] * 60) is None
    assert design_effect([(10, 5)] * 3) is None


def test_the_prior_stands_in_where_no_probe_tells() -> None:
    trials = [Trial(100, 0, 1000), Trial(120, 900, 1000)]
    assert pooled_design_effect(trials, 0.05, Prior(20, 40)) == pytest.approx(40 * 3)
    # One probe at the limit counts as much as the prior: (40 + 20) / 2, and (1 + 2 / 2) for their number.
    assert pooled_design_effect([Trial(100, 50, 1000, 20)], 0.05, Prior(20, 40)) == pytest.approx(60)


def test_a_curve_without_noise_is_crossed_where_it_crosses() -> None:
    def missed(rate_rps: float) -> float:
        odds = 0.05 / 0.95 * exp(20 * log(rate_rps / 100))
        return 1_000_000 * odds / (1 + odds)

    trials = [Trial(rate, missed(rate), 1_000_000, 1.0) for rate in (94, 97, 99, 101, 103, 106)]
    found = crossing(trials, 0.05, Prior(slope=15, design_effect=1), middle_rps=98)
    assert found.rate_rps == pytest.approx(100, rel=0.002)
    assert found.low_rps < 100 < found.high_rps
    assert found.slope == pytest.approx(20, rel=0.15)


def test_more_alike_requests_make_a_wider_interval() -> None:
    def width(effect: float) -> float:
        trials = [Trial(95, 20, 1000, effect), Trial(105, 120, 1000, effect)]
        found = crossing(trials, 0.05, Prior(slope=20, design_effect=effect), middle_rps=100)
        return found.high_rps / found.low_rps

    assert 1 < width(1) < width(10) < width(100)
