from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

from deploycost.records import RankHistory, Variant
from deploycost.reporting.content import ReportContent
from deploycost.reporting.figures import Picture, pictures
from deploycost.reporting.heat_map import thinned
from deploycost.reporting.rank_grids import RankMap


def _drawn(content: ReportContent) -> Picture:
    return next(picture for picture in pictures(content) if picture.name.startswith("ranks-"))


def _texts(picture: Picture) -> list[str]:
    return [text.text or "" for text in ET.fromstring(picture.svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_rank_is_told_in_figures(
    content_with: Callable[..., ReportContent], variant_with: Callable[..., Variant], ranks: RankHistory
) -> None:
    picture = _drawn(content_with(variants=(variant_with("lora", ranks=ranks),)))
    texts = _texts(picture)
    assert {"0.query", "0.value", "1.query", "10", "20", "rank", "matrix"} <= set(texts)
    # Nine cells: 6 4 5, 6 6 6, 6 6 2; the axes have no 4 or 5 of their own but the scale of ranks may.
    assert texts.count("6") >= 6
    assert picture.alt.endswith("0.query 6 to 5; 0.value 6 to 6; 1.query 6 to 2.")
    assert "<image" not in picture.svg


def test_methods_without_decided_ranks_have_no_map(content: ReportContent) -> None:
    assert not [picture for picture in pictures(content) if picture.name.startswith("ranks-")]


def test_a_long_history_is_thinned_and_keeps_both_ends() -> None:
    steps = tuple(range(0, 1000, 5))
    shown = thinned(RankMap(("a",), steps, (tuple(range(200)),)), columns=48)
    assert len(shown.steps) == len(shown.ranks[0]) == 48
    assert (shown.steps[0], shown.steps[-1]) == (0, 995)
    assert shown.ranks[0] == tuple(step // 5 for step in shown.steps)
