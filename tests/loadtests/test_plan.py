"""Plans: all impossible values are told at once, and options that belong to others are passed over."""

import pytest

from loadtests.plan import ProbePlan, plan_from


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"mode must be one of open, closed.*rate_rps must be above 0.*drain_s"):
        ProbePlan(mode="half-open", rate_rps=0, drain_s=-1)


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_rps must be above 0, got nan"):
        ProbePlan(rate_rps=float("nan"))


def test_options_of_others_are_passed_over() -> None:
    assert plan_from({"rate_rps": 3.0, "headless": True}) == ProbePlan(rate_rps=3.0)
