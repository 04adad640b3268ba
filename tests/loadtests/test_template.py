"""Templates of other services' requests: filled, judged, and refused with all that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.template import Template, pointed, read_template

TEMPLATE = """
path: /v1/classify
headers: {Authorization: Bearer key}
body: {documents: [{id: 1, content: "{{text}}"}], language: en}
pointer: /results/0/class
"""


def test_a_template_is_filled_and_judged(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text(TEMPLATE, encoding="utf-8")
    template = read_template(str(path))
    assert template.placeholder == "text"
    assert json.loads(template.filled(["zwölf \"x\""])) == {
        "documents": [{"id": 1, "content": "zwölf \"x\""}], "language": "en"
    }  # fmt: skip
    assert template.judge({"results": [{"class": "news"}]}) == ("news", "")
    assert template.judge({"results": [{"class": 3}]}) == ("3", "")
    assert template.judge({"results": []}) == ("", "nothing at /results/0/class")
    assert template.judge({"results": [{"class": None}]})[1]


def test_an_expected_value_must_be_met() -> None:
    template = Template(path="/", body=["{{texts}}"], pointer="/ok", expected=True)
    assert json.loads(template.filled(["a", "b"])) == [["a", "b"]]
    assert template.judge({"ok": True}) == ("true", "")
    assert template.judge({"ok": False}) == ("", "not the expected value at /ok")


@pytest.mark.parametrize(("pointer", "found"), [("", {"a/b": [1, {"~": 2}]}), ("/a~1b/0", 1), ("/a~1b/1/~0", 2)])
def test_pointers_by_hand(pointer: str, found: Any) -> None:
    assert pointed({"a/b": [1, {"~": 2}]}, pointer) == found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"method must be one of.*path must start with /.*pointer must.*body must hold"
    ):
        Template(path="classify", body={}, pointer="label", method="GET")
    path = tmp_path / "service.json"
    path.write_text('{"path": "/", "boddy": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"unknown: boddy; missing: body, pointer"):
        read_template(str(path))
    with pytest.raises(ValueError, match="cannot read the template"):
        read_template(str(tmp_path / "none.yaml"))
