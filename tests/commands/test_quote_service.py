"""A service of a user's own, load-tested where it runs, gets a price without a run, and no accuracy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycost.cli import main
from deploycost.records import LoadRecord, write_record


@pytest.fixture
def record(tmp_path: Path, make_load: Callable[..., LoadRecord], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my-service.load.json"
    load = make_load(
        variant="my-service", url="http://127.0.0.1:9000", bundle_digest="", memory_bytes=None, startup_s=None,
        server_cpu_ratio=None, mean_tokens=None, texts_per_request=4,
    )  # fmt: skip
    path.write_text(write_record(load), encoding="utf-8")
    return path


def test_a_service_is_quoted_from_its_record(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quote", "--record", str(record), "--cloud", "aws-c7i", "--json"]) == 0
    sheet = json.loads(capsys.readouterr().out)
    quotes = sheet["quotes"]
    assert quotes
    assert any("each request carried 4 texts" in warning for warning in sheet["warnings"])
    assert {each["variant"] for each in quotes} == {"my-service"}
    for each in quotes:
        assert each["accuracy"]["value"] is None
        assert each["usd_per_million"]["per_correct"]["value"] is None
        assert each["fits_memory"] is None
        assert "--pid" in each["memory_reason"]
    assert any(each["usd_per_million"]["planned"]["value"] for each in quotes)


def test_without_records_a_run_is_asked_for(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quote"]) == 2
    assert "no runs in" in capsys.readouterr().err
