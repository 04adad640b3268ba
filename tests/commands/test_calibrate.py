import json
from pathlib import Path

import pytest

from deploycost.cli import main


@pytest.fixture(autouse=True)
def no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's data folder without the calibration that this machine may have."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_a_calibration_and_what_it_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "folder" / "calibration.json"
    assert main(["calibrate", "--threads", "1", "--output", str(kept), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(kept)
    assert document["references"][0]["threads"] == 1
    asked = ["project", "--hardware", "here", "--calibration", str(kept), "--model", "distilbert", "--threads", "1"]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["answers"][0]
    assert answer["ms"]["low"] < answer["ms"]["value"] < answer["ms"]["high"]
    assert "of your own" in answer["evidence"]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--threads", "0", "--output", str(tmp_path / "x.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["project", "--hardware", "here", "--calibration", str(tmp_path / "none.json")]) == 2
    assert "deploycost calibrate" in capsys.readouterr().err
