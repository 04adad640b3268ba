"""Flags that no chosen method reads are refused, in one line that tells which methods read them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from deploycost.commands.options import BuildFlags, flag_name, require_readers
from deploycost.errors import UserError
from deploycost.methods import METHODS


def test_every_flag_of_a_method_is_there() -> None:
    known = {flag_name(flag) for flag in fields(BuildFlags)}
    assert {flag for method in METHODS.values() for flag in method.flags} <= known


@pytest.mark.parametrize(
    ("methods", "flags", "told"),
    [
        (("full",), BuildFlags(bits=4), ["--bits (of qlora, dynamic, stacked)"]),
        (("lora",), BuildFlags(memory_budget="2GiB"), ["--memory-budget (of dynamic)"]),
        (("full", "prompt"), BuildFlags(rank=4, eva=False), ["--rank (of lora, qlora,", "--eva (of dynamic)"]),
        (("prefix",), BuildFlags(prompt_layers="late"), ["--prompt-layers (of prompt, stacked)"]),
    ],
)
def test_flags_that_nobody_reads_are_one_line(methods: tuple[str, ...], flags: BuildFlags, told: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        require_readers(flags, methods)  # pyright: ignore[reportArgumentType]
    assert all(part in str(refusal.value) for part in told)
    assert "\n" not in str(refusal.value)


def test_one_reader_among_the_methods_will_do() -> None:
    require_readers(BuildFlags(bits=4, rank=2, epochs=1), ("full", "qlora"))
    require_readers(BuildFlags(prompt_start="text", prompt_text="news", prefix_width=8), ("prefix",))
    require_readers(None, ("full",))


@pytest.mark.parametrize("command", ["build", "run"])
def test_commands_refuse_before_anything_is_made(tmp_path: Path, command: str) -> None:
    arguments = [command, "--model", "minilm", "--dataset", "demo", "--method", "full", "--bits", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "deploycost", *arguments], capture_output=True, text=True, timeout=120, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "the methods chosen (full) make no use of --bits" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_may_hold_what_no_method_reads(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(
        "methods: [full]\nmodel: ./nowhere\ndataset: {source: demo}\ntraining: {bits: 4}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "deploycost", "build", "experiment.yaml"], capture_output=True, text=True, timeout=120,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert "make no use" not in done.stderr
    assert "nowhere" in done.stderr
