"""Findings and choices against differences and ratios worked out by hand."""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import pytest

from deploycost.records import Figure
from deploycost.study_file import StudyFile
from deploycost.study_findings import compare, findings
from deploycost.study_metrics import METRICS
from deploycost.study_record import CellMeasurement, CellResult, Finding, ScenarioChoice, ServedArtifact
from deploycost.study_scenarios import choices

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
    assert "accuracy % of a is 86.00, of b 81.00: +5.00 points" in found.reason
    assert "the source has 90.00 and 89.00, +1.00 points" in found.reason
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


def test_predicted_memory_is_not_the_same_on_every_seed(find: Callable[..., Finding]) -> None:
    # It hangs on the longest batch, which the seed draws.
    found = find("lower", [500], [1000], metric="predicted_memory_bytes")
    assert found.verdict == "cannot tell"


@pytest.fixture
def priced(make_measurement: Callable[..., CellMeasurement]) -> Callable[..., CellMeasurement]:
    """A measurement of which one artifact was load-tested and priced, another was not."""

    def priced(value: float, low: float | None, high: float | None) -> CellMeasurement:
        figure = Figure(value=value, low=low, high=high, basis="assumed")
        tested = ServedArtifact(artifact="onnx-int8", accuracy=0.8, usd_per_million=figure, certified=True)
        return make_measurement(served=(ServedArtifact(artifact="onnx-fp32", accuracy=0.8), tested))

    return priced


def _on_price(one: CellMeasurement, other: CellMeasurement) -> Finding:
    results = tuple(
        CellResult(name=name, method="lora", slug="lora-r8", experiment_digest="d", seed=1, measured=measured)
        for name, measured in (("a", one), ("b", other))
    )
    claim = {"claim": "c", "metric": "usd_per_million", "cell": "a", "against": "b", "expected": "lower"}
    study = StudyFile.model_validate(
        {
            "name": "s", "question": "q", "source": "paper", "claims": [claim],
            "cells": [{"name": name, "method": "lora"} for name in "ab"],
            "tables": [{"title": "t", "metrics": ["accuracy"]}],
        }
    )  # fmt: skip
    return findings(study, results)[0]


def test_prices_of_one_seed_are_told_apart_by_their_own_intervals(
    priced: Callable[..., CellMeasurement], make_measurement: Callable[..., CellMeasurement]
) -> None:
    cheaper = _on_price(priced(1.0, 0.8, 1.2), priced(2.0, 1.6, 2.4))
    # 0.8 / 2.4 and 1.2 / 1.6
    assert (cheaper.ours, cheaper.ours_low, cheaper.ours_high) == pytest.approx((0.5, 1 / 3, 0.75))
    assert cheaper.verdict == "agrees"
    assert "by the intervals of the load tests" in cheaper.reason
    assert _on_price(priced(1.0, 0.8, 1.7), priced(2.0, 1.6, 2.4)).verdict == "cannot tell"
    assert _on_price(priced(1.0, None, None), priced(2.0, 1.6, 2.4)).verdict == "cannot tell"
    assert _on_price(make_measurement(), priced(2.0, 1.6, 2.4)).reason.endswith("--loadtest measures it")


def _chosen(figures: dict[str, list[tuple[float, int]]], make: Callable[..., CellMeasurement]) -> list[ScenarioChoice]:
    """The choices between cells given by accuracy and memory in MB on each seed."""
    results = tuple(
        CellResult(
            name=name, method="prompt", slug="p", experiment_digest="d", seed=seed,
            measured=make(accuracy, memory_bytes=memory * 10**6),
        )
        for name, seeds in figures.items()
        for seed, (accuracy, memory) in enumerate(seeds, start=1)
    )  # fmt: skip
    study = StudyFile.model_validate(
        {
            "name": "s", "question": "q", "source": "paper", "tables": [{"title": "t", "metrics": ["accuracy"]}],
            "cells": [{"name": name, "method": "prompt"} for name in ("ten", "twenty", "fifty")],
            "factors": {"tokens": ["ten", "twenty", "fifty"]},
            "scenarios": [
                {"name": "best", "aim": "accuracy", "literature": {"tokens": "fifty"}},
                {"name": "middle", "aim": "balance", "literature": {"tokens": "ten"}},
                {"name": "least", "aim": "resources", "literature": {"tokens": "ten"}},
            ],
        }
    )  # fmt: skip
    return list(choices(study, results))


def test_scenarios_are_chosen_by_the_figures(make_measurement: Callable[..., CellMeasurement]) -> None:
    figures = {
        "ten": [(0.80, 300), (0.81, 301), (0.82, 302)],
        "twenty": [(0.896, 400), (0.906, 401), (0.916, 402)],
        "fifty": [(0.90, 900), (0.91, 901), (0.92, 902)],
    }
    made = _chosen(figures, make_measurement)
    assert [each.cell for each in made] == ["fifty", "twenty", "ten"]
    assert [each.alike for each in made] == [(), (), ()]
    assert [each.verdict for each in made] == ["agrees", "disagrees", "agrees"]
    del figures["fifty"]
    assert [each.cell for each in _chosen(figures, make_measurement)] == [None, None, None]


def test_cells_that_the_seeds_do_not_tell_apart_are_named(make_measurement: Callable[..., CellMeasurement]) -> None:
    # Fifty over twenty: +0.02, -0.01, +0.01; ten is far below. Memory of ten and twenty: 300 / 310, 310 / 300.
    figures = {
        "ten": [(0.70, 300), (0.70, 310), (0.70, 305)],
        "twenty": [(0.88, 310), (0.91, 300), (0.89, 308)],
        "fifty": [(0.90, 900), (0.90, 900), (0.90, 900)],
    }
    best, middle, least = _chosen(figures, make_measurement)
    assert (best.cell, best.alike, best.verdict) == ("fifty", ("twenty",), "cannot tell")
    assert best.reason == "the highest mean accuracy, 90.00 %; not told apart from twenty"
    # Whether twenty is within a point of fifty is open, so fifty may be the one.
    assert (middle.cell, middle.alike, middle.verdict) == ("twenty", ("fifty",), "disagrees")
    assert (least.cell, least.alike, least.verdict) == ("ten", ("twenty",), "cannot tell")


def test_one_seed_tells_no_choices_apart(make_measurement: Callable[..., CellMeasurement]) -> None:
    figures = {"ten": [(0.80, 300)], "twenty": [(0.895, 400)], "fifty": [(0.90, 900)]}
    made = _chosen(figures, make_measurement)
    assert [each.cell for each in made] == ["fifty", "twenty", "ten"]
    assert {each.verdict for each in made} == {"cannot tell"}
