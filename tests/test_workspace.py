"""Runs on disk: whole files or none, one writer at a time, nothing lost when a writer dies."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.errors import UserError
from deploycost.experiment import make_experiment
from deploycost.workspace import Run, fingerprint, new_run, open_run, require_space, staged_folder, write_text

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from deploycost.workspace import Run, staged_folder
run = Run(Path(sys.argv[1]))
with run.locked(), staged_folder(run.folder / "full" / "adapter") as staging:
    (staging / "half").write_text("written")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "mine")


@pytest.fixture
def holder(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run and is half-way through filling a folder."""
    child = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(run.folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


# --- files ---


def test_a_file_is_written_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.md"
    write_text(path, "naïve\n")
    assert path.read_bytes() == "naïve\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_the_earlier_file_stays_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tuning.json"
    write_text(path, "earlier")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "later")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_the_earlier_file_stays_where_the_text_cannot_be_encoded(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    write_text(path, "earlier")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "later \ud800")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


# --- folders ---


def test_a_filled_folder_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    place = tmp_path / "full" / "adapter"
    for name in ("first", "second"):
        with staged_folder(place) as staging:
            (staging / name).write_text(name)
            assert staging != place
            assert staging.parent == place.parent
    assert [path.name for path in place.iterdir()] == ["second"]
    assert list(place.parent.iterdir()) == [place]
    assert place.stat().st_mode & 0o777 == 0o755


def test_the_earlier_folder_stays_where_the_work_fails(tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    with staged_folder(place) as staging:
        (staging / "first").write_text("whole")
    with pytest.raises(KeyboardInterrupt), staged_folder(place) as staging:  # noqa: PT012 - the failure comes midway
        (staging / "second").write_text("half")
        raise KeyboardInterrupt
    assert (place / "first").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [place]


# --- one writer ---


def test_a_second_process_is_refused_and_harms_nothing(run: Run, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=r"run 'mine' is in use by another deploycost process; .* --run"), run.locked():
        pass
    (half,) = run.folder.glob("full/.unfinished-*/half")
    assert half.read_text() == "written"


def test_a_killed_writer_leaves_the_run_free_and_its_leftovers_are_cleared(
    run: Run, holder: subprocess.Popen[str]
) -> None:
    write_text(run.folder / "full" / "tuning.json", "kept")
    (run.folder / "full" / ".unfinished-file").write_text("as a writer of a file would leave it")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(run.folder.rglob(".unfinished-*"))) == 2
    with run.locked():
        assert list(run.folder.rglob(".unfinished-*")) == []
        assert (run.folder / "full" / "tuning.json").read_text() == "kept"


def test_checkpoints_of_a_killed_training_are_no_leftovers(run: Run) -> None:
    kept = run.checkpoints_folder("full") / "step-3" / "checkpoint.json"
    write_text(kept, "{}")
    write_text(run.checkpoints_folder("full") / ".unfinished-x" / "checkpoint.json", "{}")
    assert run.cache_folder == run.folder.parent / ".cache"
    with run.locked():
        assert [path for path in run.checkpoints_folder("full").rglob("*") if path.is_file()] == [kept]


