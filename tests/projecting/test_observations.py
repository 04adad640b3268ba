import csv

import pytest

from deploycost.errors import UserError
from deploycost.projecting.hardware import DATA_FOLDER
from deploycost.projecting.observations import observe, read_metric, read_setting, shipped_observations
from deploycost.projecting.runtimes import find_precision, find_runtime

ROW = {
    "model": "bert-base", "hardware": "T4", "precision": "fp16", "runtime": "TensorRT", "batch_size": "8",
    "seq_len": "128", "threads": "", "metric": "latency_p95", "unit": "ms", "value": "2",
}  # fmt: skip


def test_every_published_row_is_understood() -> None:
    with (DATA_FOLDER / "published_inference.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1359
    for row in rows:
        assert observe(row).seconds > 0
        assert row["source"]
        assert row["source_date"]


def test_rows_that_contradict_their_doubles_are_no_evidence() -> None:
    """One table of BERT-base fp32 on a V100 is there twice with values twice apart; nothing says which is right."""
    doubled = [
        each
        for each in shipped_observations()
        if each.setting.place_label == "V100-SXM2-32GB"
        and each.setting.precision == "fp32"
        and "XLA" in each.setting.runtime_label
        and each.setting.shape.layers == 12
    ]
    assert len(doubled) < 8


def test_all_mistakes_of_a_row_at_once() -> None:
    wrong = ROW | {"model": "brt", "hardware": "T5", "precision": "fp7", "runtime": "x", "batch_size": "-1"}
    with pytest.raises(UserError) as told:
        read_setting(wrong | {"seq_len": "nan"})
    for part in ("unknown model 'brt'", "unknown hardware 'T5'", "precision 'fp7'", "unknown runtime 'x'"):
        assert part in str(told.value)
    assert "batch_size '-1' is no whole number above zero" in str(told.value)
    assert "seq_len 'nan' is no whole number above zero" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", ""])
def test_a_value_must_be_a_number_above_zero(value: str) -> None:
    with pytest.raises(UserError, match="no number above zero"):
        observe(ROW | {"value": value})


def test_metrics_and_units() -> None:
    assert read_metric({"metric": "latency_p99", "unit": "ms"}) == ("latency_p99", 1.0)
    assert read_metric({"metric": "latency_mean", "unit": "s"}) == ("latency_mean", 1000.0)
    assert read_metric({"metric": "throughput", "unit": "FPS"}) == ("throughput", 1.0)
    for spelt, metric in (
        ("latency", "latency_mean"), ("Average latency", "latency_mean"), ("latency_ms", "latency_mean"),
        ("p95", "latency_p95"), ("latency (p99)", "latency_p99"), ("95th percentile latency", "latency_p95"),
        ("median", "latency_p50"), ("QPS", "throughput"),
    ):  # fmt: skip
        assert read_metric({"metric": spelt})[0] == metric
    for unit, ms in (("milliseconds", 1), ("msec", 1), ("seconds", 1000), ("µs", 1e-3), ("ms/batch", 1)):
        assert read_metric({"metric": "latency_mean", "unit": unit}) == ("latency_mean", ms)
    for unit in ("qps", "samples/sec", "Sentences per second", "inferences/s", "queries/s", ""):
        assert read_metric({"metric": "throughput", "unit": unit}) == ("throughput", 1.0)
    for row, told in (
        ({"metric": "latency p99.9"}, "unknown metric"),
        ({"metric": "latency throughput"}, "unknown metric"),
        ({"metric": "throughput", "unit": "tokens/s"}, "unknown unit of a throughput"),
        ({"metric": "throughput", "unit": "batches/s"}, "unknown unit of a throughput"),
        ({"metric": "latency_mean", "unit": "ms/seq"}, "unknown unit of a latency"),
        ({"metric": "latencyp95"}, "unknown metric 'latencyp95' .*latency_p95"),
        ({"metric": "throughput", "unit": "ms"}, "unknown unit of a throughput"),
        ({"metric": "latency_mean", "unit": "seq/s"}, "unknown unit of a latency"),
    ):
        with pytest.raises(UserError, match=told):
            read_metric(row)


@pytest.mark.parametrize(
    ("threads", "runtime", "cores"),
    [
        ("", "ONNX Runtime", 40),
        ("", "OpenVINO 2024.3 benchmark_app, throughput hint", 80),
        ("all cores", "ONNX Runtime", 80),
        ("one socket (auto)", "OpenVINO", 40),
        ("16", "PyTorch", 16),
        ("16 threads", "PyTorch", 16),
        ("160", "PyTorch", 80),  # two threads of each core
        ("4 vCPUs", "PyTorch", 2),
        ("4c/8t", "PyTorch", 4),
        ("one core", "PyTorch", 1),
        ("2 sockets", "PyTorch", 80),
        ("auto", "PyTorch", 40),
    ],
)
def test_cores_that_are_used(threads: str, runtime: str, cores: int) -> None:
    row = ROW | {"hardware": "Xeon Platinum 8380 x2", "precision": "fp32", "threads": threads, "runtime": runtime}
    assert read_setting(row).place.cores == cores


@pytest.mark.parametrize("threads", ["200", "0", "-1", "1.5", "nan cores", "half", "65 sockets", "9" * 5000])
def test_threads_that_no_machine_has(threads: str) -> None:
    with pytest.raises(UserError, match="threads"):
        read_setting(ROW | {"hardware": "Xeon Platinum 8380 x2", "precision": "fp32", "threads": threads})


SAPPHIRE = "Xeon Sapphire Rapids 8488C (AWS c7i/m7i)"


@pytest.mark.parametrize(
    ("hardware", "instance", "threads", "cores", "told"),
    [
        ("c7i.large", "", "", 1, "c7i.large taken for 1 of its cores"),
        ("c7i.large", "", "2", 1, "c7i.large taken for 1 of its cores"),
        (SAPPHIRE, "AWS c7i.xlarge", "", 2, "c7i.xlarge taken for 2 of its cores"),
        (SAPPHIRE, "bare metal", "", 48, "cores assumed: 48, one socket"),
        (f"{SAPPHIRE} per vCPU", "", "", 0.5, "a vcpu taken for 0.5 of its cores"),
        (f"{SAPPHIRE} per vCPU", "", "4", 2, "4 vcpus taken for 2 of its cores"),
        (f"{SAPPHIRE}, 8 cores", "", "", 8, ""),
        (SAPPHIRE, "", "8", 8, ""),
        (SAPPHIRE, "q9.medium", "8", 8, ""),  # in no price book, but it is told what was used
        (SAPPHIRE, "", "96", 48, "96 threads on 48 cores"),
        ("c6a.48xlarge", "", "", 48, "c6a.48xlarge taken for 96 of its cores; cores assumed: 48, one socket"),
    ],
)
def test_cores_are_those_of_the_machine_and_what_is_assumed_is_told(
    hardware: str, instance: str, threads: str, cores: float, told: str
) -> None:
    row = ROW | {"hardware": hardware, "instance": instance, "threads": threads, "precision": "fp32"}
    place = read_setting(row | {"runtime": "PyTorch"}).place
    assert (place.cores, place.told) == (cores, told)


@pytest.mark.parametrize("column", ["batch_size", "seq_len"])
def test_what_is_larger_than_any_machine_holds_is_refused(column: str) -> None:
    with pytest.raises(UserError, match=f"{column} '1e300' is more than 1,000,000"):
        read_setting(ROW | {column: "1e300"})


def test_a_rate_of_several_cards_is_of_all_their_batches() -> None:
    rate = ROW | {"metric": "throughput", "unit": "seq/s", "value": "400"}
    assert observe(rate | {"hardware": "T4 x4"}).seconds == 4 * observe(rate).seconds


def test_batches_as_they_are_written() -> None:
    assert read_setting(ROW | {"batch_size": "1 per stream (streams auto)"}).batch == 1
    assert read_setting(ROW | {"batch_size": "8.0"}).batch == 8
    assert read_setting(ROW | {"batch_size": "bs=8", "seq_len": "128 tokens"}).batch == 8


def test_a_rate_of_many_streams_tells_no_latency() -> None:
    streams = ROW | {"hardware": "Xeon Platinum 8580 x2", "precision": "int8", "runtime": "OpenVINO, throughput hint"}
    assert observe(streams | {"metric": "throughput", "unit": "FPS", "value": "3855"}).seconds > 0
    with pytest.raises(UserError, match=r"latency_p95 of 'OpenVINO, throughput hint': .* many streams at once"):
        observe(streams)


@pytest.mark.parametrize(
    ("name", "expected", "group"),
    [
        ("TensorRT demoBERT fused plugins", "tensorrt-plugins", "fused"),
        ("ONNX Runtime + NVIDIA TensorRT", "onnxruntime-tensorrt", "fused"),
        ("onnxruntime 1.17", "onnxruntime", "graph"),
        ("TensorFlow 2.4 XLA (NGC 21.02)", "tensorflow-xla", "graph"),
        ("PyTorch (NGC 20.12)", "torch", "eager"),
        ("transformers", "torch", "eager"),
        ("Intel Extension for PyTorch", "torchscript", "graph"),
        ("PyTorch 2.4 (compiled)", "torchscript", "graph"),
        ("ort_cuda", "onnxruntime", "graph"),
    ],
)
def test_runtimes_by_class(name: str, expected: str, group: str) -> None:
    found = find_runtime(name)
    assert found is not None
    assert (found.name, found.group) == (expected, group)


def test_precisions() -> None:
    assert find_precision("fp32 model, bf16 matmul", "accelerator") == "fp16"
    assert find_precision("tf32", "cpu") == "fp32"
    assert find_precision("INT8-v2", "gpu") == "int8"
    assert find_precision("FP-16", "gpu") == find_precision("bfloat16", "gpu") == "fp16"
    assert find_precision("TF-32", "gpu") == "tf32"
    assert find_precision("single precision", "gpu") == "fp32"
    assert find_precision("8-bit", "cpu") == "int8"
    assert find_precision("fp7", "gpu") is None
