"""What is kept of load tests: each record as soon as it is made, a failure beside it, and nothing measured twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.benchmarking import loadtest
from deploycost.benchmarking.soak import Soak
from deploycost.benchmarking.task import Notes, Task
from deploycost.errors import LoadTestFailed
from deploycost.experiment import Experiment
from deploycost.pipeline import LoadBench, load, load_test, soak_test
from deploycost.records import LoadFailure, LoadRecord, SoakFailure, SoakRecord, Variant, read_record
from deploycost.workspace import Run

EXPERIMENT = Experiment()
NAMES = ("full.onnx-fp32", "full.onnx-int8")


@pytest.fixture
def ask(
    tmp_path: Path,
    make_variant: Callable[..., Variant],
    make_load: Callable[..., LoadRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[str]]:
    """Load-tests two variants, of which those named die after a first probe; returns what was said."""
    variants = [make_variant(name, load=None) for name in NAMES]
    bench = LoadBench(("a text",), variants[0].tuning.machine)
    for name in NAMES:
        Run(tmp_path).artifact_folder(*name.split(".")).mkdir(parents=True)

    def ask(*dying: str, again: bool = False) -> list[str]:
        said: list[str] = []

        def measure(subject: tuple[str, str], *_: Any, notes: Notes, **__: Any) -> LoadRecord:
            variant, mark = subject
            record = make_load(variant=variant, fingerprint=mark)
            notes.keep(record.curve[0])
            if variant in dying:
                raise LoadTestFailed("the endpoint died")
            return record

        # Neither bundle nor server: what is kept of them is asked here, not what they answer.
        monkeypatch.setattr(loadtest, "measure", measure)
        monkeypatch.setattr(load, "_subject", lambda folder, variant, texts, mark: (variant.name, mark))
        records = load_test(Run(tmp_path), EXPERIMENT, variants, bench, said.append, again=again)
        assert [record.variant for record in records] == list(NAMES)
        return said

    return ask


def test_what_was_tested_before_is_kept_unless_it_is_asked_again(ask: Callable[..., list[str]], tmp_path: Path) -> None:
    assert ask() == ["full.onnx-fp32: load test 1 of 2", "full.onnx-int8: load test 2 of 2"]
    assert ask() == ["full.onnx-fp32: load-tested before, kept", "full.onnx-int8: load-tested before, kept"]
    (tmp_path / "full/onnx-fp32/load.json").write_text("{")
    first, second = ask()
    assert first.startswith(
        "full.onnx-fp32: load test 1 of 2; what was found before is damaged, or of another question"
    )
    assert second == "full.onnx-int8: load-tested before, kept"
    assert ask(again=True) == ["full.onnx-fp32: load test 1 of 2", "full.onnx-int8: load test 2 of 2"]


def test_a_failure_is_kept_beside_the_others_until_it_is_made_good(
    ask: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(LoadTestFailed, match=r"^full\.onnx-fp32: the endpoint died$"):
        ask("full.onnx-fp32")
    failure = read_record(tmp_path / "full/onnx-fp32/load-failure.json", LoadFailure)
    assert (failure.variant, failure.reason) == ("full.onnx-fp32", "the endpoint died")
    assert [point.rate_rps for point in failure.curve] == [50]
    assert not (tmp_path / "full/onnx-fp32/load.json").exists()
    assert (tmp_path / "full/onnx-int8/load.json").exists(), "the other was tested all the same"
    assert ask() == ["full.onnx-fp32: load test 1 of 2", "full.onnx-int8: load-tested before, kept"]
    assert not (tmp_path / "full/onnx-fp32/load-failure.json").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(LoadTestFailed("the endpoint died"), "the endpoint died"), (KeyboardInterrupt(), "interrupted")],
)
def test_a_soak_that_fails_says_so_beside_an_earlier_one_until_it_is_made_good(
    tmp_path: Path,
    make_variant: Callable[..., Variant],
    make_load: Callable[..., LoadRecord],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    reason: str,
) -> None:
    variant, record = make_variant("full.onnx-int8"), make_load()
    bench = LoadBench(("a text",), variant.tuning.machine)
    folder = Run(tmp_path).artifact_folder("full", "onnx-int8")
    folder.mkdir(parents=True)
    (folder / "soak.json").write_text("held before")
    failing = True

    def soak(task: Task, asked: Soak) -> SoakRecord:
        task.notes.keep(record.curve[0])
        if failing:
            raise error
        return SoakRecord(
            variant=variant.name, slo=record.slo, rate_rps=asked.rate_rps, rate_reason=asked.rate_reason,
            point=record.curve[0], missed_ratios={}, held=True, surely=True, server=asked.settings,
            dispatch_p99_ms=None, calibration_drift_ratio=0, environment=task.machine, finished_at=record.finished_at,
        )  # fmt: skip

    monkeypatch.setattr("deploycost.benchmarking.soak.soak", soak)
    monkeypatch.setattr(load, "_subject", lambda *_: None)
    held = (40.0, "as asked", 60.0)
    with pytest.raises(type(error)):
        soak_test(Run(tmp_path), EXPERIMENT, variant, bench, held, print)
    told = read_record(folder / "soak-failure.json", SoakFailure)
    assert (told.variant, told.rate_rps, told.rate_reason, told.duration_s, told.reason) == (
        "full.onnx-int8", *held, reason,
    )  # fmt: skip
    assert told.point == record.curve[0]
    assert (folder / "soak.json").read_text() == "held before"
    failing = False
    soak_test(Run(tmp_path), EXPERIMENT, variant, bench, held, print)
    assert read_record(folder / "soak.json", SoakRecord).held
    assert not (folder / "soak-failure.json").exists()