def test_the_lock_is_free_again_after_use_and_after_an_error(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked(), pytest.raises(UserError, match="in use"), Run(run.folder).locked():
        pass
    with run.locked():
        pass


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*Not a directory"), Run(tmp_path / "file" / "run").locked():
        pass


# --- what a run was asked ---


def _asked(**changes: Any) -> Any:
    return make_experiment({"model": "minilm", "dataset": {"source": "demo"}} | changes)


def _finish_something(run: Run) -> None:
    write_text(run.folder / "full" / "tuning.json", "{}")


def test_what_is_asked_replaces_what_was_until_a_stage_finished(run: Run) -> None:
    run.adopt(_asked(methods="full"))
    assert not run.has_results
    other = _asked(model="distilbert-base-uncased", methods="lora")
    assert run.adopt(other) == other
    assert run.experiment() == other


def test_methods_add_up_and_questions_are_replaced(run: Run) -> None:
    first = _asked(methods="full,lora", artifacts="onnx-fp32", load={"slo_p95_ms": 50})
    assert run.adopt(first) == first
    _finish_something(run)
    second = _asked(methods="prompt,lora", artifacts="onnx-int8", quote={"clouds": ["aws-g4dn"]})
    whole = run.adopt(second)
    assert whole.methods == ("full", "lora", "prompt")
    assert whole.artifacts == ("onnx-fp32", "onnx-int8")
    assert whole.load.slo_p95_ms == 100
    assert whole.quote.clouds == ("aws-g4dn",)
    assert run.experiment() == whole


def test_another_model_data_set_or_training_is_refused_with_all_that_differs(run: Run) -> None:
    first = run.adopt(_asked())
    _finish_something(run)
    other = _asked(
        model="distilbert-base-uncased",
        dataset={"source": "demo", "train_rows": 100},
        training={"seed": 1, "lora": {"rank": 4}},
    )
    with pytest.raises(UserError) as refusal:
        run.adopt(other)
    said = str(refusal.value)
    assert said.startswith("run 'mine' was made under other conditions (")
    for part in (
        "model was 'minilm', now 'distilbert-base-uncased'",
        "dataset.train_rows was None, now 100",
        "training.seed was 42, now 1",
        "training.lora.rank was 8, now 4",
    ):
        assert part in said
    assert said.count(" was ") == 4 + 1
    assert "--run NAME" in said
    assert "\n" not in said
    assert run.experiment() == first


def test_an_experiment_that_was_spoilt_by_hand_is_told(run: Run) -> None:
    run.adopt(_asked())
    _finish_something(run)
    run.experiment_path.write_text("modle: minilm\n")
    with pytest.raises(UserError, match=r"experiment\.yaml: modle: unknown field \(did you mean 'model'\?\)"):
        run.adopt(_asked())


# --- finding runs ---


def test_the_run_changed_last_is_opened_unless_one_is_named(tmp_path: Path) -> None:
    for age, name in enumerate(["newest", "middle", "oldest"]):
        Run(tmp_path / name).adopt(_asked())
        when = time.time() - 100 * age
        os.utime(tmp_path / name / "experiment.yaml", (when, when))
    assert open_run(tmp_path, None).name == "newest"
    assert open_run(tmp_path, "oldest").folder == tmp_path / "oldest"
    with pytest.raises(UserError) as refusal:
        open_run(tmp_path, "midle")
    assert str(refusal.value) == (
        f"no run 'midle' in {tmp_path} (did you mean 'middle'?); runs: middle, newest, oldest"
    )


def test_where_there_are_no_runs_the_way_to_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "not-a-run").mkdir()
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UserError, match=r"no runs in .*: make one with 'deploycost run'"):
            open_run(place, None)


@pytest.mark.parametrize("name", ["default", "a", "2026-01-02_x.y", "R" * 64])
def test_run_names(tmp_path: Path, name: str) -> None:
    assert new_run(tmp_path, name) == Run(tmp_path / name)
    assert new_run(tmp_path, name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "../a", "a b", "a\n", "é", "R" * 65])
def test_run_names_that_are_no_plain_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected letters, digits"):
        new_run(tmp_path, name)


def test_records_are_found_and_unfinished_ones_are_not(run: Run) -> None:
    kept = [
        "a/tuning.json",
        "b/tuning.json",
        "a/onnx-fp32/export.json",
        "a/onnx-fp32/load.json",
        "b/onnx-int8/export.json",
    ]
    for place in [*kept, ".unfinished-1/tuning.json", "a/.unfinished-2/export.json", "a/x/deeper/export.json"]:
        write_text(run.folder / place, "{}")
    for name in ("tuning.json", "export.json", "load.json"):
        expected = sorted(run.folder / place for place in kept if place.endswith(name))
        assert run.record_paths(name) == expected
    assert run.method_folder("a") / "tuning.json" in run.record_paths("tuning.json")
    assert run.artifact_folder("a", "onnx-fp32") / "load.json" in run.record_paths("load.json")


# --- space and marks ---


def test_too_little_space_is_refused_with_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 1024**2))
    with pytest.raises(UserError, match=r"10 MiB free, about 600 MiB needed; .*--runs-dir"):
        require_space(tmp_path, 600 * 1024**2)


@given(st.dictionaries(st.text(), st.integers()), st.text())
def test_a_mark_is_blind_to_the_order_of_keys_only(content: dict[str, int], more: str) -> None:
    mark = fingerprint(content, more)
    assert mark == fingerprint(dict(reversed(content.items())), more)
    assert mark != fingerprint(content, more + "x")
    assert mark != fingerprint(more, content)
    assert len(mark) == 16


def test_what_was_left_in_the_cache_goes_once_nobody_can_be_writing_it(run: Run) -> None:
    fresh, stale = run.cache_folder / "tokens" / ".unfinished-1", run.cache_folder / "tokens" / ".unfinished-2"
    for folder in (fresh, stale):
        write_text(folder / "ids", "x")
    hours_ago = time.time() - 2 * 3600
    os.utime(stale, (hours_ago, hours_ago))
    with run.locked():
        assert fresh.exists()
        assert not stale.exists()
