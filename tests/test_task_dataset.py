"""Texts with several labels, numbers or none: read as told, refused row by row, split without regard to classes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from deploycost.dataset import load_dataset
from deploycost.errors import UserError
from deploycost.experiment import DatasetSpec
from deploycost.task_dataset import load_texts
from serving.bundle import Task


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(source: str | Path, task: Task, **fields: Any) -> Any:
    return load_texts(DatasetSpec(source=str(source), task=task, **fields), seed=3)


def of(dataset: Any) -> dict[str, Any]:
    """Label of each text, whichever split it came to."""
    return {
        text: label
        for split in (dataset.train, dataset.test)
        for text, label in zip(split.texts, split.labels, strict=True)
    }


@pytest.mark.parametrize("kind", ["lists", "strings"])
def test_several_labels_as_lists_or_as_strings(tmp_path: Path, kind: str) -> None:
    given = [["spam", "rude"], ["spam"], [], ["rude", "new"]]
    rows = [
        {"text": f"text {n}", "label": given[n % 4] if kind == "lists" else "|".join(given[n % 4])} for n in range(20)
    ]
    dataset = read(write(tmp_path / "a.jsonl", rows), "multi-label")
    assert dataset.label_names == ("new", "rude", "spam")  # the sorted names found
    expected = [(1, 2), (2,), (), (0, 1)]
    assert of(dataset) == {f"text {n}": expected[n % 4] for n in range(20)}
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert "80/20 split made here" in dataset.description


def test_a_name_of_digits_is_a_name(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "007|spam" if n % 2 else "spam"} for n in range(20)]
    assert read(write(tmp_path / "a.jsonl", rows), "multi-label").label_names == ("007", "spam")


def test_numbers_for_labels_are_ids_of_the_names_given(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["a", "b", "c"]')
    parquet.write_table(
        pa.table({"text": [f"t{n}" for n in range(12)], "label": [[0, 2], [1]] * 6}), tmp_path / "train.parquet"
    )
    dataset = read(tmp_path, "multi-label")
    assert dataset.names_in_id_order
    assert of(dataset)["t0"] == (0, 2)


def test_numbers(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("text,stars\n" + "".join(f"text {n},{n / 2}\n" for n in range(10)))
    dataset = read(path, "regression", label_column="stars")
    assert dataset.label_names == ("stars",)
    assert of(dataset)["text 3"] == 1.5


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_texts_alone_have_no_labels_and_say_so(tmp_path: Path, task: Task) -> None:
    source = write(tmp_path / "a.jsonl", [{"text": f"text {n}", "id": n} for n in range(10)])
    dataset = read(source, task)
    assert set(of(dataset).values()) == {None}
    assert dataset.label_names == ()
    assert "without labels accuracy stays unknown (see --label-column)" in dataset.description
    with pytest.raises(UserError, match="no column 'label'"):
        load_dataset(DatasetSpec(source=source), seed=3)
    with pytest.raises(UserError, match=r"no column 'stars', see --label-column; columns found: text, id"):
        read(source, task, label_column="stars")


def test_one_label_each_is_read_as_for_training() -> None:
    spec = DatasetSpec(source="demo", train_rows=40, test_rows=20)
    assert load_texts(spec, 42) == load_dataset(spec, 42)


def test_a_test_split_that_is_given_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", [{"text": f"a{n}", "label": 1.0} for n in range(3)])
    write(tmp_path / "d" / "test.jsonl", [{"text": f"b{n}", "label": n} for n in range(4)])
    dataset = read(tmp_path / "d", "regression", test_rows=3)
    assert len(dataset.test) == 3
    assert set(dataset.test.texts) <= {"b0", "b1", "b2", "b3"}
    assert "test split as given" in dataset.description


@pytest.mark.parametrize(
    ("task", "labels", "problem"),
    [
        ("regression", ["high"] * 10, r"10 x label that is not a number \(row 1, 2, 3, 4, 5 and 5 more\)"),
        ("regression", [None, *[1] * 9], r"1 x label that is not a number \(row 1\)"),
        ("regression", [True, *[1] * 9], "label that is not a number"),
        ("multi-label", [{"a": 1}] * 10, "no list of names"),
        ("multi-label", [None, *[["a"]] * 9], "no list of names"),
    ],
)
def test_labels_of_another_kind_are_told_by_row(tmp_path: Path, task: Task, labels: list[Any], problem: str) -> None:
    if labels[0] is True:
        labels = [True] * 10
    source = write(tmp_path / "a.jsonl", [{"text": f"t{n}", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(UserError, match=problem) as refusal:
        read(source, task)
    assert "\n" not in str(refusal.value)


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    rows = [
        {"text": " ", "label": "1"},
        {"text": "a", "label": "x"},
        *({"text": f"b{n}", "label": "2"} for n in range(9)),
    ]
    with pytest.raises(
        UserError, match=r"1 x text that is empty.*\(row 1\); .*1 x label that is not a number \(row 2\)"
    ):
        read(write(tmp_path / "a.jsonl", rows), "regression")


def test_too_few_texts(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [{"text": f"t{n % 9}"} for n in range(20)])
    with pytest.raises(UserError, match="has 9 distinct texts; expected at least 10"):
        read(source, "single-label")
    with pytest.raises(UserError, match="--test-rows 9: expected at most 2"):
        read(write(tmp_path / "b.jsonl", [{"text": f"t{n}"} for n in range(10)]), "single-label", test_rows=9)
