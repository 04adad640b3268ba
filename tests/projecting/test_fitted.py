from collections.abc import Sequence
from typing import Any

import pytest

from deploycost.projecting.fitted import Fitted, MetricFactor, read_fitted
from deploycost.projecting.observations import METRICS, Metric, Setting, read_setting, shipped_observations

ROW = {
    "model": "bert-base", "hardware": "Inferentia2", "precision": "bf16", "runtime": "torch-neuronx", "batch_size": "1",
    "seq_len": "128",
}  # fmt: skip


def made(**factors: float) -> Fitted:
    """A fit that knows these factors of accelerators, and nothing else."""
    known = {f"accelerator/{name}": MetricFactor(log_factor=value, spread=0.01) for name, value in factors.items()}
    return Fitted(parameters=read_fitted().parameters, factors=known, widths={})


def log_factors(fitted: Fitted, metrics: Sequence[Metric], **changes: Any) -> list[float]:
    setting = read_setting(ROW | changes)
    return [fitted.factor(setting, metric).log_factor for metric in metrics]


def test_a_latency_that_was_never_measured_goes_by_one_that_was() -> None:
    # Two cores of a chip compute a batch each: its rate tells half of the time that one takes.
    fitted = made(latency_p50=0.7)
    found = log_factors(fitted, ["latency_mean", "latency_p95", "latency_p99", "throughput"])
    assert found == pytest.approx([0.7, 0.72, 0.75, 0.0])


def test_between_two_that_were_measured_a_latency_lies_as_it_usually_does() -> None:
    found = log_factors(made(latency_p50=0.7, latency_p99=0.8), ["latency_p90", "latency_p95", "latency_p99"])
    assert found == pytest.approx([0.73, 0.74, 0.8])


def test_what_was_measured_of_one_quantile_bounds_the_next() -> None:
    assert log_factors(made(latency_p95=0.3, latency_p99=0.1), ["latency_p95", "latency_p99"]) == [0.3, 0.3]


def _one_of_each_class() -> list[Setting]:
    return list({each.setting.class_name: each.setting for each in shipped_observations()}.values())


@pytest.mark.parametrize("setting", _one_of_each_class(), ids=lambda setting: setting.class_name)
def test_shipped_quantiles_rise(setting: Setting) -> None:
    mean, p50, p90, p95, p99 = (
        read_fitted().factor(setting, metric).log_factor for metric in METRICS if metric in _QUANTILES
    )
    assert p50 <= p90 <= p95 <= p99
    assert mean <= p95


_QUANTILES = ("latency_mean", "latency_p50", "latency_p90", "latency_p95", "latency_p99")


def test_a_mean_of_an_accelerator_is_near_its_median() -> None:
    mean, median = log_factors(read_fitted(), ["latency_mean", "latency_p50"])
    assert mean == pytest.approx(median)
    assert median > 0.6  # two cores
