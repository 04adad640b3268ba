"""`deploycost recommend --memory-budget`: a method before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycost", "recommend", *arguments], capture_output=True, text=True, timeout=120,
        cwd=cwd, check=False,
    )  # fmt: skip


def test_a_budget_is_answered_with_a_method_and_its_command(tmp_path: Path) -> None:
    done = run_cli("--memory-budget", "4GiB", "--model", "minilm", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(cell_len, done.stdout.splitlines())) <= 80
    assert "Fine-tune with" in done.stdout
    assert "Methods to train minilm within 4 GiB" in done.stdout
    assert "deploycost build --method" in done.stdout


def test_json_is_one_document_with_a_basis_for_each_figure(tmp_path: Path) -> None:
    done = run_cli("--memory-budget", "4GiB", "--dataset", "tickets", "--json", "--device", "cpu", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["choice"] in {outlook["slug"] for outlook in document["outlooks"]}
    assert document["memory_budget_bytes"] == 4 * 1024**3
    assert document["dataset"] == "tickets"
    assert len(document["outlooks"]) == 8
    for outlook in document["outlooks"]:
        for figure in ("memory_bytes", "accuracy_drop", "training_speed_ratio", "serving_cost_ratio"):
            assert outlook[figure]["basis"] in ("measured", "projected", "assumed")
    assert document["command"].endswith("--dataset tickets")


def test_a_budget_too_small_for_any_is_exit_code_1(tmp_path: Path) -> None:
    done = run_cli("--memory-budget", "20MiB", "--model", "minilm", "--device", "cpu", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["choice"] is None
    assert "no method trains minilm within 20 MiB: the smallest is" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--memory-budget", "much"], "training.dynamic.memory_budget"),
        (["--memory-budget", "0"], "training.dynamic.memory_budget"),
        (["--memory-budget", "1GiB", "--max-accuracy-drop", "2"], "quote.max_accuracy_drop"),
        (["--memory-budget", "1GiB", "--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cpu", "--model", "minilm"], "--model, --device: only with --memory-budget"),
        ([], "no runs in"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
