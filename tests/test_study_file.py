"""Study files: the shipped ones are whole and share their cells; a wrong one is told all its mistakes at once."""

from typing import Any

import pytest
import yaml

from deploycost.errors import UserError
from deploycost.experiment import METHOD_NAMES
from deploycost.study_file import FULL_SIZE, GridSpec, find_study, found, make_study, merged, nested, shipped_studies

SHIPPED = [
    "bits", "dynamic-rank", "families", "lora-ranks", "methods", "prompt-layers", "prompt-tokens", "qlora-ranks",
    "scenarios",
]  # fmt: skip


def _content(**changes: Any) -> dict[str, Any]:
    cells = [
        {"name": "small", "method": "lora", "training": {"lora": {"rank": 2}}, "literature": {"accuracy": 0.8}},
        {"name": "large", "method": "lora", "training": {"lora": {"rank": 4}}, "literature": {"accuracy": 0.9}},
    ]
    claim = {"claim": "more is more", "metric": "accuracy", "cell": "large", "against": "small", "expected": "higher"}
    whole = {
        "name": "mine", "question": "Which?", "source": "a paper", "cells": cells, "claims": [claim],
        "tables": [{"title": "All", "metrics": ["accuracy"]}],
    }  # fmt: skip
    return whole | changes


def _refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as refused:
        make_study(yaml.safe_dump(_content(**changes)), "mine.yaml")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_shipped_studies_load_and_every_cell_of_every_size_is_an_experiment() -> None:
    studies = shipped_studies()
    assert [study.name for study in studies] == SHIPPED
    assert sum(len(study.all_cells()) for study in studies) == 45
    for study in studies:
        for size in (FULL_SIZE, "small"):
            for cell in study.all_cells():
                experiment = study.experiment_of(cell, size, 1, {})
                assert experiment.methods == (cell.method,)
                assert experiment.training.seed == 1
                assert experiment.model == ("minilm" if size == "small" else "distilbert-base-uncased")


@pytest.mark.parametrize("size", [FULL_SIZE, "small"])
@pytest.mark.parametrize(
    ("studies", "distinct"),
    [
        # methods: 4; prompt-tokens: 2 more beside its 20; bits: 1 more beside its 4; prompt-layers: 3; families: 5 more
        # beside its full and its prompt of 20; scenarios: none of its own.
        (("methods", "prompt-tokens", "bits", "prompt-layers", "families", "scenarios"), 15),
        # full and four ranks of LoRA; four of QLoRA; two dynamic ones and the two static ones of their memory.
        (("lora-ranks", "qlora-ranks", "dynamic-rank"), 13),
    ],
)
def test_shipped_studies_share_the_cells_that_they_have_in_common(
    studies: tuple[str, ...], distinct: int, size: str
) -> None:
    cells = set()
    for name in studies:
        study = find_study(name)
        for cell in study.all_cells():
            experiment = study.experiment_of(cell, size, 1, {})
            cells.add((experiment.model, experiment.dataset, cell.method, experiment.training.model_dump_json()))
    assert len(cells) == distinct


def test_the_literatures_figures_are_those_printed() -> None:
    methods = {cell.name: cell.literature for cell in find_study("methods").all_cells()}
    assert methods["full"]["training_s"] == 46 * 60
    assert methods["stacked"]["memory_bytes"] == 4.75e9
    ranks = {cell.name: cell.literature for cell in find_study("qlora-ranks").all_cells()}
    assert ranks["qlora rank 32"]["accuracy"] == 0.8819
    assert ranks["qlora rank 4"]["memory_bytes"] == 686.95e6


def test_the_users_changes_go_over_the_sizes_and_a_cells_over_the_common_ones() -> None:
    study = find_study("lora-ranks")
    small = study.experiment_of(study.cell("full"), "small", 2, {"dataset": {"train_rows": 50}})
    assert (small.dataset.train_rows, small.training.epochs, small.training.batch_size) == (50, 2, 8)
    assert small.training.learning_rate is None
    full = study.experiment_of(study.cell("full"), FULL_SIZE, 2, {})
    assert (full.dataset.train_rows, full.training.epochs, full.training.learning_rate) == (None, 3, 3e-5)


