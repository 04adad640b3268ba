"""A data set's labels in a model's order: by name, by number, or not at all."""

from typing import Any

import pytest

from deploycost.dataset import Dataset, LabelledTexts
from deploycost.errors import UserError
from deploycost.label_match import match_labels


def dataset(names: tuple[str, ...], labels: tuple[Any, ...], *, in_order: bool = False) -> Dataset[Any]:
    texts = LabelledTexts(tuple(f"t{n}" for n in range(len(labels))), labels)
    return Dataset("d", names, texts, texts, "f", "", generated=False, names_in_id_order=in_order)


def test_names_in_another_order() -> None:
    names, test, note = match_labels(("World", "Sports"), dataset(("Sports", "World"), (0, 1, 1)), "single-label")
    assert (names, test.labels, note) == (("World", "Sports"), (1, 0, 0), "")


def test_case_is_forgiven_and_told() -> None:
    names, test, note = match_labels(("NEG", "POS"), dataset(("neg", "pos"), (0, 1)), "single-label")
    assert (names, test.labels) == (("NEG", "POS"), (0, 1))
    assert "without regard to case" in note


def test_a_data_set_may_lack_labels_of_the_model() -> None:
    _, test, _ = match_labels(("a", "b", "c"), dataset(("b", "c"), ((0, 1), ())), "multi-label")
    assert test.labels == ((1, 2), ())


def test_numbers_are_the_models_ids() -> None:
    _, test, note = match_labels(("cat", "dog", "eel"), dataset(("0", "2"), (0, 1)), "single-label")
    assert test.labels == (0, 2)
    assert "ids" in note


def test_a_model_without_names_takes_those_of_a_data_set_that_says_their_order() -> None:
    unnamed = ("LABEL_0", "LABEL_1")
    names, _, _ = match_labels(unnamed, dataset(("World", "Sports"), (0, 1), in_order=True), "single-label")
    assert names == ("World", "Sports")
    with pytest.raises(UserError, match=r"'Sports', 'World' are not among 'LABEL_0', 'LABEL_1'; put a labels.json"):
        match_labels(unnamed, dataset(("Sports", "World"), (0, 1)), "single-label")


def test_what_does_not_match_is_one_line() -> None:
    with pytest.raises(UserError, match=r"'Weather' is not among 'World', 'Sports'; rename them") as refusal:
        match_labels(("World", "Sports"), dataset(("Weather", "World"), (0, 1)), "single-label")
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="'2' are not among"):
        match_labels(("World", "Sports"), dataset(("1", "2"), (0, 1)), "single-label")


def test_nothing_to_match() -> None:
    assert match_labels(("a", "b"), dataset((), (None, None)), "single-label")[0] == ("a", "b")
    assert match_labels(("LABEL_0",), dataset(("stars",), (1.5,)), "regression")[0] == ("stars",)
    assert match_labels(("rating",), dataset(("stars",), (1.5,)), "regression")[0] == ("rating",)
