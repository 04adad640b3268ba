import json
from pathlib import Path

import pytest

from deploycost.cli import main


@pytest.fixture(autouse=True)
def no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's data folder without the calibration that this machine may have."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_one_answer_as_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    question = ["project", "--hardware", "T4", "--model", "minilm", "--tokens", "64", "--batch", "8"]
    assert main(question) == 0
    assert "latency_p95" in capsys.readouterr().out
    assert main([*question, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    latency, _, rate = document["answers"]
    assert latency["ms"]["basis"] == "projected"
    assert latency["ms"]["low"] < latency["ms"]["value"] < latency["ms"]["high"]
    assert rate["texts_per_s"]["value"] == pytest.approx(8000 / latency["ms"]["value"], rel=1e-6)


def test_a_file_of_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text(
        "model,hardware,precision,runtime,batch_size,seq_len,threads,metric,unit\n"
        "bert-base,L40S,int8,TensorRT demoBERT fused plugins,1,128,,latency_mean,ms\n"
        "bert-base,L400,int8,TensorRT demoBERT fused plugins,1,128,,latency_mean,ms\n"
    )
    assert main(["project", "--table", str(table), "--output", str(output), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["answered"], document["unknown"][0]["line"]) == (2, 1, 3)
    assert output.read_text().splitlines()[0].endswith(",predicted,low90,high90,evidence")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --hardware T4"),
        (["--hardware", "T5"], "did you mean 'T4'"),
        (["--hardware", "T4", "--tokens", "-3"], "seq_len '-3' is no whole number above zero"),
        (["--hardware", "T4", "--model", "brt"], "unknown model 'brt'"),
        (["--hardware", "T4", "--metric", "latncy"], "unknown metric 'latncy'"),
        (["--table", "none.csv"], "--output"),
        (["--table", "none.csv", "--output", "x.csv"], "cannot read none.csv"),
        (["--table", "none.csv", "--output", "."], "is a folder"),
        (
            ["--table", "q.csv", "--output", "x.csv", "--hardware", "T4", "--model", "minilm"],
            "--hardware, --model into",
        ),
        (["--table", "q.csv", "--output", "x.csv", "--model", "distilbert"], "--table asks what its file holds"),
        (["--hardware", "T4", "--output", "x.csv"], "--output takes the answers to a file"),
        (["--list-hardware", "--hardware", "T4"], "--list-hardware lists devices"),
        (["--hardware", "T4", "--threads", "4"], "--threads are of a CPU, and T4 is none"),
        (["--hardware", "T4", "--threads", "0"], "--threads are of a CPU, and T4 is none"),
        (["--hardware", "Xeon Platinum 8380", "--threads", "1000"], "threads '1000' are more than the 80"),
        (["--hardware", "Xeon Platinum 8380", "--threads", "0"], "threads '0' is no whole number above zero"),
        (
            ["--hardware", "8380", "--runtime", "OpenVINO throughput hint", "--metric", "latency_mean"],
            "many streams at once",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_of_many_streams_at_once_only_their_rate_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["project", "--hardware", "8380 x2", "--runtime", "OpenVINO throughput hint", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["metric"] == "throughput"
    assert answer["evidence"].endswith("cores assumed: 80, all")