def test_the_axes_of_a_grid_multiply() -> None:
    grid = GridSpec(
        methods=("lora", "qlora"),
        axes={"lora.rank": (4, 8), "epochs": (1,)},
        training={"batch_size": 32},
        literature={"qlora rank 8 epochs 1": {"accuracy": 0.9}},
    )
    cells = grid.cells()
    assert [cell.name for cell in cells] == [
        "lora rank 4 epochs 1", "lora rank 8 epochs 1", "qlora rank 4 epochs 1", "qlora rank 8 epochs 1",
    ]  # fmt: skip
    assert cells[-1].training == {"batch_size": 32, "lora": {"rank": 8}, "epochs": 1}
    assert [cell.literature for cell in cells] == [{}, {}, {}, {"accuracy": 0.9}]


def test_all_mistakes_of_the_fields_are_told_at_once() -> None:
    told = _refusal(question=None, tabels=[], claims=[{"claim": "?", "metrik": "accuracy"}])
    assert told.startswith("mine.yaml: ")
    assert "tabels: unknown field (did you mean 'tables'?)" in told
    assert "claims.0.metrik: unknown field (did you mean 'metric'?)" in told
    assert "question: " in told


def test_an_unknown_metric_is_told_with_its_nearest() -> None:
    assert "did you mean 'accuracy'" in _refusal(tables=[{"title": "All", "metrics": ["acuracy"]}])


def test_names_that_no_cell_has_are_told_at_once() -> None:
    claim = _content()["claims"][0] | {"cell": "larg", "against": "medium"}
    told = _refusal(claims=[claim], factors={"size": ["smal"]}, profiled=["none of them"])
    for part in ("no cell 'larg' (did you mean 'large'?)", "no cell 'medium'", "factor 'size': no cell 'smal'"):
        assert part in told
    assert "profiled: no cell 'none of them'" in told


def test_a_factor_that_is_not_there_is_told_with_its_nearest() -> None:
    scenarios = [{"name": "best", "aim": "accuracy", "literature": {"sice": "large"}}]
    told = _refusal(factors={"size": ["small", "large"]}, scenarios=scenarios)
    assert "scenario 'best': no factor 'sice' (did you mean 'size'?)" in told


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ({"kind": "lines"}, "lines need an axis"),
        ({"kind": "lines", "axis": "lora.alpha"}, "no cell sets the axis 'lora.alpha'"),
        (
            {"kind": "lines", "axis": "prompt.layers"},
            "lines run along numbers above 0, axis 'prompt.layers' has 'late'",
        ),
        ({"kind": "bars", "axis": "lora.rank"}, "only lines have an axis"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused(figure: dict[str, Any], told: str) -> None:
    late = {"name": "late", "method": "prompt", "training": {"prompt": {"layers": "late"}}}
    cells = [*_content()["cells"], late]
    assert f"figure 'F': {told}" in _refusal(cells=cells, figures=[{"title": "F", **figure}])


def test_every_method_of_the_shipped_studies_stands_beside_full() -> None:
    beside_full = {
        cell.method
        for study in shipped_studies()
        if any(cell.method == "full" for cell in study.all_cells())
        for cell in study.all_cells()
    }
    assert beside_full == set(METHOD_NAMES)


def test_a_claim_that_its_own_figures_contradict_is_refused() -> None:
    claim = _content()["claims"][0] | {"expected": "lower"}
    assert "expects lower, its figures are 0.9 against 0.8" in _refusal(claims=[claim])


def test_wrong_cells_are_told_at_once_before_anything_runs() -> None:
    cells = [
        {"name": "small", "method": "lora", "training": {"lora": {"rank": 0}}},
        {"name": "large", "method": "lora", "training": {"epoch": 3}},
    ]
    told = _refusal(cells=cells)
    assert "cell 'small': training.lora.rank: input should be greater than or equal to 1" in told
    assert "cell 'large': training.epoch: unknown field (did you mean 'epochs'?)" in told


def test_a_study_that_is_not_there_is_told_with_its_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown study 'bit' \(did you mean 'bits'\?\); known: .*ends in .yaml"):
        find_study("bit")
    with pytest.raises(UserError, match="cannot read study"):
        find_study("nowhere.yaml")
    with pytest.raises(UserError, match=r"unknown size 'smal' \(did you mean 'small'\?\)"):
        find_study("bits").size("smal")


def test_mappings_are_joined_and_paths_lead_into_them() -> None:
    joined = merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, nested("a.d.e", 3))
    assert joined == {"a": {"b": None, "c": 2, "d": {"e": 3}}}
    assert found("a.d.e", joined) == 3
    assert found("a.x.e", joined) is None
