"""What a question about methods is gathered from: runs, studies, the device, the model's shape."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.advice import (
    TrainingDevice,
    known_studies,
    method_facts,
    method_question,
    shipped_results,
    training_device,
    usual_experiment,
)
from deploycost.errors import UserError
from deploycost.experiment import METHOD_NAMES, Experiment, TrainingSpec, make_experiment, write_experiment
from deploycost.study_record import StudyRecord
from deploycost.units import GIB, MIB

CPU = TrainingDevice("cpu", "cpu")


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    """A folder with a BERT's config.json, and weights that nobody reads: two layers of width 8."""
    folder = tmp_path / "tiny-bert"
    folder.mkdir()
    config = {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 100,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def _keep(runs: Path, study: StudyRecord, when: int) -> None:
    path = runs / f"study-{study.name}" / "study.json"
    path.parent.mkdir(parents=True)
    path.write_text(study.model_dump_json())
    os.utime(path, (when, when))


def _study(name: str, made_at: str, results: list[dict[str, Any]] | None = None) -> StudyRecord:
    machine = {"cpu_model": "x", "cpu_cores": 1, "memory_bytes": 1, "platform": "x", "python": "3", "packages": {}}
    return StudyRecord.model_validate(
        {
            "name": name, "question": "?", "size": "small", "base_model": "minilm", "dataset": "tickets",
            "dataset_description": "", "dataset_generated": False, "train_rows": 1, "test_rows": 1, "epochs": 1,
            "same_train_rows": True, "same_test_rows": True, "reference": "source",
            "seeds": [1], "cores_per_cell": 1, "cells": [], "results": results or [], "findings": [], "scaled_down": [],
            "source": "", "command": "", "machine": machine, "made_at": made_at,
        }
    )  # fmt: skip


def test_own_studies_come_first_and_the_newest_of_them(tmp_path: Path) -> None:
    _keep(tmp_path, _study("old", "2026-01-01T00:00:00+00:00"), 1)
    _keep(tmp_path, _study("new", "2026-02-01T00:00:00+00:00"), 2)
    studies, left_out = known_studies(tmp_path)
    assert left_out == []
    assert [study.record.name for study in studies if study.own] == ["new", "old"]
    assert len(studies) == 2 + len(shipped_results())


def test_a_damaged_study_is_left_out_and_told(tmp_path: Path) -> None:
    _keep(tmp_path, _study("old", "2026-01-01T00:00:00+00:00"), 1)
    _keep(tmp_path, _study("new", "2026-02-01T00:00:00+00:00"), 2)
    (tmp_path / "study-old" / "study.json").write_text("{")
    studies, left_out = known_studies(tmp_path)
    assert [study.record.name for study in studies if study.own] == ["new"]
    (line,) = left_out
    assert re.match(r"left out as evidence: .*study-old/study\.json is not a StudyRecord", line)


def test_shipped_results_can_be_read_and_name_no_place() -> None:
    for study in shipped_results():
        assert study.cells
        assert "/" not in study.dataset


def test_the_question_is_about_what_was_done_last(tmp_path: Path) -> None:
    assert usual_experiment(tmp_path, None) is None
    _keep(tmp_path, _study("mine", "2026-01-01T00:00:00+00:00"), 100)
    from_study = usual_experiment(tmp_path, None)
    assert from_study is not None
    assert (from_study.model, from_study.dataset.source) == ("minilm", "tickets")
    run = tmp_path / "demo" / "experiment.yaml"
    run.parent.mkdir()
    run.write_text(write_experiment(Experiment(model="other")))
    os.utime(run, (50, 50))
    assert usual_experiment(tmp_path, None) == from_study
    named = usual_experiment(tmp_path, "demo")
    assert named is not None
    assert named.model == "other"
    os.utime(run, (200, 200))
    assert usual_experiment(tmp_path, None) == named
    with pytest.raises(UserError, match="did you mean 'demo'"):
        usual_experiment(tmp_path, "dem")


def test_of_a_study_the_question_is_what_its_cells_have_in_common(tmp_path: Path) -> None:
    results = []
    for place, rank in enumerate((4, 8)):
        training = {"epochs": 2, "seed": place, "lora": {"rank": rank}}
        run = tmp_path / "cells" / f"lora-r{rank}-d{place}"
        run.mkdir(parents=True)
        cell = make_experiment({"model": str(tmp_path), "dataset": {"source": "my.csv"}, "training": training})
        (run / "experiment.yaml").write_text(write_experiment(cell))
        results.append(
            {"name": f"rank {rank}", "method": "lora", "slug": f"lora-r{rank}", "experiment_digest": f"d{place}",
             "seed": 1, "error": "?"}
        )  # fmt: skip
    _keep(tmp_path, _study("mine", "2026-01-01T00:00:00+00:00", results), 100)
    asked = usual_experiment(tmp_path, None)
    assert asked is not None
    # The names of the record lead nowhere: the places do.
    assert (asked.model, asked.dataset.source) == (str(tmp_path), "my.csv")
    assert asked.training == TrainingSpec(epochs=2)


def test_devices_are_cpu_cuda_and_what_is_for_hire() -> None:
    assert training_device("CPU") == CPU
    assert training_device("cuda") == TrainingDevice("cuda", "cuda")
    assert training_device("t4") == TrainingDevice("T4", "cuda", 16 * GIB)
    # Cards of 40 and of 80 GB go by the name: the smaller is what one can rely on.
    assert training_device("A100").memory_bytes == 40 * GIB
    with pytest.raises(UserError, match="unknown device 'T44'"):
        training_device("T44")


def test_the_question_holds_the_shape_and_the_smaller_budget(bert_folder: Path) -> None:
    experiment = make_experiment(
        {"model": str(bert_folder), "training": {"dynamic": {"memory_budget": "32GiB"}, "mixed_precision": False}}
    )
    question = method_question(experiment, training_device("T4"), dataset_is_known=False)
    assert question.memory_budget_bytes == 16 * GIB
    assert question.base_model == "tiny-bert"
    assert question.texts is None
    assert question.budget_note == "16 GiB is all that a T4 has, of 32 GiB asked for; "
    assert (question.shape.layers, question.shape.hidden) == (2, 8)
    assert (question.setting.tokens, question.setting.half_precision) == (32, False)
    assert question.training.dynamic.memory_budget is None
    assert method_question(experiment, CPU, dataset_is_known=True).texts == "ag_news"
    assert method_question(experiment, CPU, dataset_is_known=True).budget_note == ""
    with pytest.raises(UserError, match="give --memory-budget"):
        method_question(Experiment(model=str(bert_folder)), CPU, dataset_is_known=True)


def test_every_method_is_explained_with_its_own_figures(bert_folder: Path) -> None:
    spec = TrainingSpec(learning_rate=2e-3, batch_size=4)
    experiment = Experiment(model=str(bert_folder), training=spec)
    flags: Callable[[str], dict[str, str]] = lambda method: {"--of": method}  # noqa: E731 - a stand-in
    facts = {each.method: each for each in method_facts(experiment, CPU, flags)}
    assert tuple(facts) == METHOD_NAMES
    lora, prompt, full = facts["lora"], facts["prompt"], facts["full"]
    # Head: a square map of 8 and a classifier of 4 labels, with biases: 9 x (8 + 4).
    assert lora.head_parameters == full.head_parameters == 108
    # Query and value in 2 layers, rank 8: 2 x 2 x 8 x (8 + 8).
    assert lora.trainable_parameters == 108 + 512
    assert prompt.trainable_parameters == 108 + 20 * 8
    assert (lora.batch_size, lora.learning_rate, lora.prompt_learning_rate) == (4, 2e-3, None)
    assert prompt.prompt_learning_rate == pytest.approx(5 * 2e-3)
    assert (prompt.singular_value_learning_rate, facts["dynamic"].singular_value_learning_rate) == (None, 64 * 2e-3)
    assert (facts["qlora"].bits, lora.bits) == (4, None)
    assert lora.flags == {"--of": "lora"}
    assert full.predicted_memory.total > 30 * MIB
