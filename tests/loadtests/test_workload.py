"""Texts: read as they are, refused with their place, asked in a seeded order that leaves none out."""

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from loadtests.workload import read_texts, seeded_order, text_groups


def test_texts_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "zwölf", "label": 3}\n', encoding="utf-8")
    assert read_texts(str(path)) == ["one", "zwölf"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no texts"),
        ('{"text": 1}\n', "of row 1; its columns: text"),
        ('{"text": "a"}\nnot json\n', "of row 2"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_texts(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the texts"):
        read_texts(str(tmp_path / "none.jsonl"))


def test_order_takes_every_text_before_any_again() -> None:
    drawn = list(islice(seeded_order(5, seed=1), 10))
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 1, 2, 3, 4]
    assert drawn == list(islice(seeded_order(5, seed=1), 10))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.txt", "one\n\nzwölf\n"),
        ("t.csv", 'id,body\n1,one\n2,"zwölf"\n'),
        ("t.jsonl", '{"body": "one"}\n{"body": "zwölf"}\n'),
    ],
)
def test_texts_of_other_files(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_texts(str(path), "body") == ["one", "zwölf"]


def test_texts_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"body": ["one", "zwölf"], "label": [0, 1]}), path)
    assert read_texts(str(path), "body") == ["one", "zwölf"]
    with pytest.raises(ValueError, match=r"cannot read the texts|expected a text in column 'text'"):
        read_texts(str(path))


def test_an_unknown_column_or_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,body\n1,one\n", encoding="utf-8")
    with pytest.raises(ValueError, match="column 'text' of row 1; its columns: id, body"):
        read_texts(str(path))
    with pytest.raises(ValueError, match=r"ends in \.txt, \.jsonl, \.csv, \.parquet"):
        read_texts("texts.xlsx")


@given(number=st.integers(1, 30), size=st.integers(1, 8), seed=st.integers(0, 9))
def test_groups_leave_no_text_out(number: int, size: int, seed: int) -> None:
    groups = text_groups(number, size, seed)
    assert {index for group in groups for index in group} == set(range(number))
    assert all(len(group) == size for group in groups)
    assert len(groups) == -(-number // size)
