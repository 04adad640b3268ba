"""Studies run on a tiny encoder: what is done is kept and shared, what fails is told, and cells run side by side."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploycost.environment import usable_cores
from deploycost.errors import UserError
from deploycost.records import read_record
from deploycost.study import StudyRequest, _builders, run_study
from deploycost.study_file import StudyFile, make_study
from deploycost.study_record import StudyRecord, cell_run_folder
from deploycost.workspace import Run
from serving.errors import EngineError

RequestMaker = Callable[..., StudyRequest]


def _study(name: str, cells: dict[str, dict[str, Any]], **changes: Any) -> StudyFile:
    content = {
        "name": name, "question": "Which?", "source": "a paper", "seeds": [1],
        "cells": [{"name": cell, **asked} for cell, asked in cells.items()],
        "tables": [{"title": "All", "metrics": ["accuracy", "memory_bytes"]}],
        "experiment": {
            "model": "distilbert-base-uncased", "dataset": {"source": "ag_news"},
            "training": {"epochs": 3, "max_tokens": 32},
        },
        "sizes": {
            "tiny": {
                "seeds": [1],
                "experiment": {
                    "dataset": {"source": "demo", "train_rows": 40, "test_rows": 40}, "training": {"epochs": 1},
                },
            }
        },
    }  # fmt: skip
    return make_study(yaml.safe_dump(content | changes), f"{name}.yaml")


LORA = {"method": "lora", "training": {"lora": {"rank": 2}}}
TOO_WIDE = {"method": "lora", "training": {"lora": {"rank": 500}}}


@pytest.fixture(scope="module")
def request_of(tiny_bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RequestMaker:
    runs = tmp_path_factory.mktemp("runs")

    def make(study: StudyFile, **changes: Any) -> StudyRequest:
        asked = {"jobs": 1, "changes": {"model": str(tiny_bases["bert"])}} | changes
        return StudyRequest(study=study, size="tiny", runs_dir=runs, command="deploycost study mine", **asked)

    return make


@pytest.fixture(scope="module")
def first(request_of: RequestMaker) -> tuple[StudyRequest, StudyRecord, list[str]]:
    """A study of two cells, one of which cannot be trained, run two at once where there are two cores."""
    told: list[str] = []
    request = request_of(_study("first", {"small": LORA, "too wide": TOO_WIDE}), jobs=min(2, len(usable_cores())))
    return request, run_study(request, told.append), told


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    _, record, told = first
    good, bad = record.results
    assert (good.name, good.seed, good.error) == ("small", 1, None)
    assert good.measured is not None
    assert good.measured.scores.rows == 40
    assert good.measured.memory_bytes > 0
    assert bad.measured is None
    assert bad.error is not None
    assert "500" in bad.error
    assert "\n" not in bad.error
    assert told[0] == "2 cells, 2 of them still to be done"
    assert any(line.startswith("[1/2]") and "left" in line for line in told)


def test_cells_side_by_side_keep_to_their_share_of_the_cores(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    request, record, _ = first
    assert record.results[0].measured is not None
    assert record.results[0].measured.machine.cpu_cores == len(usable_cores()) // request.jobs == record.cores_per_cell


def test_the_record_tells_what_is_smaller_and_names_no_folder(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    request, record, _ = first
    path = request.folder / "study.json"
    assert read_record(path, StudyRecord) == record
    assert "base model: bert (source: distilbert-base-uncased)" in record.scaled_down
    assert "training rows: 40 (source: all)" in record.scaled_down
    assert "epochs: 1 (source: 3)" in record.scaled_down
    assert not any("longest" in line for line in record.scaled_down)
    assert str(request.runs_dir) not in path.read_text()
    assert request.changes["model"] not in path.read_text()


def test_a_folder_that_the_file_itself_names_is_no_difference_and_a_seed_counts_once(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    request, record, _ = first
    model = request.changes["model"]
    experiment = {
        "model": model, "dataset": {"source": "demo", "train_rows": 40, "test_rows": 40},
        "training": {"epochs": 1, "max_tokens": 32},
    }  # fmt: skip
    study = _study("own", {"small": LORA}, experiment=experiment, seeds=[1, 1], sizes={})
    own = run_study(replace(request, study=study, size="full", changes={}), lambda _: None)
    assert own.scaled_down == ()
    assert own.results == record.results[:1]
    assert model not in own.model_dump_json()


def test_what_is_done_is_kept_and_what_failed_is_tried_again(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    request, record, _ = first
    told: list[str] = []
    again = run_study(request, told.append)
    assert told[0] == "2 cells, 1 of them still to be done"
    assert again.results == record.results


def test_studies_share_the_cells_that_they_have_in_common(
    first: tuple[StudyRequest, StudyRecord, list[str]], request_of: RequestMaker
) -> None:
    told: list[str] = []
    second = run_study(request_of(_study("second", {"the same by another name": LORA})), told.append)
    assert told == ["1 cells, 0 of them still to be done"]
    assert second.results[0].experiment_digest == first[1].results[0].experiment_digest
    assert second.results[0].measured == first[1].results[0].measured


def test_a_record_tells_the_conditions_of_each_training(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    measured = first[1].results[0].measured
    assert measured is not None
    conditions = measured.conditions
    assert (conditions.epochs, conditions.train_rows, conditions.batch_size) == (1, 40, 8)
    assert conditions.learning_rate == 1e-3
    assert (conditions.settings["lora"]["rank"], conditions.settings["max_tokens"]) == (2, 32)
    assert "prompt" not in conditions.settings


def test_machines_without_a_price_are_refused_before_anything_is_trained(request_of: RequestMaker) -> None:
    told: list[str] = []
    study = _study("unpriced", {"small": LORA}, experiment={"quote": {"clouds": ["nowhere"]}})
    with pytest.raises(UserError, match="the study's prices: unknown cloud"):
        run_study(request_of(study, load_test=True), told.append)
    assert told == []


def test_a_damaged_profile_is_none(
    first: tuple[StudyRequest, StudyRecord, list[str]],
) -> None:
    request, record, _ = first
    result = record.results[0]
    run = cell_run_folder(request.runs_dir, result.slug, result.experiment_digest)
    profile = run / result.slug / "profile" / "profile.json"
    profile.parent.mkdir()
    profile.write_text("{")
    assert run_study(request, lambda _: None).results == record.results


@pytest.mark.slow
def test_exported_cells_are_timed_in_turn_and_the_times_kept(
    request_of: RequestMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(_study("third", {"small": LORA}), changes={
        **request_of(_study("third", {"small": LORA})).changes, "artifacts": ["onnx-int8"],
    })  # fmt: skip
    record = run_study(request, lambda _: None)
    assert record.results[0].measured is not None
    (served,) = record.results[0].measured.served
    assert served.artifact == "onnx-int8"
    assert served.request_ms_p50 is not None
    assert 0 < served.request_ms_p50 < 1000
    told: list[str] = []
    assert run_study(request, told.append).results == record.results
    assert not any("timing" in line for line in told)

    # The same training in other words, as another artifact: both artifacts are the cell's from now on.
    other = LORA | {"training": {"lora": {"rank": 2}, "prompt": {"virtual_tokens": 7}}}
    asked = request_of(_study("fourth", {"small": other}))
    as_fp32 = request_of(asked.study, changes={**asked.changes, "artifacts": ["onnx-fp32"]})
    (result,) = run_study(as_fp32, lambda _: None).results
    assert result.error is None
    assert result.experiment_digest == record.results[0].experiment_digest
    run = Run(cell_run_folder(request.runs_dir, result.slug, result.experiment_digest))
    assert run.experiment().artifacts == ("onnx-int8", "onnx-fp32")

    def refuse(_: object) -> None:
        raise EngineError("the model is not one")

    (request.folder / "request_times.json").unlink()
    monkeypatch.setattr("deploycost.study_cells.Classifier", refuse)
    (result,) = run_study(request, lambda _: None).results
    assert result.error == "onnx-int8 cannot be loaded: the model is not one"
    assert result.measured is not None


def test_more_jobs_than_cores_are_refused(request_of: RequestMaker) -> None:
    with pytest.raises(UserError, match=r"--jobs 1000: expected 1 to \d+"):
        run_study(request_of(_study("many", {"small": LORA}), jobs=1000), lambda _: None)


def test_a_data_set_that_cannot_be_had_ends_the_study_at_once(request_of: RequestMaker) -> None:
    with pytest.raises(UserError, match="--train-rows 100000"):
        run_study(
            request_of(
                _study("huge", {"small": LORA}), changes={"dataset": {"train_rows": 100_000}, "model": "minilm"}
            ),
            lambda _: None,
        )


def test_an_interruption_ends_the_children_and_starts_no_further_cell() -> None:
    import subprocess
    import sys

    begun = threading.Event()
    ran: list[int] = []

    def cell(number: int) -> int:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        begun.set()
        ran.append(number)
        return child.wait()

    def interrupted() -> None:
        with _builders(1) as pool:
            pool.submit(cell, 1)
            pool.submit(cell, 2)
            assert begun.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ran == [1]


def test_the_threads_of_builders_share_out_the_cores_and_leave_the_main_one_alone() -> None:
    before = os.sched_getaffinity(0)
    with _builders(1) as pool:
        assert pool.submit(os.sched_getaffinity, 0).result() == before
    if len(before) > 1:
        with _builders(2) as pool:
            gate = threading.Barrier(2)

            def share() -> set[int]:
                gate.wait(20)
                return os.sched_getaffinity(0)

            one, other = (future.result() for future in [pool.submit(share), pool.submit(share)])
        assert not one & other
        assert len(one) == len(other) == len(before) // 2
    assert os.sched_getaffinity(0) == before
