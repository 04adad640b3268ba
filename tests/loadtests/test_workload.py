"""Texts: read as they are, refused with their place, asked in a seeded order that leaves none out."""

from itertools import islice
from pathlib import Path

import pytest

from loadtests.workload import read_texts, seeded_order


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
