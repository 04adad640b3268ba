"""What the benchmark of artifacts makes of its rounds, by numbers worked out by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.artifact_rounds import LENGTHS, Measured, cost_ratio, operations
from benchmarks.artifact_subject import Subject, Subjects
from benchmarks.artifacts_report import Findings, page, sections, verdicts
from deploycost.encoder_shape import shape_from

SHAPE = shape_from(
    {
        "model_type": "bert", "num_hidden_layers": 2, "hidden_size": 4, "num_attention_heads": 2,
        "intermediate_size": 8, "vocab_size": 10, "max_position_embeddings": 16,
    },
    "toy",
)  # fmt: skip


def _measured(name: str, one_by_one: list[float], batched: list[float], memory_bytes: int) -> Measured:
    by_length = {tokens: [one_by_one[0]] for tokens in LENGTHS}
    return Measured(name, 8, memory_bytes, by_length=by_length, one_by_one=one_by_one, batched=batched)


@pytest.fixture
def found() -> Findings:
    measured = [
        _measured("torch-fp32", [10.0, 20.0, 10.0], [12.0, 20.0, 12.0], 900),
        _measured("onnx-int8", [100.0, 100.0, 50.0], [80.0, 80.0, 40.0], 300),
        Measured("openvino-int8", failure="openvino-int8 died"),
    ]
    subjects = [Subject(one.name, Path("bundle"), 1 << 20, None) for one in measured]  # pyright: ignore[reportArgumentType]
    return Findings(Subjects(subjects, SHAPE, "toy"), measured, {"fp32": 1e6, "int8": 4e6}, 16.0)


def test_operations_by_hand() -> None:
    # Matrices of a layer: 4 of 4 x 4 and two of 4 x 8, 128 numbers; of two layers 256. Attention: 2 products of
    # tokens x tokens x width in each layer. Every multiplication comes with an addition.
    assert operations(SHAPE, 1) == 2 * 256 + 2 * 2 * 2 * 4
    assert operations(SHAPE, 10) == 10 * 2 * 256 + 100 * 2 * 2 * 2 * 4


def test_costs_are_ratios_within_rounds(found: Findings) -> None:
    base, int8, _ = found.measured
    # 10/100, 20/100 and 10/50.
    assert cost_ratio(int8, base, batched=False)["value"] == pytest.approx(0.2)
    # The baseline at its best is in batches, int8 one by one: 12/100, 20/100, 12/50.
    assert cost_ratio(int8, base, batched=True)["value"] == pytest.approx(0.2)
    assert cost_ratio(base, base, batched=False)["value"] == 1


def test_share_of_peak_is_in_the_artifacts_own_precision(found: Findings) -> None:
    base, int8, _ = found.measured
    assert found.share_of_peak(base, 16) == pytest.approx(10 * operations(SHAPE, 16) / 1e6)
    assert found.share_of_peak(int8, 16) == pytest.approx(100 * operations(SHAPE, 16) / 4e6)


def test_verdicts_and_tables(found: Findings) -> None:
    cost, memory = verdicts(found)
    assert (cost.value, cost.met) == ("0.20", False)
    assert "onnx-int8" in cost.claim
    assert (memory.value, memory.met) == ("0.33", True)
    tables = sections(found)
    assert [len(table.rows) for table in tables] == [2, 2, 2]
    assert any("openvino-int8 was left out: openvino-int8 died" in note for note in tables[1].notes)
    machine = {"cpu_model": "CPU", "cpu_cores": 2, "packages": {"torch": "2", "locust": "1"}, "python": "3.11"}
    told = {
        "machine": machine,
        "settings": {"dataset": "toy", "rounds": 3, "texts": 4},
        "at": "2026-01-02T",
        "load_before": 0.1,
    }
    written = page(found, told)
    assert written.startswith("# What each artifact costs on one core\n")
    assert written.count("| torch-fp32 |") == 2


def test_a_wrong_request_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.artifacts", "--run", str(tmp_path), "--quick"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds no torch-fp32, which the others are held against" in done.stderr


def test_the_peak_is_told_in_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak_rate"], capture_output=True, text=True, timeout=120, check=True
    )
    rates = json.loads(done.stdout)["operations_per_s"]
    assert set(rates) == {"fp32", "bf16", "int8"}
    assert min(rates.values()) > 1e8
