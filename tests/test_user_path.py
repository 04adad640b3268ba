"""Paths as users write them, homes that are none among them."""

from pathlib import Path

import pytest

from deploycost.base_model import locate_model
from deploycost.errors import UserError
from deploycost.user_path import user_path


def test_a_home_is_found_and_a_path_that_has_none_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/models") == tmp_path / "models"
    assert user_path("models/own") == Path("models/own")
    assert user_path("~nobody.at.all/models") == Path("~nobody.at.all/models")


def test_a_model_in_the_home_of_nobody_is_one_line() -> None:
    with pytest.raises(UserError, match=r"model '~nobody\.at\.all/m' is a missing folder"):
        locate_model("~nobody.at.all/m")
