"""`deploycost methods` as a person and a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from deploycost.commands.methods import flag_values
from deploycost.experiment import METHOD_NAMES, Experiment, make_experiment


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycost", *arguments], capture_output=True, text=True, timeout=120, cwd=cwd,
        check=False,
    )  # fmt: skip


def test_each_method_in_one_narrow_table(tmp_path: Path) -> None:
    done = run_cli("methods", "--model", "minilm", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in METHOD_NAMES] == [*METHOD_NAMES]
    assert "--reduction-factor" in done.stdout
    assert not list(tmp_path.iterdir())


def test_json_holds_parts_of_the_memory(tmp_path: Path) -> None:
    document = json.loads(run_cli("methods", "--model", "minilm", "--device", "T4", "--json", cwd=tmp_path).stdout)
    assert document["device"] == "T4"
    by_name = {method["method"]: method for method in document["methods"]}
    lora = by_name["lora"]
    # Query and value of 6 layers at rank 8: 12 x 8 x 768; a head of 385 x (384 + 4).
    assert lora["trainable_parameters"] == 73_728 + 149_380
    assert lora["predicted_memory_bytes"] == sum(lora["predicted_memory"].values())
    assert lora["flags"] == {"--rank": "8", "--alpha": "16", "--dropout": "0.1", "--targets": ""}


def test_flags_have_the_values_of_the_run() -> None:
    changed = make_experiment({"training": {"lora": {"rank": 4, "targets": "query,key"}, "bits": 8}})
    assert flag_values(changed, "qlora") == {
        "--rank": "4", "--alpha": "8", "--dropout": "0.1", "--targets": "query,key", "--bits": "8",
    }  # fmt: skip
    assert flag_values(Experiment(), "qlora")["--bits"] == "4"
    assert flag_values(Experiment(), "dynamic")["--bits"] == ""
    assert flag_values(Experiment(), "prefix")["--reparametrised"] == "on"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--device", "T44"], "unknown device 'T44'"),
        (["--model", "./nowhere"], "missing folder"),
        (["--run", "x"], "no runs in"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli("methods", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_framework_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from deploycost.cli import main; main(['methods', '--model', 'minilm', '--json'])\n"
        "print(*sorted({'torch', 'transformers', 'peft', 'onnx', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=True
    )
    assert done.stderr.strip() == ""


def test_a_model_that_is_named_needs_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "experiment.yaml").write_text("unheard_of: 1\n")
    named = run_cli("methods", "--model", "minilm", "--device", "cpu", cwd=tmp_path)
    assert (named.returncode, named.stderr) == (0, "")
    unnamed = run_cli("methods", "--device", "cpu", cwd=tmp_path)
    assert unnamed.returncode == 0
    assert "note: the newest run or study is left aside" in unnamed.stderr
