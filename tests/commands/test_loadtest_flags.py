"""`deploycost loadtest`: what contradicts itself or cannot be used ends in one line, before anything is started."""

from pathlib import Path

import pytest

from deploycost.cli import main
from deploycost.commands.traffic import ServiceFlags, TrafficFlags, client_of
from deploycost.records import LoadFailure, read_record

TEXTS = "one text\nanother text\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["loadtest", *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    return said.err


def test_all_that_is_wrong_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(
        capsys,
        "--arrivals",
        "poison",
        "--texts-per-request",
        "0",
        "--pid",
        "3",
        "--template",
        "x.yaml",
        "--workers",
        "-1",
    )
    assert "unknown --arrivals 'poison' (did you mean 'poisson'?)" in said
    assert "--texts-per-request must be 1 or more" in said
    assert "--workers must be 0 or more" in said
    assert "--pid, --template belong to a service that is running: give its --url" in said


def test_a_host_that_is_not_this_machine_needs_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    # An address for documentation (RFC 5737): nobody is there, and nothing is sent.
    said = refused(capsys, "--url", "http://192.0.2.1:80", "--texts", "x.txt")
    assert "192.0.2.1 is not this machine" in said
    assert "--i-own-this-host" in said
    owned = ServiceFlags(url="http://192.0.2.1:80", i_own_this_host=True)
    target = client_of(TrafficFlags(), owned).target
    assert target is not None
    assert target.url == "http://192.0.2.1:80"
    for here in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        assert client_of(TrafficFlags(), ServiceFlags(url=here)).target is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "127.0.0.1:9000"], "is not a URL of an endpoint"),
        (["--url", "http://127.0.0.1:9"], "give its requests by --texts FILE"),
        (["--url", "http://127.0.0.1:9", "--texts", "none.txt"], "cannot read the texts in none.txt"),
        (["--url", "http://127.0.0.1:9", "--texts", "texts.txt", "lora.onnx-int8"], "name no variants"),
        (["--url", "http://127.0.0.1:9", "--name", "../mine"], "--name must be letters, digits"),
        (["--url", "http://127.0.0.1:9", "--pid", "999999999"], "there is no process 999999999"),
        (["--url", "http://127.0.0.1:9", "--protocol", "template"], "needs --template FILE"),
        (["--url", "http://127.0.0.1:9", "--template", "none.yaml"], "cannot read the template none.yaml"),
        (["--arrivals", "trace"], "--arrivals trace and --trace FILE go together"),
        (["--arrivals", "trace", "--trace", "none.txt"], "cannot read the trace none.txt"),
    ],
)
def test_one_line_for_each_mistake(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text(TEXTS, encoding="utf-8")
    assert message in refused(capsys, *arguments)


@pytest.mark.slow
def test_a_url_where_nobody_is_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deploycost.benchmarking.endpoint.REACH_DEADLINE_S", 0.3)
    Path("texts.txt").write_text(TEXTS, encoding="utf-8")
    said = refused(capsys, "--url", "http://127.0.0.1:9", "--texts", "texts.txt", "--name", "mine")
    assert "the endpoint of mine did not answer http://127.0.0.1:9 within 0.3 s" in said
    failure = read_record(Path("mine.load-failure.json"), LoadFailure)
    assert "did not answer" in failure.reason
    assert not failure.curve
