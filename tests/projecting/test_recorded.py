import re
from collections.abc import Callable
from typing import Any

import pytest

from deploycost.errors import UserError
from deploycost.projecting.hardware import Device, devices
from deploycost.projecting.observations import Metric, Setting, read_setting
from deploycost.projecting.projection import Projector, Recorded
from deploycost.projecting.recorded import recorded_in
from deploycost.records import Certificate, LoadRecord, ServerSettings, Variant

MakeVariant = Callable[..., Variant]
TestedOn = Callable[..., LoadRecord]
TURIN = "EPYC Turin (AWS c8a, GCP c4d)"


@pytest.fixture
def tested_on(make_load: Callable[..., LoadRecord]) -> TestedOn:
    """A load test on some CPU whose lone request took so many milliseconds, half of them by default of a slow one."""

    def make(cpu_model: str = "EPYC Turin", alone_ms: float = 8.4, **changes: Any) -> LoadRecord:
        load = make_load(**changes)
        lowest, *others = load.curve
        curve = (lowest.model_copy(update={"service_p50_ms": alone_ms}), *others)
        environment = load.environment.model_copy(update={"cpu_model": cpu_model})
        return load.model_copy(update={"curve": curve, "environment": environment})

    return make


def question(hardware: str = "EPYC Turin", **changes: str) -> Setting:
    """What `make_load` was a test of: 50 tokens through MiniLM in int8 on one core."""
    row = {
        "model": "minilm", "hardware": hardware, "precision": "int8", "runtime": "ONNX Runtime", "batch_size": "1",
        "seq_len": "50", "threads": "1",
    }  # fmt: skip
    return read_setting(row | changes)


def only(recorded: tuple[Recorded, ...]) -> Recorded:
    (one,) = recorded
    return one


def test_a_load_test_tells_the_time_in_the_model(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    found = only(recorded_in([tested_on()], [make_variant()]))
    assert found.seconds == pytest.approx(0.008)  # 8.4 ms, 0.4 ms of which the endpoint adds
    assert found.deviation == pytest.approx(0.5 * 0.4 / 8)
    assert (found.setting.place.device.name, found.setting.place.cores) == (TURIN, 1.0)
    assert (found.setting.tokens, found.setting.precision, found.setting.batch) == (50, "int8", 1)
    assert found.name == f"full.onnx-int8 on {TURIN}"


def test_texts_and_threads_are_those_of_the_test(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    record = tested_on(mean_tokens=81.4, server=ServerSettings(workers=2, threads=1), server_cores=2)
    found = only(recorded_in([record], [make_variant()]))
    assert (found.setting.tokens, found.setting.place.cores) == (81, 1.0)


def test_a_test_that_is_not_certified_says_so(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    record = tested_on(certificate=Certificate(certified=False, checks=()))
    assert only(recorded_in([record], [make_variant()])).name == f"full.onnx-int8 on {TURIN}, not certified"


def test_several_tests_of_one_setting_are_their_mean(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    variants = [make_variant(), make_variant("lora.onnx-int8")]
    records = [tested_on(alone_ms=2.4), tested_on(alone_ms=8.4, variant="lora.onnx-int8")]
    found = only(recorded_in(records, variants))
    assert found.seconds == pytest.approx(0.004)  # the geometric mean of 2 and 8 ms
    assert "full.onnx-int8" in found.name
    assert "lora.onnx-int8" in found.name


def test_where_the_very_same_is_asked_the_test_decides(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    projector = Projector(recorded=recorded_in([tested_on()], [make_variant()]))
    mean, slowest = projector.project([question(), question()], ["latency_mean", "latency_p95"])
    assert mean.seconds == pytest.approx(0.008)
    assert mean.basis == "measured"
    assert mean.low_s == pytest.approx(0.008 * 0.008 / mean.high_s)
    assert 1.05 < mean.high_s / mean.seconds < 1.15  # two measurements of 3.7 % each, and 2.5 % of the endpoint's part
    assert mean.evidence.startswith(f"measured by your load test of full.onnx-int8 on {TURIN}: 8.4 ms for a lone")
    assert slowest.basis == "projected"
    assert "latency_p95 as it usually is to that" in slowest.evidence


def test_like_settings_follow_a_test(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    near, far = question(seq_len="64"), question("T4", precision="fp16", threads="")
    asked = [near, question("EPYC Genoa 9R14"), far]
    metrics: list[Metric] = ["latency_mean"] * 3
    before = Projector().project(asked, metrics)
    slow = tested_on(alone_ms=2000 * before[0].seconds)  # twice as long as projected
    after = Projector(recorded=recorded_in([slow], [make_variant()])).project(asked, metrics)
    moved = [new.seconds / old.seconds for new, old in zip(after, before, strict=True)]
    assert moved[0] > 1.3
    assert moved[1] > 1.3
    assert moved[2] == pytest.approx(1, abs=0.25)
    assert all(each.basis == "projected" for each in after)
    assert f", with your load tests of full.onnx-int8 on {TURIN}" in after[0].evidence


def test_a_chip_in_no_table_needs_its_calibration(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    record, variants = tested_on("Odd CPU 9"), [make_variant()]
    with pytest.raises(UserError, match=r"made on 'Odd CPU 9', which is in no table; run 'deploycost calibrate"):
        recorded_in([record], variants)
    turin = devices()[TURIN]
    odd = Device("Odd CPU 9", "calibrated", "cpu", turin.rates, turin.bytes_per_s, None, 2, 1, "calibrated")
    assert only(recorded_in([record], variants, odd)).setting.place.device == odd


def test_a_cpu_artifact_is_of_the_cpu_also_where_there_is_a_gpu(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    record, variant = tested_on(), make_variant()
    record = record.model_copy(update={"environment": record.environment.model_copy(update={"gpu_model": "Tesla T4"})})
    assert only(recorded_in([record], [variant])).setting.place.device.kind == "cpu"
    name = "full.onnx-fp16"
    half = variant.model_copy(
        update={"export": variant.export.model_copy(update={"precision": "fp16", "variant": name})}
    )
    found = only(recorded_in([record.model_copy(update={"variant": name})], [half])).setting
    assert (found.place.device.name, found.precision) == ("T4", "fp16")


def test_all_that_tell_nothing_are_refused_at_once(make_variant: MakeVariant, tested_on: TestedOn) -> None:
    odd = make_variant("lora.onnx-int8")
    odd = odd.model_copy(update={"tuning": odd.tuning.model_copy(update={"base_model": "no-such"})})
    bits = make_variant("bits.torch-nf4")
    bits = bits.model_copy(update={"export": bits.export.model_copy(update={"engine": "torch", "precision": "nf4"})})
    records = [
        tested_on(variant="mine", url="http://127.0.0.1:9000"),
        tested_on(variant="none.onnx-int8"),
        tested_on(bundle_digest="e" * 64),
        tested_on(texts_per_request=8),
        tested_on(variant="lora.onnx-int8"),
        tested_on(variant="bits.torch-nf4"),
        tested_on().model_copy(update={"curve": ()}),
    ]
    with pytest.raises(UserError) as refused:
        recorded_in(records, [make_variant(), odd, bits])
    for told in (
        "mine is of a service, and what that computes is not known",
        "unknown variant of a load record 'none.onnx-int8'",
        "--run and --runs-dir name the run that it was built in",
        "measured another bundle (eeeeeeeeeeee",
        "requests with 8 texts each",
        "base model 'no-such' is no known name",
        "is of torch in nf4",
        "holds no latency of answers",
    ):
        assert re.search(re.escape(told), str(refused.value)), told
