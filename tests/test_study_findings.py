"""Findings against differences and ratios worked out by hand."""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import pytest

from deploycost.study_file import StudyFile
from deploycost.study_findings import choices, compare, findings
from deploycost.study_metrics import METRICS
from deploycost.study_record import CellMeasurement, CellResult, Finding

T2 = 4.302653  # Student's t for two degrees of freedom, 95 %


@pytest.fixture
def find(make_measurement: Callable[..., CellMeasurement]) -> Callable[..., Finding]:
    """The finding on `a` against `b`, given the metric's values on seeds 1, 2, 3 of each."""

    def find(expected: str, a: list[float], b: list[float], metric: str = "accuracy", **changes: Any) -> Finding:
        field = "accuracy" if metric == "accuracy" else metric
        results = tuple(
            CellResult(
                name=name, method="lora", slug="lora-r8", experiment_digest="d", seed=seed,
                measured=make_measurement(**{field: value}),
            )
            for name, values in (("a", a), ("b", b))
            for seed, value in enumerate(values, start=1)
        )  # fmt: skip
        literature = changes.pop("literature", ({}, {}))
        claim = {"claim": "c", "metric": metric, "cell": "a", "against": "b", "expected": expected} | changes
        cells = [{"name": n, "method": "lora", "literature": own} for n, own in zip("ab", literature, strict=True)]
        study = StudyFile.model_validate(
            {
                "name": "s", "question": "q", "source": "paper", "cells": cells, "claims": [claim],
                "tables": [{"title": "t", "metrics": [metric]}],
            }
        )  # fmt: skip
        return findings(study, results)[0]

    return find


def test_a_difference_of_scores_is_paired_by_seed() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, standard deviation 0.01.
    compared = compare({1: 0.81, 2: 0.92, 3: 0.73, 9: 0.1}, {1: 0.80, 2: 0.90, 3: 0.70}, METRICS["accuracy"])
    assert compared.pairs == 3
    assert compared.value == pytest.approx(0.02)
    assert compared.low == pytest.approx(0.02 - T2 * 0.01 / sqrt(3))
    assert compared.high == pytest.approx(0.02 + T2 * 0.01 / sqrt(3))


def test_all_else_is_compared_as_the_ratio_of_geometric_means() -> None:
    # Ratios 1/2, 1/2 and 2: the mean of their logarithms is -log(2)/3.
    compared = compare({1: 5, 2: 5, 3: 20}, {1: 10, 2: 10, 3: 10}, METRICS["training_s"])
    half = T2 * sqrt(((log(0.5) * 2 / 3) ** 2 * 2 + (log(2) * 4 / 3) ** 2) / 2) / sqrt(3)
    assert compared.value == pytest.approx(0.5 ** (1 / 3))
    assert compared.low == pytest.approx(exp(-log(2) / 3 - half), rel=1e-5)


def test_a_claim_agrees_where_the_interval_lies_on_its_side(find: Callable[..., Finding]) -> None:
    found = find("higher", [0.85, 0.86, 0.87], [0.80, 0.81, 0.82], literature=({"accuracy": 0.9}, {"accuracy": 0.89}))
    assert found.verdict == "agrees"
    assert found.theirs == pytest.approx(0.01)
    assert "ours is +5.00 points" in found.reason
    assert "theirs is +1.00 points" in found.reason
    assert found.source == "paper"


def test_a_claim_disagrees_where_it_lies_on_the_other_side(find: Callable[..., Finding]) -> None:
    assert find("lower", [0.85, 0.86, 0.88], [0.80, 0.81, 0.82]).verdict == "disagrees"
    slower = find("lower", [50, 60, 70], [20, 25, 30], metric="training_s")
    assert slower.verdict == "disagrees"
    assert slower.scale == "ratio"


def test_what_the_interval_leaves_open_cannot_be_told(find: Callable[..., Finding]) -> None:
    # Differences 0.03, -0.02, 0.02: mean 0.01, standard deviation 0.0265, half interval 0.066.
    found = find("higher", [0.83, 0.78, 0.82], [0.80, 0.80, 0.80])
    assert found.verdict == "cannot tell"
    assert found.ours == pytest.approx(0.01)


def test_one_seed_tells_only_what_seeds_do_not_change(find: Callable[..., Finding]) -> None:
    assert find("higher", [0.9], [0.8]).verdict == "cannot tell"
    assert "one seed, no interval" in find("higher", [0.9], [0.8]).reason
    exact = find("lower", [500], [1000], metric="trainable_parameters")
    assert exact.verdict == "agrees"
    assert "the same on every seed" in exact.reason


def test_equals_are_equal_within_a_margin(find: Callable[..., Finding]) -> None:
    # Differences 0.001, 0.002, 0.003: 0.002 +- 0.0025, within a point.
    assert find("equal", [0.801, 0.802, 0.803], [0.8, 0.8, 0.8], margin=0.01).verdict == "agrees"
    assert find("equal", [0.801, 0.802, 0.803], [0.8, 0.8, 0.8], margin=0.003).verdict == "cannot tell"
    assert find("equal", [0.901, 0.902, 0.903], [0.8, 0.8, 0.8], margin=0.01).verdict == "disagrees"
    assert find("equal", [101, 102, 103], [100, 100, 100], metric="training_s", margin=0.05).verdict == "agrees"


def test_cells_that_were_not_measured_cannot_be_told(find: Callable[..., Finding]) -> None:
    found = find("higher", [], [0.8])
    assert found.verdict == "cannot tell"
    assert found.ours is None
    assert "not known of both" in found.reason


def test_scenarios_are_chosen_by_the_figures(make_measurement: Callable[..., CellMeasurement]) -> None:
    figures = {"ten": (0.80, 300), "twenty": (0.895, 400), "fifty": (0.90, 900)}
    results = tuple(
        CellResult(
            name=name, method="prompt", slug="p", experiment_digest="d", seed=1,
            measured=make_measurement(accuracy, memory_bytes=memory * 10**6),
        )
        for name, (accuracy, memory) in figures.items()
    )  # fmt: skip
    study = StudyFile.model_validate(
        {
            "name": "s", "question": "q", "source": "paper", "tables": [{"title": "t", "metrics": ["accuracy"]}],
            "cells": [{"name": name, "method": "prompt"} for name in figures],
            "factors": {"tokens": list(figures)},
            "scenarios": [
                {"name": "best", "aim": "accuracy", "literature": {"tokens": "fifty"}},
                {"name": "middle", "aim": "balance", "literature": {"tokens": "ten"}},
                {"name": "least", "aim": "resources", "literature": {"tokens": "ten"}},
            ],
        }
    )  # fmt: skip
    assert [each.cell for each in choices(study, results)] == ["fifty", "twenty", "ten"]
    assert [each.cell for each in choices(study, results[:2])] == [None, None, None]
