"""The command as a person or a script meets it: exit codes, one-line complaints, and how little it loads."""

import gc
import json
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from deploycost.cli import _COMMANDS, main

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "onnxruntime",
    "onnx",
    "matplotlib",
    "locust",
    "sklearn",
    "pandas",
)


def run_cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycost", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


def loaded_modules(*arguments: str) -> set[str]:
    program = (
        "import sys; from deploycost.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["quote", "--help"], ["prices", "list", "aws-g4dn"]])
def test_light_commands_load_no_framework(arguments: list[str]) -> None:
    loaded = loaded_modules(*arguments)
    assert "deploycost.cli" in loaded
    assert not loaded & set(HEAVY)


def test_every_command_that_ends_can_answer_in_json() -> None:
    places = [(name, name) for name, _ in _COMMANDS if name != "serve"]
    places += [("prices", name) for name in ("list_prices", "show_price", "check_prices")]
    places += [("price_files", f"{verb}_prices") for verb in ("refresh", "add", "remove")]
    for module, name in places:
        assert "json" in signature(getattr(import_module(f"deploycost.commands.{module}"), name)).parameters, name


def test_short_commands_collect_no_garbage_and_leave_that_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("deploycost.cli.app", lambda *_, **__: seen.append(gc.isenabled()))
    for command in ("quote", "run"):
        main([command])
    assert seen == [False, True]
    assert gc.isenabled()
    assert gc.get_freeze_count(), "nor when the process ends"


def test_help_names_every_command() -> None:
    told = run_cli("--help")
    assert told.returncode == 0
    for command in ("run", "build", "loadtest", "quote", "recommend", "report", "methods", "serve", "prices", "doctor"):
        assert command in told.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["biuld"], "build"),
        (["build", "--metod", "lora"], "--method"),
        (["build", "--method", "qlroa", "--model", "minilm"], "did you mean 'qlora'?"),
        (["build", "--epochs", "0"], "greater than or equal to 1"),
        (["build", "--epochs", "1.5"], 'unable to convert "1.5" into int'),  # not rounded
        (["calibrate", "--threads", "1", "--threads", "1.5"], 'unable to convert "1.5" into int'),
        (["prices", "check", "--max-age-days", "0.5"], 'unable to convert "0.5" into int'),
        (["build", "--model", "minilm", "--dataset", "./missing.csv"], "missing.csv"),
        (["build", "--dataset", "demo", "--model", "./missing-model"], "missing folder"),
        (["build", "missing.yaml"], "cannot read experiment missing.yaml"),
        (["build", "--run", "../up"], "run name"),
        (["quote"], "no runs in runs"),
        (["loadtest"], "no runs in runs"),
        (["report"], "no runs in runs"),
        (["serve", "lora-r8.onnx-int8"], "no runs in runs"),
        (["prices", "list", "aws-g4dm"], "aws-g4dn"),
        (["prices", "list", "aws-g4dn", "--region", "mars-1"], "mars-1"),
        (["prices", "list", "aws-g4dn", "--purchase-option", "stolen"], "stolen"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("deploycost: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_all_mistakes_of_an_experiment_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("modle: minilm\nmethods: [lora, nope]\ntraining: {epochs: -1}\n", encoding="utf-8")
    done = run_cli("run", str(path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for part in ("modle", "did you mean 'model'?", "nope", "training.epochs"):
        assert part in done.stderr


def test_the_hub_out_of_reach_names_the_embedded_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    done = run_cli("build", "--dataset", "demo", "--train-rows", "40", cwd=tmp_path)
    assert done.returncode == 2
    assert "--model minilm" in done.stderr
    assert "Traceback" not in done.stderr


def test_prices_json_is_one_document_of_sourced_rows() -> None:
    done = run_cli("prices", "list", "aws-g4dn.xlarge", "--json")
    (offer,) = json.loads(done.stdout)["offers"]
    assert offer["usd_per_hour"] == 0.526
    assert offer["as_of"] == "2026-07-20"
    assert offer["source"]


def test_a_reader_that_stops_early_is_no_error() -> None:
    reader = subprocess.run(
        f"{sys.executable} -m deploycost prices list all | head -n 2",
        shell=True, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in reader.stderr


@pytest.mark.parametrize("arguments", ["prices list all", "prices list all --json", "prices check", "methods --json"])
def test_a_reader_that_is_gone_changes_no_exit_code(tmp_path: Path, arguments: str) -> None:
    command = f"{sys.executable} -m deploycost {arguments} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "--dataset", f"./{'d' * 300}"], "File name too long"),
        (["build", "--dataset", "demo", "--model", f"./{'m' * 300}"], "File name too long"),
        (["build", "missing/" * 600 + "e.yaml"], "File name too long"),
        (["quote", "--record", "d" * 300], "File name too long"),
    ],
)
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_doctor_tells_of_this_machine_as_json() -> None:
    document = json.loads(run_cli("doctor", "--json").stdout)
    assert document["machine"]["cpu_cores"] >= 1
    assert {"name", "ok", "told"} == set(document["checks"][0])
