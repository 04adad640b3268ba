"""`deploycost recommend --memory-budget`: a method before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from deploycost.commands.recommend import training_command
from deploycost.experiment import MethodName, make_experiment
from deploycost.records import Figure
from deploycost.verdicts import MethodAdvice, MethodOutlook


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
        (["--memory-budget", "1GiB", "--cloud", "aws", "--record", "x.json"], "--cloud, --record: not with --memory"),
        (["--device", "cpu", "--model", "minilm"], "--model, --device: only with --memory-budget"),
        ([], "no runs in"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_budget_beyond_the_accelerator_is_said(tmp_path: Path) -> None:
    done = run_cli("--memory-budget", "64GiB", "--model", "minilm", "--device", "T4", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["reason"].startswith("16 GiB is all that a T4 has, of 64 GiB asked for; ")


def test_an_unreadable_run_is_left_aside_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "experiment.yaml").write_text("unheard_of: 1\n")
    asked = ["--memory-budget", "4GiB", "--model", "minilm", "--device", "cpu", "--json"]
    done = run_cli(*asked, cwd=tmp_path)
    assert done.returncode == 0
    assert "note: the newest run or study is left aside" in done.stderr
    assert run_cli(*asked, "--run", "old", cwd=tmp_path).returncode == 2


def test_the_command_keeps_what_the_run_sets_and_the_method_reads() -> None:
    content = {
        "model": "minilm",
        "dataset": {"source": "my texts.csv", "train_rows": 600},
        "training": {"epochs": 2, "bits": 8, "lora": {"rank": 4, "targets": "query,key"}, "mixed_precision": False},
    }
    experiment = make_experiment(content)

    def command(method: MethodName, **changes: Any) -> str:
        unknown = Figure(value=None)
        outlook = MethodOutlook(
            method=method, slug=method, trainable_parameters=1, batch_size=4, gradient_checkpointing=True, fits=True,
            memory_bytes=unknown, memory_source="", accuracy_drop=unknown, accuracy_source="",
            training_speed_ratio=unknown, training_source="", serving_cost_ratio=unknown, serving_source="",
            **{"adapted": False} | changes,
        )  # fmt: skip
        advice = MethodAdvice(
            base_model="minilm", dataset="texts", device="cpu", memory_budget_bytes=1, max_accuracy_drop=0.01,
            outlooks=(outlook,), choice=method, reason="", doubts=(), evidence=(),
        )  # fmt: skip
        return training_command(advice, experiment)

    common = "--model minilm --dataset 'my texts.csv' --train-rows 600 --epochs 2"
    assert command("full") == f"deploycost build --method full {common} --no-mixed-precision"
    ranks = "--rank 4 --targets query,key --bits 8 --no-mixed-precision"
    assert command("qlora") == f"deploycost build --method qlora {common} {ranks}"
    assert command("full", adapted=True).endswith("--no-mixed-precision --batch-size 4 --gradient-checkpointing")
