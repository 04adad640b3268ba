import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycost.records import Figure
from deploycost.reporting.wording import interval, marked, number, percent_number, yes_no


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "?"),
        (0, "0"),
        (1234.4, "1,234"),
        (999.7, "1,000"),
        (94.06, "94.1"),
        (99.96, "100"),
        (0.61, "0.610"),
        (0.0000132, "0.0000132"),
        (-69.5, "-69.5"),
        (12_345_678, "12,345,678"),
    ],
)
def test_number_has_three_digits_that_matter(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_number_is_plain_and_within_half_a_unit_of_its_third_digit(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert math.isclose(float(text.replace(",", "")), value, rel_tol=0.00501)


@pytest.mark.parametrize(("basis", "text"), [("measured", "94.1 m"), ("projected", "94.1 p"), ("assumed", "94.1 a")])
def test_marked_names_the_basis_without_colour(basis: str, text: str) -> None:
    assert marked(Figure.model_validate({"value": 94.06, "basis": basis})) == text


def test_unknown_has_no_basis() -> None:
    assert marked(Figure(value=None, basis="assumed")) == "?"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=94.0, low=88.2, high=99.4), "88.2-99.4"),
        (Figure(value=1.0, low=-3.0, high=5.0), "-3.00 to 5.00"),
        (Figure(value=146.0, low=146.0, high=146.0), ""),
        (Figure(value=94.0), ""),
        (Figure(value=None, low=1.0, high=2.0), ""),
    ],
)
def test_interval(figure: Figure, text: str) -> None:
    assert interval(figure) == text


def test_ratios_and_answers() -> None:
    assert (percent_number(0.8921), percent_number(0.8921, 2), percent_number(None)) == ("89.2", "89.21", "?")
    assert [yes_no(answer) for answer in (True, False, None)] == ["yes", "no", "?"]
