"""`deploycost loadtest --url` from the command line to the price: a service that somebody else runs, for real."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploycost.benchmarking.endpoint import Endpoint, running_endpoint
from deploycost.benchmarking.search import PRECISIONS, Precision
from deploycost.cli import main
from deploycost.records import LoadRecord, read_record

pytestmark = pytest.mark.slow
HURRIED = Precision(
    budget_s=3,
    probe_s=0.6,
    requests=110,
    warmup_s=0.2,
    resolution=1.3,
    replicates=1,
    doubt_ratio=0.5,
    curve_ratios=(),
)


@pytest.fixture
def service() -> Iterator[Endpoint]:
    with running_endpoint("a service", ("loadtests.null_server", "--service-ms", "5"), ()) as endpoint:
        yield endpoint


def test_a_running_service_is_tested_and_priced(
    service: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.csv").write_text("id,body\n1,one text\n2,another text\n3,a third\n", encoding="utf-8")
    Path("service.yaml").write_text(
        'path: /classify\nbody: {texts: "{{texts}}"}\npointer: /predictions/0/label\n', encoding="utf-8"
    )
    asked = ["--url", service.url, "--name", "mine", "--pid", str(service.child.pid), "--template", "service.yaml"]
    texts = ["--texts", "mine.csv", "--text-column", "body", "--texts-per-request", "2", "--precision", "quick"]
    assert main(["loadtest", *asked, *texts, "--json"]) == 0
    said = capsys.readouterr()
    record = read_record(Path("mine.load.json"), LoadRecord)
    assert json.loads(said.out)["variant"] == record.variant == "mine"
    assert (record.url, record.bundle_digest, record.texts_per_request) == (service.url, "", 2)
    assert record.startup_s is None
    assert record.memory_bytes is not None
    assert record.memory_bytes.peak > 0
    # 200 requests/s at most, two texts in each.
    capacity_rps = record.capacity_rps.value
    assert capacity_rps is not None
    assert 100 < capacity_rps <= 220
    assert f"{capacity_rps * 2:.3g} texts/s" in said.err
    # It was not ours to stop.
    assert service.child.alive
    assert main(["quote", "--record", "mine.load.json", "--cloud", "aws-c7i", "--json"]) == 0
    quotes = json.loads(capsys.readouterr().out)["quotes"]
    assert {each["variant"] for each in quotes} == {"mine"}
    assert all(each["accuracy"]["value"] is None and each["fits_memory"] for each in quotes)


def test_a_service_that_only_fails_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRECISIONS, "quick", HURRIED)
    Path("mine.txt").write_text("one text\n", encoding="utf-8")
    with running_endpoint("a service", ("loadtests.null_server", "--status", "500"), ()) as service:
        asked = ["loadtest", "--url", service.url, "--name", "mine", "--texts", "mine.txt", "--precision", "quick"]
        assert main(asked) == 2
    assert "the endpoint of mine gave no good answer: HTTP 500" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
