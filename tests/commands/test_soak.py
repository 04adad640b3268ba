"""`deploycost loadtest --verify` and `--rate`: which rate is held, and what contradicts itself."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploycost.cli import main
from deploycost.commands import soak as command
from deploycost.commands.soak import CourseFlags, hold, planned_rate, quote_sheet
from deploycost.costing.quote import Alternatives, Question, Site, hired, quote
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import Experiment
from deploycost.pipeline import LoadBench
from deploycost.records import Figure, SoakRecord, Variant, write_record
from deploycost.verdicts import Capacity, Policy, Traffic
from deploycost.workspace import Run


@pytest.fixture
def run(
    tmp_path: Path,
    make_variant: Callable[..., Variant],
    make_load: Callable[..., object],
    make_offer: Callable[..., object],
) -> Run:
    """A run that keeps a quote of full.onnx-int8 at 100/s and 80 % load."""
    variant = make_variant(load=make_load(100.0))

    def capacity_on(variant: Variant, _: object) -> Capacity:
        # Scaled to a machine of twice the cores: no rate for a test of the server that was measured.
        return Capacity(capacity_rps=Figure(value=200, basis="assumed"), reason="scaled", load=variant.load)

    question = Question(Traffic(requests_per_month=10**8), Policy(utilisation_ratio=0.8), 100)
    sheet = quote([variant], Alternatives(hired([make_offer()])), capacity_on, lambda _: Site(), question)
    folder = tmp_path / "demo" / "quotes"
    folder.mkdir(parents=True)
    (folder / "abc.json").write_text(write_record(sheet), encoding="utf-8")
    return Run(tmp_path / "demo")


def test_the_rate_is_the_utilisation_of_what_was_measured(run: Run) -> None:
    for name in ("newest", "abc", "abc.json", str(run.folder / "quotes" / "abc.json")):
        rate_rps, reason = planned_rate(quote_sheet(run, name), "full.onnx-int8")
        assert rate_rps == pytest.approx(80)
        assert reason == "80 % of 100/s, as quote abc plans"


def test_a_quote_that_is_not_there_or_does_not_know(run: Run) -> None:
    with pytest.raises(UserError, match="no quote 'abd'; give a file, newest, or one that the run keeps: abc"):
        quote_sheet(run, "abd")
    with pytest.raises(UserError, match=r"knows no capacity of lora-r8.onnx-int8; load-test it.*knows: full.onnx-int8"):
        planned_rate(quote_sheet(run, "abc"), "lora-r8.onnx-int8")
    (run.folder / "quotes" / "abc.json").unlink()
    with pytest.raises(UserError, match="keeps no quote"):
        quote_sheet(run, "newest")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--verify", "newest", "--rate", "5"], "--verify takes its rate from a quote"),
        (["--duration", "5s"], "--duration is how long a rate is held"),
        (["--rate", "5", "--again"], "--again finds a capacity anew"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--slo", "p95=1ms", "--slo-p95", "3"], "say the same thing twice"),
    ],
)
def test_flags_that_contradict_one_another(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loadtest", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_durations() -> None:
    told = {"90s": 90, "10min": 600, "1h": 3600, "2.5": 2.5, "30": 30}
    assert {text: CourseFlags(rate=1, duration=text).duration_s for text in told} == told
    assert CourseFlags(rate=1).duration_s == 60
    for text in ("soon", "0s", "5 parsecs", "-3s"):
        with pytest.raises(UserError, match="expected a length of time"):
            _ = CourseFlags(rate=1, duration=text).duration_s


@pytest.mark.parametrize("held", [True, False])
def test_what_came_of_it_is_shown_and_a_no_is_an_answer(
    run: Run,
    make_variant: Callable[..., Variant],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    held: bool,
) -> None:
    variant = make_variant()
    asked: list[tuple[float, str, float]] = []

    def soak_test(
        run: Run, wanted: Experiment, variant: Variant, bench: LoadBench, what: tuple[float, str, float], say: object
    ) -> SoakRecord:
        asked.append(what)
        load = variant.load
        assert load is not None
        point = load.curve[0].model_copy(update={"reason": "" if held else "p95 300 ms is above 100 ms"})
        return SoakRecord(
            variant=variant.name, slo=load.slo, rate_rps=what[0], rate_reason=what[1], point=point, missed_ratios={},
            held=held, surely=held, server=None, dispatch_p99_ms=None, calibration_drift_ratio=0,
            environment=load.environment, finished_at=load.finished_at,
        )  # fmt: skip

    monkeypatch.setattr(command, "pipeline", SimpleNamespace(soak_test=soak_test))
    assert variant.load is not None
    bench = LoadBench(("a text",), variant.load.environment)
    call = lambda: hold(run, Experiment(), [variant], bench, CourseFlags(verify="newest", duration="5s"), json=True)  # noqa: E731
    if held:
        assert call() == 0
    else:
        with pytest.raises(NoAnswer, match=r"did not hold: full.onnx-int8 at 80/s: p95 300 ms is above 100 ms"):
            call()
    assert asked == [(pytest.approx(80), "80 % of 100/s, as quote abc plans", 5.0)]
    assert json.loads(capsys.readouterr().out)["held"] is held
