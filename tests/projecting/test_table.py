import csv
from pathlib import Path

import pytest

from deploycost.errors import UserError
from deploycost.projecting.projection import Projector
from deploycost.projecting.table import answer_questions, answers_csv, read_questions

HEADER = "model,hardware,precision,runtime,batch_size,seq_len,threads,metric,unit"


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "questions.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_answers_keep_the_metric_and_the_unit(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "minilm,T4,fp16,ONNX Runtime,8,64,,latency_mean,ms",
        "minilm,T4,fp16,ONNX Runtime,8,64,,latency_mean,s",
        "minilm,T4,fp16,ONNX Runtime,8,64,,throughput,seq/s",
    )
    answers = answer_questions(Projector(), read_questions(path))
    ms, s, rate = (each.value for each in answers)
    assert ms is not None
    assert s == pytest.approx(ms / 1000)
    assert rate == pytest.approx(8 / (ms / 1000))
    for each in answers:
        assert each.low is not None
        assert each.value is not None
        assert each.high is not None
        assert each.low < each.value < each.high
    again = list(csv.DictReader(answers_csv(answers).splitlines()))
    assert again[0]["unit"] == "ms"
    assert float(again[2]["predicted"]) == pytest.approx(rate, rel=1e-5)
    assert "T4 with onnxruntime measured" in again[0]["evidence"]


def test_a_row_that_is_not_known_hinders_no_other(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "minilm,T5,fp16,ONNX Runtime,8,64,,latency_mean,ms",
        "minilm,T4,fp16,ONNX Runtime,8,-64,,latency,parsec",
        "minilm,T4,fp16,ONNX Runtime,8,64,,latency_mean,ms",
    )
    one, two, three = answer_questions(Projector(), read_questions(path))
    assert (one.value, two.value) == (None, None)
    assert one.evidence.startswith("unknown: unknown hardware 'T5' (did you mean 'T4'?)")
    assert "measure it" in one.evidence
    assert "seq_len '-64'" in two.evidence
    assert "parsec" in two.evidence
    assert three.value is not None
    lines = answers_csv([one, two, three]).splitlines()
    assert len(lines) == 4
    assert ',,,,"unknown:' in lines[1] or ",,,unknown:" in lines[1] or ',,,"unknown:' in lines[1]


def test_rows_that_no_machine_could_answer_hinder_no_other(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "minilm,T4 x0,fp16,ONNX Runtime,8,64,,latency_mean,ms",
        "minilm,T4,fp16,ONNX Runtime,1e300,1e200,,latency_mean,ms",
        ",T4,fp16,ONNX Runtime,8,64,,latency_mean,ms",
        "minilm,T4,fp16,ONNX Runtime,8,64,,latency_mean,ms",
    )
    *wrong, right = answer_questions(Projector(), read_questions(path))
    assert [each.is_known for each in wrong] == [False] * 3
    assert "batch_size '1e300' is more than 1,000,000; seq_len '1e200' is more" in wrong[1].evidence
    assert right.is_known


def test_cards_answer_more_texts_no_sooner(tmp_path: Path) -> None:
    asked = [(f"T4{cards}", metric) for metric in ("latency_mean", "throughput") for cards in ("", " x4")]
    lines = [f"minilm,{name},fp16,ONNX Runtime,8,64,,{metric}," for name, metric in asked]
    one, four, rate, rate_of_four = answer_questions(Projector(), read_questions(written(tmp_path, *lines)))
    assert four.value == pytest.approx(one.value)
    assert rate.value is not None
    assert rate_of_four.value == pytest.approx(4 * rate.value)
    assert "4 of them side by side" in four.evidence


def test_a_runtime_is_known_however_much_of_its_name_is_said(tmp_path: Path) -> None:
    names = ("TensorRT", "NVIDIA TensorRT", "TensorRT 11", "OpenVINO")
    lines = [f"bert-large,A100-SXM4-80GB,fp16,{name},8,384,,latency_mean,ms" for name in names]
    short, whole, newer, other = answer_questions(Projector(), read_questions(written(tmp_path, *lines)))
    for each in (short, whole):
        assert each.evidence.startswith("A100 with tensorrt measured")
        assert "not " not in each.evidence
    assert "times, not as TensorRT 11, nearest" in newer.evidence
    assert "not with OpenVINO" in other.evidence
    widths = [each.high / each.low for each in (whole, short, newer, other) if each.high and each.low]
    assert widths == sorted(widths)
    assert (short.value, short.low, short.high) == (whole.value, whole.low, whole.high)


def test_whoever_does_not_say_the_version_knows_no_more(tmp_path: Path) -> None:
    names = ("torch-neuronx PyTorch 2.8, Neuron 2.26", "torch-neuronx", "torch-neuronx PyTorch 9")
    lines = [f'bert-base,Inferentia2,bf16,"{name}",1,128,,latency_mean,ms' for name in names]
    told, short, unknown = answer_questions(Projector(), read_questions(written(tmp_path, *lines)))
    assert told.value is not None
    assert (short.value, short.low, short.high) == (told.value, told.low, told.high)
    assert not unknown.is_known
    assert "not as torch-neuronx PyTorch 9" in unknown.evidence


def test_evidence_says_what_was_assumed_of_cores(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "bert-base,c7i,fp32,PyTorch,1,128,,latency_mean,ms",
        "bert-base,c7i.large,fp32,PyTorch,1,128,,latency_mean,ms",
        "bert-base,c7i,fp32,PyTorch,1,128,1,latency_mean,ms",
    )
    socket, instance, core = answer_questions(Projector(), read_questions(path))
    assert socket.evidence.endswith("cores assumed: 48, one socket")
    assert instance.value == pytest.approx(core.value, rel=0.05)


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "minilm,T4,1", header="model,hardwares,runtime,batch_size")
    with pytest.raises(UserError) as told:
        read_questions(path)
    for part in (
        "'hardware' is missing (did you mean 'hardwares'?)",
        "'seq_len' is missing",
        "line 2 has 3 cells, not 4",
    ):
        assert part in str(told.value)


def test_lines_are_counted_as_they_stand_in_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "",
        '"mini\nlm",T4,fp16,ONNX Runtime,8,64,,latency_mean,ms',
        "minilm,T5,fp16,ONNX Runtime,8,64,,latency_mean,ms",
    )
    assert [each.line for each in read_questions(path)] == [3, 5]
    path.write_text(f"{HEADER}\n\nminilm,T4\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3 has 2 cells"):
        read_questions(path)


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no rows"):
        read_questions(written(tmp_path))
    with pytest.raises(UserError, match="cannot read"):
        read_questions(tmp_path / "none.csv")


def test_answers_of_earlier_are_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, "minilm,T4,fp16,ONNX Runtime,8,64,,latency_mean,ms,7", header=HEADER + ",predicted")
    text = answers_csv(answer_questions(Projector(), read_questions(path)))
    assert text.splitlines()[0] == HEADER + ",predicted,low90,high90,evidence"
