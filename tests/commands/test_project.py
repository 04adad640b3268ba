import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.quote import make_run
from deploycost.cli import main
from deploycost.records import LoadRecord, read_record, write_record


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


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A load record of a variant of the run `runs/made`, from a machine whose chip is known."""
    make_run(tmp_path / "runs" / "made", 2)
    path = tmp_path / "runs" / "made" / "lora-r1" / "onnx-int8" / "load.json"
    load = read_record(path, LoadRecord)
    there = load.environment.model_copy(update={"cpu_model": "EPYC Genoa 9R14", "gpu_model": None})
    lowest, *others = load.curve
    curve = (lowest.model_copy(update={"service_p50_ms": 9.4}), *others)
    copy = tmp_path / "load.json"
    copy.write_text(write_record(load.model_copy(update={"environment": there, "curve": curve, "mean_tokens": 53.2})))
    return copy


@pytest.fixture
def ask(tmp_path: Path, record: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Asks with the load record, and the run that it is of."""

    def ask(*flags: str, runs_dir: str = "runs", of: Path = record) -> tuple[int, str, str]:
        known = ["--record", str(of), "--runs-dir", str(tmp_path / runs_dir)]
        code = main(["project", *known, *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


GENOA = ("--hardware", "EPYC Genoa 9R14", "--model", "minilm", "--tokens", "53", "--threads")


def test_a_load_record_decides_where_its_very_setting_is_asked(ask: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = ask(*GENOA, "1", "--json", "--run", "made")
    assert code == 0
    mean, p95, rate = json.loads(out)["answers"]
    assert (mean["ms"]["value"], mean["ms"]["basis"]) == (pytest.approx(9.0), "measured")
    assert (p95["ms"]["basis"], rate["texts_per_s"]["basis"]) == ("projected", "measured")
    assert rate["texts_per_s"]["value"] == pytest.approx(1 / 0.009)
    assert "measured by your load test of lora-r1.onnx-int8" in mean["evidence"]
    _, out, _ = ask(*GENOA, "2", "--json")
    other = json.loads(out)["answers"][0]
    assert other["ms"]["basis"] == "projected"
    assert "your load tests of lora-r1.onnx-int8" in other["evidence"]


def test_a_load_record_tells_in_files_of_questions_too(
    ask: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    columns = "model,hardware,precision,runtime,batch_size,seq_len,threads,metric,unit,source"
    table.write_text(f"{columns}\nminilm,EPYC Genoa 9R14,int8,ONNX Runtime,1,53,1,latency_mean,ms,somebody\n")
    assert ask("--table", str(table), "--output", str(output))[0] == 0
    (row,) = csv.DictReader(output.read_text().splitlines())
    assert float(row["predicted"]) == pytest.approx(9.0, rel=1e-5)
    assert row["evidence"].startswith("measured by your load test of lora-r1.onnx-int8")


def test_the_table_says_what_was_measured(ask: Callable[..., tuple[int, str, str]]) -> None:
    _, out, err = ask(*GENOA, "1")
    (line,) = [line for line in out.splitlines() if "latency_mean" in line]
    assert "measured" in line
    assert "9.4 ms for a lone request" in " ".join(err.split())


def test_a_record_needs_the_run_that_it_is_of(
    ask: Callable[..., tuple[int, str, str]], tmp_path: Path, record: Path
) -> None:
    code, _, error = ask(*GENOA, "1", runs_dir="elsewhere")
    assert code == 2
    assert "name it by --run and --runs-dir (no runs in" in error
    assert len(error.splitlines()) == 1
    code, _, error = ask(*GENOA, "1", "--run", "mad")
    assert (code, "did you mean 'made'" in error) == (2, True)
    service = tmp_path / "service.json"
    load = read_record(record, LoadRecord)
    service.write_text(write_record(load.model_copy(update={"variant": "mine", "url": "http://127.0.0.1:9000"})))
    code, _, error = ask(*GENOA, "1", runs_dir="elsewhere", of=service)
    assert (code, "mine is of a service" in error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --hardware T4"),
        (["--hardware", "T5"], "did you mean 'T4'"),
        (["--hardware", "T4", "--tokens", "-3"], "seq_len '-3' is no whole number above zero"),
        (["--hardware", "T4", "--model", "brt"], "unknown model 'brt'"),
        (["--hardware", "T4", "--metric", "latncy"], "unknown metric 'latncy'"),
        (["--table", "none.csv"], "--output"),
        (["--hardware", "T4", "--run", "made"], "give its load.json with --record"),
        (["--hardware", "T4", "--record", "none.json"], "none.json"),
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
