"""Which load tests are kept and which are made anew: another rule, machine or question makes an earlier one stale."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploycost.benchmarking.task import LoadSubject, Notes
from deploycost.environment import MachineFacts
from deploycost.experiment import Experiment
from deploycost.pipeline import LoadBench, load_test
from deploycost.pipeline import load as stage
from deploycost.records import (
    LoadFailure,
    LoadRecord,
    TuningDraft,
    Variant,
    read_record,
    write_record,
)  # fmt: skip
from deploycost.workspace import Run

MACHINE = MachineFacts(cpu_model="a CPU", cpu_cores=2, memory_bytes=1, platform="p", python="3", packages={})
MakeLoad = Callable[..., LoadRecord]
MakeVariant = Callable[..., Variant]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, make_load: MakeLoad) -> list[Notes]:
    """The notes of each load test that was made; none starts anything."""
    made: list[Notes] = []

    def measure(subject: LoadSubject, *_: object, notes: Notes, **__: object) -> LoadRecord:
        made.append(notes)
        return make_load(fingerprint=subject.fingerprint)

    def subject(folder: Path, variant: Variant, texts: tuple[str, ...], mark: str) -> LoadSubject:
        return LoadSubject(variant.name, folder, "d", texts, None, None, mark)

    monkeypatch.setattr("deploycost.benchmarking.loadtest.measure", measure)
    monkeypatch.setattr(stage, "_subject", subject)
    return made


def test_what_was_found_by_other_rules_or_elsewhere_is_found_anew(
    tmp_path: Path, measured: list[Notes], make_variant: MakeVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, bench, said = Run(tmp_path / "demo"), LoadBench(("a text",), MACHINE), list[str]()

    def test(experiment: Experiment | None = None, machine: MachineFacts = MACHINE) -> tuple[int, str]:
        said.clear()
        load_test(run, experiment or Experiment(), [make_variant()], replace(bench, machine=machine), said.append)
        return len(measured), said[0]

    assert test() == (1, "full.onnx-int8: load test 1 of 1")
    assert test() == (1, "full.onnx-int8: load-tested before, kept")
    stale = (
        "full.onnx-int8: load test 1 of 1; what was found before is damaged, or of another question, machine or rule"
    )
    assert test(machine=MACHINE.model_copy(update={"cpu_cores": 4})) == (2, stale)
    assert test() == (3, stale)
    monkeypatch.setattr(stage, "LOAD_RULES", 99)
    assert test() == (4, stale)
    assert test() == (4, "full.onnx-int8: load-tested before, kept")


def test_a_record_of_an_earlier_version_is_read_as_of_earlier_rules(tmp_path: Path, make_load: MakeLoad) -> None:
    path = tmp_path / "load.json"
    told = make_load().model_dump(mode="json")
    del told["rules"]
    path.write_text(LoadRecord(**told).model_dump_json(exclude={"rules"}), encoding="utf-8")
    assert read_record(path, LoadRecord).rules == 2


def test_a_search_for_settings_goes_on_within_the_hour(
    tmp_path: Path, measured: list[Notes], make_variant: MakeVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, bench = Run(tmp_path / "demo"), LoadBench(("a text",), MACHINE)
    variant = make_variant()
    draft_path = run.artifact_folder(variant.tuning.slug, variant.export.artifact) / "load-draft.json"
    load_test(run, Experiment(), [variant], bench, [].append)
    mark = read_record(draft_path.with_name("load.json"), LoadRecord).fingerprint

    def left(begun_at: str, fingerprint: str = mark, *, again: bool = False) -> TuningDraft | None:
        draft_path.write_text(write_record(TuningDraft(fingerprint=fingerprint, begun_at=begun_at)), encoding="utf-8")
        draft_path.with_name("load.json").unlink()
        load_test(run, Experiment(), [variant], bench, [].append, again=again)
        # What is finished leaves no draft.
        assert not draft_path.exists()
        return measured[-1].draft

    monkeypatch.setattr(stage, "now", lambda: "2026-11-28T10:30:00+00:00")
    assert left("2026-11-28T10:00:00+00:00") is not None
    assert left("2026-11-28T09:00:00+00:00") is None
    assert left("2026-11-28T10:00:00+00:00", "of another question") is None
    assert left("2026-11-28T10:00:00+00:00", again=True) is None
    # A test leaves one on its way.
    measured[-1].leave(TuningDraft(fingerprint=mark, begun_at="2026-11-28T10:00:00+00:00"))
    assert read_record(draft_path, TuningDraft).fingerprint == mark


def test_an_interrupted_test_is_told_and_leaves_what_was_found_before(
    tmp_path: Path, measured: list[Notes], make_variant: MakeVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, bench, variant = Run(tmp_path / "demo"), LoadBench(("a text",), MACHINE), make_variant()
    load_test(run, Experiment(), [variant], bench, [].append)
    folder = run.artifact_folder(variant.tuning.slug, variant.export.artifact)
    before = (folder / "load.json").read_bytes()

    def interrupted(*_: object, notes: Notes, **__: object) -> LoadRecord:
        assert variant.load is not None
        notes.keep(variant.load.curve[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("deploycost.benchmarking.loadtest.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_test(run, Experiment(), [variant], bench, [].append, again=True)
    assert (folder / "load.json").read_bytes() == before
    failure = read_record(folder / "load-failure.json", LoadFailure)
    assert (failure.reason, len(failure.curve)) == ("interrupted", 1)
