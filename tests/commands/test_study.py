"""The study command: its list, its flags, and the command that it says repeats it."""

import json
from pathlib import Path

import pytest

from deploycost.cli import main
from deploycost.commands.study import StudyFlags, repeating_command
from deploycost.errors import UserError


def test_the_list_names_each_study_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list", "--json"]) == 0
    studies = {each["name"]: each for each in json.loads(capsys.readouterr().out)["studies"]}
    assert len(studies) == 9
    assert studies["bits"]["sizes"] == ["full", "small"]
    assert main(["study"]) == 0
    assert "prompt-tokens" in capsys.readouterr().out


def test_a_list_takes_no_flags_of_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list", "--size", "small", "--loadtest"]) == 2
    error = capsys.readouterr().err
    assert "--size, --loadtest: only with the name of a study" in error
    assert error.count("\n") == 1


def test_a_load_test_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--loadtest", "--artifacts", "none", "--dataset", "demo"]
    assert main(["study", "bits", "--size", "small", *flags]) == 2
    assert "--loadtest with --artifacts none" in capsys.readouterr().err


def test_an_unknown_study_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "metods"]) == 2
    assert "unknown study 'metods' (did you mean 'methods'?)" in capsys.readouterr().err


def test_an_unknown_size_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "bits", "--size", "smal"]) == 2
    assert "unknown size 'smal' (did you mean 'small'?)" in capsys.readouterr().err


def test_flags_become_the_fields_of_an_experiment() -> None:
    flags = StudyFlags(model="minilm", dataset="demo", epochs=1, train_rows=10, seeds="3, 1,3")
    assert flags.changes() == {
        "model": "minilm", "dataset": {"source": "demo", "train_rows": 10}, "training": {"epochs": 1},
    }  # fmt: skip
    assert flags.seed_numbers() == (3, 1)
    assert StudyFlags().seed_numbers() is None
    with pytest.raises(UserError, match="--seeds '1;2': expected whole numbers"):
        StudyFlags(seeds="1;2").seed_numbers()


def test_the_repeating_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "ag_news"
    folder.mkdir()
    flags = StudyFlags(size="small", dataset=str(folder), seeds="1,2")
    command = repeating_command(str(tmp_path / "mine.yaml"), flags, jobs=2, loadtest=True)
    assert command == (
        "deploycost study mine.yaml --size small --dataset AG_NEWS_FOLDER --seeds 1,2 --jobs 2 --loadtest"
    )
