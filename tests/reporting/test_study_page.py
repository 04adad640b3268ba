"""A study's page: figures beside the literature's, failed cells in sight, and what was written by hand kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploycost.environment import MachineFacts
from deploycost.records import OperatorTime, ProfileRecord, RankDecision, RankHistory
from deploycost.reporting.study_page import BY_HAND, grids_of, write_page
from deploycost.reporting.study_tables import findings_grid, metrics_grid, operators_grid, scenarios_grid, spread_of
from deploycost.reporting.tables import draw, render
from deploycost.study_file import StudyFile, TableSpec, find_study, shipped_studies
from deploycost.study_findings import findings
from deploycost.study_record import CellMeasurement, CellPlan, CellResult, StudyRecord

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
            "test_rows": 1000, "epochs": 2, "seeds": SEEDS, "cores_per_cell": 1, "cells": cells, "results": results,
            "findings": findings(study, results), "scaled_down": ("epochs: 2 (literature: 5)",),
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
    assert "| 8 bits | failed | 88 |" in page
    assert "| 8 bits | 1 | rank 64 is above the width \\| 32 |" in page
    assert page.count("**Cannot tell**") == len(study.claims)
    assert "is not known of both" in page


def test_a_page_states_how_it_was_measured(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("methods")
    write_page(study, record_of(study), tmp_path / "methods.md", tmp_path / "figures")
    page = (tmp_path / "methods.md").read_text()
    for part in (
        "800 training and 1,000 test rows, 2 epochs, seeds 1, 2, 3", "Test CPU, no GPU; 2 cores", "1 core(s) each",
        "measured on 2026-01-02", "epochs: 2 (literature: 5)", "**Basis**", "one NVIDIA T4",
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
    # One file for each figure asked for; the ranks of dynamic-rank are drawn for each of its two dynamic cells.
    assert drawn == {study.name: len(study.figures) for study in shipped_studies()} | {"dynamic-rank": 4}


def test_the_same_record_gives_the_same_bytes(record_of: Callable[..., StudyRecord], tmp_path: Path) -> None:
    study = find_study("prompt-layers")
    for name in ("one", "two"):
        write_page(study, record_of(study), tmp_path / name / "page.md", tmp_path / name / "figures")
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_scenarios_stand_beside_the_literatures(record_of: Callable[..., StudyRecord]) -> None:
    study = find_study("scenarios")
    grid = scenarios_grid(study, record_of(study))
    assert grid is not None
    assert len(grid.rows) == 9
    best = {row[1]: row[2:5] for row in grid.rows if row[0] == "high performance"}
    assert best["virtual tokens"] == ("50 tokens", "50 tokens", "yes")
    assert {row[2] for row in grid.rows if row[0] == "resource limited"} == {"10 tokens", "4 bits", "early layers"}
    assert scenarios_grid(find_study("bits"), record_of(find_study("bits"))) is None


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
    rows = {row[0]: row[1:] for row in findings_grid(record_of(find_study("bits")).findings).rows}
    verdict, ours, interval, theirs = rows["8 bits are more accurate than 4"]
    # The cells lie 2 points apart on every seed; rounding to 1,000 rows leaves 4.303 x 0.0408 / sqrt(3) = 0.1 points.
    assert (verdict, ours, theirs) == ("agrees", "+2.00 points", "+0.75 points")
    assert interval == "+1.90 points to +2.10 points"
    assert rows["8 bits take more memory than 4"][1] == "1.12 x"  # 450 / 400 = 1.125


def test_the_terminals_tables_fit_eighty_columns(record_of: Callable[..., StudyRecord]) -> None:
    study = find_study("families")
    for grid in grids_of(study, record_of(study), metrics_at_once=4):
        assert max(map(len, render(draw(grid, 80), 80).splitlines())) <= 80
        assert "…" not in render(draw(grid, 80), 80)
