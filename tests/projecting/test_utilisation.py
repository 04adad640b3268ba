from dataclasses import replace

import numpy as np
import pytest

from deploycost.projecting.evidence_base import evidence_of
from deploycost.projecting.fitted import read_fitted
from deploycost.projecting.observations import Setting, observe, read_setting, shipped_observations
from deploycost.projecting.utilisation import (
    COMPONENTS,
    LAYER_COSTS,
    LENGTHS,
    LowerTriangle,
    Parameters,
    Utilisation,
    ideal_seconds,
)

ROW = {
    "model": "bert-base", "hardware": "T4", "precision": "fp16", "runtime": "TensorRT", "batch_size": "1",
    "seq_len": "128", "metric": "latency_mean", "unit": "ms", "value": "2",
}  # fmt: skip


def test_the_speed_of_light_by_hand() -> None:
    # 12 layers x 7,077,888 weights, and the head; 2 operations each and token, attention 12 x 4 x 128 x 128 x 768
    flops = 2 * 128 * 12 * 7_077_888 + 2 * (768 * 768 + 768 * 2) + 12 * 4 * 128 * 128 * 768
    setting = read_setting(ROW)
    weights_s = 2 * (12 * 7_077_888 + 768 * 770) / 320e9
    assert ideal_seconds(setting) == pytest.approx(max(flops / 65e12, weights_s))
    many = replace(setting, batch=64)
    assert ideal_seconds(many) == pytest.approx(64 * flops / 65e12)


def test_the_mean_of_a_cpu_by_hand() -> None:
    cpu = {"hardware": "EPYC Turin", "precision": "int8", "runtime": "ONNX Runtime", "threads": "1"}
    one = read_setting(ROW | cpu)
    parameters = Parameters(
        layer_seconds=dict.fromkeys(LAYER_COSTS, 1e-5), peak_ratio=0.5, cpu_peak_ratio=0.8, elementwise_cost=10.0,
        core_loss=0.2, deviations=dict.fromkeys(COMPONENTS, 0.1), lengths=dict.fromkeys(LENGTHS, 1.0),
    )  # fmt: skip

    def mean_s(setting: Setting) -> float:
        model = Utilisation(parameters, [setting], [0.0])
        return float(np.exp(model._mean(model._points)[0]))

    # 128 positions in 12 layers: 12 operations on each of 768 numbers and 8 on each of 3,072; 5 on each of 12 x 128 x
    # 128 scores in each layer. A core of 96 does 24.58 / 96 Tflop/s in fp32.
    elementwise = 128 * 12 * (12 * 768 + 8 * 3072) + 5 * 12 * 12 * 128 * 128
    work_s = ideal_seconds(one) / 0.8 + 10 * elementwise / (24.58e12 / 96)
    assert mean_s(one) == pytest.approx(work_s + 12 * 1e-5, rel=1e-6)
    # Four cores take a quarter of the time, and lose 4 to the 0.2.
    four = read_setting(ROW | cpu | {"threads": "4"})
    assert mean_s(four) == pytest.approx(work_s / 4 * 4**0.2 + 12 * 1e-5, rel=1e-6)
    # Streams lose nothing.
    streams = read_setting(ROW | cpu | {"threads": "4", "runtime": "OpenVINO throughput"})
    assert mean_s(streams) == pytest.approx(work_s / 4 + 12 * 1e-5, rel=1e-6)


@pytest.mark.parametrize("size", [1, 64, 65, 300])
def test_triangular_systems_are_solved(size: int) -> None:
    draw = np.random.default_rng(size)
    lower = np.tril(draw.normal(size=(size, size))) / size + np.eye(size)
    right = draw.normal(size=(size, 3))
    triangle = LowerTriangle(lower)
    assert lower @ triangle.solved(right) == pytest.approx(right)
    assert lower @ triangle.solved(right[:, 0]) == pytest.approx(right[:, 0])


def test_left_out_is_what_a_fit_without_the_group_predicts() -> None:
    evidence = evidence_of(shipped_observations()[::7])
    parameters = read_fitted().parameters
    model = Utilisation(parameters, evidence.settings, evidence.log_seconds)
    out = [n for n, each in enumerate(evidence.settings) if each.place.device.family == "T4"]
    kept = [n for n in range(len(evidence.settings)) if n not in out]
    residuals, deviations = model.left_out([out, kept])
    without = Utilisation(parameters, [evidence.settings[n] for n in kept], [evidence.log_seconds[n] for n in kept])
    mean, deviation = without.predict([evidence.settings[n] for n in out])
    assert np.asarray(evidence.log_seconds)[out] - mean == pytest.approx(residuals[out], abs=1e-6)
    assert deviation == pytest.approx(deviations[out], rel=1e-5)


def test_evidence_draws_a_projection_to_itself_and_narrows_it() -> None:
    parameters = read_fitted().parameters
    evidence = evidence_of(shipped_observations())
    setting = read_setting(ROW | {"model": "minilm", "hardware": "A10", "runtime": "ONNX Runtime"})
    before = Utilisation(parameters, evidence.settings, evidence.log_seconds)
    mean, deviation = before.predict([setting])
    measured = float(mean[0]) + 0.5
    after = Utilisation(parameters, [*evidence.settings, setting], [*evidence.log_seconds, measured])
    nearer, surer = after.predict([setting])
    assert abs(nearer[0] - measured) < 0.1
    assert surer[0] < deviation[0] / 2


def test_rates_and_latencies_of_one_batch_agree() -> None:
    told = observe(ROW | {"batch_size": "8", "metric": "throughput", "unit": "seq/s", "value": "4000"})
    assert told.seconds == pytest.approx(0.002)
    assert told.seconds == observe(ROW | {"batch_size": "8"}).seconds
