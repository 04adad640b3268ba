from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from deploycost.environment import MachineFacts
from deploycost.errors import UserError
from deploycost.projecting import request_times
from deploycost.projecting.calibration import (
    Calibration,
    ProductRate,
    ReferenceTime,
    calibrate,
    calibrated_place,
    observations_of,
    read_calibration,
    time_encoder,
)
from deploycost.projecting.cores import capacity_on, carried_on
from deploycost.projecting.observations import read_setting
from deploycost.projecting.projection import Projector
from deploycost.projecting.reference import write_reference
from deploycost.projecting.shapes import Shape
from deploycost.records import Variant, write_record
from pricing.book import Offer
from serving.engines import OnnxRuntimeEngine

TINY = Shape(layers=2, hidden=32, heads=4, ffn_width=64, vocabulary=50, labels=3)
MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=4, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)


def made(slowdown: float = 1.0) -> Calibration:
    """Four cores of 85 GFLOP/s and 340 GOP/s: with the best at 0.85 of the peak, 100 and 400 a core."""
    rates = {"fp32": 85e9, "int8": 340e9}
    times = {("fp32", 64): 20.0, ("int8", 64): 8.0, ("fp32", 128): 41.0, ("int8", 128): 17.0}
    return Calibration(
        machine=MACHINE,
        products=tuple(
            ProductRate(precision=precision, rows=64, inner=384, columns=384, threads=1, flops_per_s=rate)
            for precision, rate in rates.items()
        ),
        bytes_per_s=10e9,
        references=tuple(
            ReferenceTime(
                model="6L-384D", precision=precision, tokens=tokens, threads=1, median_ms=ms * slowdown,
                least_ms=ms * slowdown, most_ms=ms * slowdown,
            )
            for (precision, tokens), ms in times.items()
        ),
        duration_s=1.0,
        finished_at="2026-01-02T03:04:05+00:00",
    )  # fmt: skip


def test_a_calibrated_machine_by_hand() -> None:
    place = calibrated_place(made())
    assert (place.rate("fp32"), place.rate("int8")) == (pytest.approx(400e9), pytest.approx(1600e9))
    assert calibrated_place(made(), 1).rate("fp32") == pytest.approx(100e9)
    assert place.bytes_per_s == pytest.approx(20e9)
    with pytest.raises(UserError, match="5 threads were asked for, and the calibrated machine has 4 cores"):
        calibrated_place(made(), 5)


def test_projections_follow_the_calibration() -> None:
    question = {
        "model": "distilbert", "hardware": "here", "precision": "fp32", "runtime": "ONNX Runtime", "batch_size": "1",
        "seq_len": "64", "threads": "1",
    }  # fmt: skip
    told = []
    for slowdown in (1.0, 2.0):
        calibration = made(slowdown)
        setting = read_setting(question, calibrated_place(calibration).device)
        projector = Projector(own=tuple(observations_of(calibration)))
        told.append(projector.project([setting], ["latency_mean"])[0])
    fast, slow = told
    assert fast.novelty == "length"
    assert slow.seconds == pytest.approx(2 * fast.seconds, rel=0.25)
    # DistilBERT's shape is four times MiniLM's work: 20 ms become 80, give or take its larger matrices.
    assert 0.05 < fast.seconds < 0.1
    assert fast.low_s < fast.seconds < fast.high_s


def test_this_machine_is_measured_and_kept(tmp_path: Path) -> None:
    calibration = calibrate((1,))
    assert {each.precision for each in calibration.products} == {"fp32", "int8"}
    assert calibration.best_rate("fp32") > 1e9
    assert calibration.bytes_per_s > 1e8
    for each in calibration.references:
        assert 0 < each.least_ms <= each.median_ms <= each.most_ms
    path = tmp_path / "calibration.json"
    path.write_text(write_record(calibration))
    assert read_calibration(path) == calibration


def test_mistakes() -> None:
    with pytest.raises(UserError, match="cannot calibrate on 1000 threads"):
        calibrate((1000,))
    with pytest.raises(UserError, match=r"no calibration in .*deploycost calibrate"):
        read_calibration(Path("nowhere.json"))


@pytest.mark.parametrize("int8", [False, True])
def test_a_reference_is_an_encoder_that_the_endpoint_serves(tmp_path: Path, int8: bool) -> None:
    path = tmp_path / "encoder.onnx"
    write_reference(TINY, path, int8=int8)
    engine = OnnxRuntimeEngine(path, 1)
    ids = np.arange(12, dtype=np.int64).reshape(2, 6)
    mask = np.ones_like(ids)
    logits = engine.logits(ids, mask)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    # What is masked has no part: the last two tokens may be any.
    mask[:, 4:] = 0
    other = ids.copy()
    other[:, 4:] = 40
    assert engine.logits(ids, mask) == pytest.approx(engine.logits(other, mask), abs=2e-2 if int8 else 1e-5)
    assert min(time_encoder(path, 1, 1, 8)) > 0


def test_references_are_the_same_each_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    write_reference(TINY, one)
    write_reference(TINY, two)
    assert one.read_bytes() == two.read_bytes()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that was calibrated, as far as requests are projected."""
    kept = (
        request_times.known_device, request_times.times_by_chip, request_times._projector, request_times._everywhere,
        request_times._unmeasured,
    )  # fmt: skip
    monkeypatch.setattr(request_times, "_calibration", made)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


@pytest.mark.usefixtures("here")
def test_a_variant_is_projected_to_the_calibrated_machine(
    make_variant: Callable[..., Variant], make_offer: Callable[..., Offer]
) -> None:
    offer = make_offer(cpu_model="Test CPU", vcpu_is="core", vcpus=Decimal(1))
    variant = make_variant(load=None)
    capacity = capacity_on(variant, offer)
    assert capacity.capacity_rps.basis == "projected"
    # Its int8 reference took 8 ms with 64 tokens, so 50 of them take 6.25 ms: 160/s if it were never idle.
    assert capacity.capacity_rps.value is not None
    assert 0.7 * 160 < capacity.capacity_rps.value < 160
    assert carried_on([variant], [offer]).rps.tolist() == [[capacity.capacity_rps.value]]
