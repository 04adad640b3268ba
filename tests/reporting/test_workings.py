from __future__ import annotations

from collections.abc import Callable

from deploycost.records import Quote
from deploycost.reporting.content import ReportContent
from deploycost.reporting.workings import assumptions, workings
from deploycost.verdicts import QuoteSheet, Recommendation


def test_each_line_follows_from_those_before_it(
    content_with: Callable[..., ReportContent],
    quote_with: Callable[..., Quote],
    sheet_with: Callable[..., QuoteSheet],
) -> None:
    quote = quote_with()
    recommendation = Recommendation(quote=quote, reason="cheapest", runner_ups=(), distinguishable=None)
    content = content_with(sheet=sheet_with(quote), recommendation=recommendation, returns=())
    told = {working.name: (working.numbers, working.result) for working in workings(content)}
    assert told["peak rate"] == ("10,000,000 / 2,628,000 s x 3.00", "11.4/s")
    assert told["machines"] == ("11.4 / (100 x 0.7) rounded up, + 1", "2")
    assert told["monthly bill"] == ("2 x $0.1 x 730", "$146.00 ($146.00 to $146.00, assumed)")
    assert told["planned price per million"][0] == "$146.00 / 10,000,000 x 1,000,000"
    assert told["planned price per million"][1].startswith("$14.60 ")
    assert told["floor per million"] == ("1,000,000 x $0.1 / (3,600 x 100)", "$0.278 ($0.253 to $0.309, assumed)")
    assert told["planned price per million correct"][0] == "$14.60 / 0.892"
    assert told["p95 latency at the planned load"][0] == "0.7 x 100 requests per second"


def test_assumptions_are_told_once(content: ReportContent) -> None:
    told = assumptions(content)
    assert len(told) == len(set(told))
    assert "c7i.large: assumed from 1 measured core of Example CPU 9000" in told
    assert "not verified: the accuracy of gpt-5-nano on this task" in told
    assert not any("NC4as" in line for line in told), "an unknown capacity rests on no assumption"


def test_nothing_recommended_has_no_workings(content_with: Callable[..., ReportContent]) -> None:
    assert workings(content_with(recommendation=None)) == ()
    assert workings(content_with(sheet=None, recommendation=None)) == ()
