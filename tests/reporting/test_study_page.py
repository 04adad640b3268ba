"""A study's page: figures beside the literature's, failed cells in sight, and what was written by hand kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from deploycost.environment import MachineFacts
from deploycost.records import Figure, OperatorTime, ProfileRecord, RankDecision, RankHistory
from deploycost.reporting.study_figures import study_figures
from deploycost.reporting.study_page import BY_HAND, findings_of, grids_of, write_page
from deploycost.reporting.study_tables import metrics_grid, operators_grid, scenarios_grid, spread_of
from deploycost.reporting.tables import draw, render
from deploycost.study_file import FigureSpec, StudyFile, TableSpec, find_study, make_study, shipped_studies
from deploycost.study_findings import findings
from deploycost.study_record import CellMeasurement, CellPlan, CellResult, ServedArtifact, StudyRecord
from deploycost.study_scenarios import choices

WHEN = "2026-01-02T03:04:05+00:00"
MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=2, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)
SEEDS = (1, 2, 3)


@pytest.fixture
def record_of(make_measurement: Callable[..., CellMeasurement]) -> Callable[..., StudyRecord]:
    """A record of a study in which each cell is a little better, slower and larger than the one before it.

    Over seeds 1, 2, 3 an accuracy lies 0.01 below, at and 0.01 above its mean.
    """

    def measure(study: StudyFile, place: int, seed: int) -> CellMeasurement:
        cell = study.all_cells()[place]
        ranks = _history() if cell.method == "dynamic" else None
        profile = _profile(cell.name) if cell.name in study.profiled and seed == 1 else None
        return make_measurement(
            0.8 + 0.02 * place + 0.01 * (seed - 2),
            memory_bytes=(400 + 50 * place) * 10**6,
            training_s=60.0 + place + seed,
            ranks=ranks,
            profile=profile,
        )

    def make(study: StudyFile, failed: str = "", **changes: Any) -> StudyRecord:
        results = tuple(
            CellResult(
                name=cell.name, method=cell.method, slug=cell.method, experiment_digest="d", seed=seed,
                measured=None if cell.name == failed else measure(study, place, seed),
                error="rank 64 is above the width | 32" if cell.name == failed else None,
            )
            for place, cell in enumerate(study.all_cells())
            for seed in SEEDS
        )  # fmt: skip
        cells = tuple(
            CellPlan(name=c.name, method=c.method, settings=c.training, literature=c.literature)
            for c in study.all_cells()
        )
        fields: dict[str, Any] = {
            "name": study.name, "question": study.question, "size": "small", "base_model": "minilm",
            "dataset": "ag_news", "dataset_description": "", "dataset_generated": False, "train_rows": 800,
            "test_rows": 1000, "same_train_rows": False, "same_test_rows": False, "choices": choices(study, results),
            "reference": study.reference, "epochs": 2, "seeds": SEEDS, "cores_per_cell": 1, "cells": cells,
            "results": results, "findings": findings(study, results), "scaled_down": ("epochs: 2 (literature: 5)",),
            "source": study.source, "command": f"deploycost study {study.name} --size small", "machine": MACHINE,
            "made_at": WHEN,
        }  # fmt: skip
        return StudyRecord(**(fields | changes))

    return make


def _history() -> RankHistory:
    layers = ("encoder.0.query", "encoder.1.query")
    decisions = tuple(
        RankDecision(step=10, layer=layer, importance=0.1, rank_before=6, rank_after=4, reason="least important")
        for layer in layers
    )
    return RankHistory(
        memory_budget_bytes=None, initial_total_rank=12, final_total_rank=8, decisions=decisions,
        final_ranks=dict.fromkeys(layers, 4),
    )  # fmt: skip


def _profile(name: str) -> ProfileRecord:
    times = (
        OperatorTime(group="matmul", phase="forward", time_ms=6.0, calls=10),
        OperatorTime(group="quantisation", phase="forward", time_ms=2.0, calls=4),
    )
    return ProfileRecord(
        fingerprint="f", method=name.partition(" ")[0], slug=name.replace(" ", "-"), steps=5, step_ms=9.0,
        times=times, trace_file="trace.json", machine=MACHINE, finished_at=WHEN,
    )  # fmt: skip


def test_a_mean_stands_with_half_its_interval_and_the_literatures_figure_beside(
    record_of: Callable[..., StudyRecord],
) -> None:
    record = record_of(find_study("bits"))
    grid = metrics_grid(record, TableSpec(title="Bits", metrics=("accuracy", "memory_bytes", "samples_per_s")))
    assert [column.header for column in grid.columns] == [
        "cell", "accuracy %", "literature", "memory MB", "literature", "samples/s",
    ]  # fmt: skip
    # Accuracies 79, 80, 81 %: standard deviation 1, half interval 4.303 / sqrt(3) = 2.48.
    assert grid.rows[0] == ("4 bits", "80.00 ± 2.48", "87.25", "400 ± 0", "4,500", "10.0 ± 0")
    assert any("3 seeds" in note for note in grid.notes)


def test_one_seed_has_no_interval(record_of: Callable[..., StudyRecord]) -> None:
    whole = record_of(find_study("bits"))
    record = whole.model_copy(update={"results": whole.results[1:2], "seeds": (2,)})
    spread = spread_of(record.measurements("4 bits"), "accuracy")
    assert spread is not None
    assert (spread.mean, spread.half) == (pytest.approx(80.0), None)
    assert metrics_grid(record, TableSpec(title="t", metrics=("accuracy",))).notes[0].startswith("One seed")


def test_failed_cells_are_shown_with_their_reason(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("bits")
    record = record_of(study, failed="8 bits")
    write_page(study, record, tmp_path / "page.md", tmp_path / "figures")
    page = (tmp_path / "page.md").read_text()
    assert "| 8 bits | failed | 88.00 |" in page
    assert "| 8 bits | 1 | rank 64 is above the width \\| 32 |" in page
    assert page.count("**Cannot tell**") == len(study.claims)
    assert "is not known of both" in page


def test_a_page_states_how_it_was_measured(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("methods")
    write_page(study, record_of(study), tmp_path / "methods.md", tmp_path / "figures")
    page = (tmp_path / "methods.md").read_text()
    for part in (
        "800 training and 1,000 test rows, 2 epochs, seeds 1, 2, 3",
        "Test CPU, no GPU, 8 GiB of memory; 2 cores", "trained on 1 core each, 2 at once",
        "measured on 2026-01-02", "**Unlike the literature's**: epochs: 2 (literature: 5)", "**Basis**",
        "one NVIDIA T4", "each draws its own training and test rows",
        "Nothing is corrected for the number of claims: of 9",
        "```\ndeploycost study methods --size small\n```", "factor of about twenty",
    ):  # fmt: skip
        assert part in page, part
    assert "(figures/methods-1-bars.svg)" in page


def test_what_was_written_by_hand_stays_when_a_page_is_written_again(
    record_of: Callable[..., StudyRecord], tmp_path: Path
) -> None:
    study, path = find_study("bits"), tmp_path / "bits.md"
    write_page(study, record_of(study), path, tmp_path / "figures")
    first = path.read_text()
    assert first.endswith(f"{BY_HAND}\n")
    path.write_text(first + "\n## What it teaches\n\nMine.\n")
    write_page(study, record_of(study, made_at="2027-01-01T00:00:00+00:00"), path, tmp_path / "figures")
    assert path.read_text().endswith(f"{BY_HAND}\n\n## What it teaches\n\nMine.\n")
    assert path.read_text().count(BY_HAND) == 1
    assert "page of 2027-01-01" in path.read_text()


def test_every_shipped_study_has_its_page_and_figures(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    drawn: dict[str, int] = {}
    for study in shipped_studies():
        paths = write_page(study, record_of(study), tmp_path / f"{study.name}.md", tmp_path / "figures")
        page = paths[-1].read_text()
        for path in paths[:-1]:
            root = ElementTree.fromstring(path.read_text())
            assert root.tag.endswith("svg")
            assert f"({path.parent.name}/{path.name})" in page
        drawn[study.name] = len(paths) - 1
    # One file for each figure asked for; the ranks of dynamic-rank are drawn for each of its two dynamic cells, and the
    # request times of families not at all where nothing was exported.
    assert drawn == {study.name: len(study.figures) for study in shipped_studies()} | {"dynamic-rank": 4, "families": 2}


def test_the_same_record_gives_the_same_bytes(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("prompt-layers")
    for name in ("one", "two"):
        write_page(study, record_of(study), tmp_path / name / "page.md", tmp_path / name / "figures")
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_scenarios_stand_beside_the_literatures(record_of: Callable[..., StudyRecord]) -> None:
    study = find_study("scenarios")
    record = record_of(study)
    grid = scenarios_grid(record)
    assert grid is not None
    assert len(grid.rows) == 9
    best = {row[1]: row[2:] for row in grid.rows if row[0] == "high performance"}
    assert best["virtual tokens"] == ("50 tokens", "none", "50 tokens", "agrees")
    assert {row[2] for row in grid.rows if row[0] == "resource limited"} == {"10 tokens", "4 bits", "early layers"}
    assert scenarios_grid(record_of(find_study("bits"))) is None
    assert findings_of(record)[0] == (
        "agrees",
        "For high performance the literature takes 50 tokens (virtual tokens), the measurements speak for 50 tokens. "
        "Because the highest mean accuracy, 84.00 %.",
    )


def test_rank_decisions_are_told_with_their_reasons(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("dynamic-rank")
    page = write_page(study, record_of(study), tmp_path / "page.md", tmp_path / "figures")[-1].read_text()
    assert "## Rank decisions of dynamic rank 4" in page
    assert "| 10 | 0 | 0.100 | 6 | 4 | least important |" in page
    assert "Total rank 12 at the start, 8 at the end" in page


def test_profiled_cells_are_compared(record_of: Callable[..., StudyRecord]) -> None:
    grid = operators_grid(record_of(find_study("lora-ranks")))
    assert grid is not None
    assert "matmul" in [row[0] for row in grid.rows]
    assert operators_grid(record_of(find_study("bits"))) is None


def test_claims_stand_with_both_figures_and_the_verdict(record_of: Callable[..., StudyRecord]) -> None:
    told = findings_of(record_of(find_study("bits")))
    # The cells lie 2 points apart on every seed; rounding to 1,000 rows leaves 4.303 x 0.0408 / sqrt(3) = 0.1 points.
    assert told[0] == (
        "agrees",
        "8 bits are more accurate than 4. Because accuracy % of 8 bits is 82.00, of 4 bits 80.00: +2.00 points (95 % "
        "interval +1.90 points to +2.10 points, 3 seeds); expected was higher; the literature has 88.00 and 87.25, "
        "+0.75 points. Source: the literature's four configurations on AG News.",
    )
    assert "memory MB of 8 bits is 450, of 4 bits 400: 1.12 x" in told[1][1]  # 450 / 400 = 1.125


def test_without_a_load_test_prices_have_no_column_but_a_note(record_of: Callable[..., StudyRecord]) -> None:
    grid = metrics_grid(record_of(find_study("bits")), TableSpec(title="t", metrics=("accuracy", "usd_per_million")))
    assert [column.header for column in grid.columns] == ["cell", "accuracy %", "literature"]
    assert grid.notes[-1] == (
        "floor $ per million was not measured (--loadtest measures it); the literature has 4 bits 1,200, 8 bits 1,600."
    )


def test_load_tested_figures_have_their_own_interval_and_doubt(
    record_of: Callable[..., StudyRecord], make_measurement: Callable[..., CellMeasurement]
) -> None:
    record = record_of(find_study("bits"))
    price = Figure(value=0.5, low=0.4, high=0.6, basis="assumed")
    served = ServedArtifact(
        artifact="onnx-int8", accuracy=0.8, usd_per_million=price, certified=False, priced_on="aws x.large, 2026-07-20"
    )
    first = record.results[0].model_copy(update={"measured": make_measurement(served=(served,))})
    record = record.model_copy(update={"results": (first, *record.results[1:])})
    grid = metrics_grid(record, TableSpec(title="t", metrics=("usd_per_million",)))
    assert grid.columns[1].header == "floor $ per million"
    assert [row[1] for row in grid.rows] == ["0.500 a! (0.400-0.600)", "?"]
    assert any("never idle (aws x.large, 2026-07-20)" in note for note in grid.notes)
    assert any(note.startswith("!: the load test is not certified") for note in grid.notes)


def test_a_page_of_another_hand_is_kept_below_the_marker(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study, path = find_study("bits"), tmp_path / "bits.md"
    path.write_text("# Mine\n")
    for _ in range(2):
        write_page(study, record_of(study), path, tmp_path / "figures")
        assert path.read_text().endswith(f"{BY_HAND}\n\n# Mine\n")


def test_a_users_study_never_speaks_of_the_literature(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    content = yaml.safe_load((Path(__file__).parents[2] / "deploycost/studies/bits.yaml").read_text())
    for field in ("reference", "setting", "notes"):
        del content[field]
    study = make_study(yaml.safe_dump(content | {"source": "a paper", "setting": "as there"}), "mine.yaml")
    record = record_of(study, scaled_down=("epochs: 2 (source: 5)",))
    paths = write_page(study, record, tmp_path / "page.md", tmp_path / "figures")
    assert not any("literature" in path.read_text() for path in paths)
    assert "**Unlike the source's**" in paths[-1].read_text()


def test_figures_of_ranks_and_operators_are_told_in_their_own_words(
    record_of: Callable[..., StudyRecord], tmp_path: Path
) -> None:
    def page(name: str) -> str:
        study = find_study(name)
        return write_page(study, record_of(study), tmp_path / f"{name}.md", tmp_path / "figures")[-1].read_text()

    assert "seed 1. Rank at the start and at the end: 0 6 to 4; 1 6 to 4." in page("dynamic-rank")
    assert "Milliseconds of a profiled step by operators: full matmul 6.00, quantisation 2.00; lora rank 8" in page(
        "lora-ranks"
    )


def test_many_metrics_fit_layered_bars_and_one_leaves_no_empty_panel(
    record_of: Callable[..., StudyRecord],
) -> None:
    metrics = ("accuracy", "macro_f1", "memory_bytes", "training_s", "samples_per_s", "tokens_per_s", "step_ms_p50")
    study = find_study("bits")
    layers = study.model_copy(update={"figures": (FigureSpec(kind="layers", title="all", metrics=metrics),)})
    assert len(study_figures(layers, record_of(study))) == 1
    ranks = find_study("lora-ranks")
    lines = FigureSpec(kind="lines", title="by rank", axis="lora.rank", metrics=metrics[:3])
    (drawn,) = study_figures(ranks.model_copy(update={"figures": (lines,)}), record_of(ranks))
    # Three panels of two by two: the fourth is not drawn.
    assert drawn.svg.count(">rank</text>") == 3


def test_machines_that_differ_are_told(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("bits")
    record = record_of(study)
    assert record.results[0].measured is not None
    other = record.results[0].measured.model_copy(
        update={"machine": MACHINE.model_copy(update={"cpu_model": "Other CPU"})}
    )
    results = (record.results[0].model_copy(update={"measured": other}), *record.results[1:])
    mixed = record.model_copy(update={"results": results})
    page = write_page(study, mixed, tmp_path / "page.md", tmp_path / "figures")[-1].read_text()
    assert "**Beware**: cells were trained on different machines or cores" in page
    assert "Other CPU, no GPU" in page
    assert "Test CPU, no GPU" in page


def test_the_terminals_tables_fit_eighty_columns(record_of: Callable[..., StudyRecord]) -> None:
    study = find_study("families")
    for grid in grids_of(study, record_of(study), metrics_at_once=4):
        assert max(map(len, render(draw(grid, 80), 80).splitlines())) <= 80
        assert "…" not in render(draw(grid, 80), 80)
