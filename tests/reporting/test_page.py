from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deploycost.records import (
    AccuracyDrop,
    ExportRefusal,
    LoadRecord,
    ProfileRecord,
    Quote,
    RankHistory,
    TrainingMemory,
    Variant,
    read_record,
)
from deploycost.reporting import page
from deploycost.reporting.content import NO_QUOTES, ReportContent
from deploycost.reporting.page import report_html, report_markdown, write_report
from deploycost.verdicts import QuoteSheet

_VOID = {"meta", "br", "link", "img", "input", "hr"}
_ATTACK = "<script>alert(1)</script>|`*x*"


class _Outline(HTMLParser):
    """Checks that tags nest, and keeps what the tests ask about."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs] or [(tag, "", "")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _, _ in self.attributes}

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _parsed(html: str) -> _Outline:
    outline = _Outline()
    outline.feed(html)
    outline.close()
    assert outline.open == []
    return outline


@pytest.fixture(scope="module")
def html(content: ReportContent) -> str:
    return report_html(content)


def _headings(html: str) -> list[str]:
    return re.findall(r"<h[12][^>]*>(.*?)</h[12]>", html)


def test_answer_comes_first_and_each_part_in_its_order(html: str) -> None:
    assert _headings(html) == [
        "What a prediction costs",
        "Deploy lora-r8.onnx-int8 on 2 x azure Standard_F2s_v2 (eastus, on-demand)",
        "What it costs",
        "Methods",
        "Training",
        "Artifacts and latency",
        "Figures",
        "Return",
        "How each number was made",
        "Where it was measured",
        "To repeat it",
    ]


def test_page_stands_alone_and_can_be_heard(html: str) -> None:
    outline = _parsed(html)
    assert "script" not in outline.tags()
    assert not {"link", "img", "iframe"} & outline.tags()
    targets = [value for _, name, value in outline.attributes if name in ("href", "xlink:href", "src", "action")]
    assert all(target.startswith("#") for target in targets)
    assert set(re.findall(r"https?://[^\"' ]+", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in html
    assert ("html", "lang", "en") in outline.attributes
    assert html.count("<table>") == html.count("<caption>")
    assert html.count("<figure ") == html.count("<figcaption>") == 5
    ids = [value for _, name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_figures_worked_out_by_hand_are_there(html: str) -> None:
    text = _parsed(html).text()
    # 100 M requests in 730 h at 3 x the mean; 2 x $0.0846 x 730.
    assert "100,000,000 / 2,628,000 s x 3.00 114/s" in text
    assert "$123.52 ($123.52 to $185.27, assumed)" in text
    assert "$1.24 ($1.24 to $1.85, assumed) per million predictions" in text
    assert "88.25 88.17 88.31 88.25 46 7.45 0.030" in text
    assert "a factor of about 19" in text
    assert "price list of the provider" in text
    assert "2026-11-01" in text
    assert "deploycost run --model minilm --dataset demo" in text


def test_what_users_named_is_never_markup(
    content_with: Callable[..., ReportContent],
    quote_with: Callable[..., Quote],
    sheet_with: Callable[..., QuoteSheet],
    variant_with: Callable[..., Variant],
) -> None:
    variant = variant_with(slug=_ATTACK, dataset=_ATTACK)
    content = content_with(
        run_name=_ATTACK,
        variants=(variant,),
        sheet=sheet_with(quote_with(_ATTACK, price_source=_ATTACK), warnings=(_ATTACK,)),
        recommendation=None,
        no_recommendation_reason=_ATTACK,
        returns=(),
        dataset_note=_ATTACK,
        commands=(_ATTACK,),
        experiment={"model": _ATTACK},
    )
    html = report_html(content)
    assert "script" not in _parsed(html).tags()
    assert html.count("&lt;script&gt;alert(1)") >= 8
    table_rows = [line for line in report_markdown(content).splitlines() if line.startswith("| ") and "alert" in line]
    assert table_rows
    assert all("<script" not in row.replace(r"\<script", "") for row in table_rows)


def test_markdown_tables_have_as_many_cells_as_headers(content: ReportContent) -> None:
    text = report_markdown(content)
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 20
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert "\n\n\n" not in text


def test_generated_data_is_told_plainly(
    content: ReportContent, html: str, variant_with: Callable[..., Variant]
) -> None:
    warning = "Accuracy on generated data says nothing about your task"
    assert warning in html
    assert warning in report_markdown(content)
    real = content.model_copy(update={"variants": (variant_with(),), "sheet": None, "recommendation": None})
    assert warning not in report_html(real)


def test_failed_checks_of_every_variant_are_shown(content: ReportContent, load_with: Callable[..., LoadRecord]) -> None:
    first = content.variants[0]
    failed = first.model_copy(update={"load": load_with(first.name, certified=False)})
    text = _parsed(report_html(content.model_copy(update={"variants": (failed, *content.variants[1:])}))).text()
    assert "full.onnx-fp32 steal_ratio FAILED 0.120 0.0500" in text
    assert "lora-r8.onnx-int8 steal_ratio held" in text
    assert "qlora-r8.onnx-int8 steal_ratio" not in text


def test_refused_and_flagged_artifacts_are_named_with_figure_and_reason(content: ReportContent, tmp_path: Path) -> None:
    assert "Artifacts refused or flagged" not in _headings(report_html(content))
    # 9 of 1000 rows lost more than won: 0.9 points of accuracy, 0.2 to 1.6 by its interval, where 0.5 may be given up.
    drop = AccuracyDrop(value=0.009, low=0.002, high=0.016, lost_rows=12, won_rows=3, limit=0.005)
    first = content.variants[0]
    flagged = first.model_copy(update={"export": first.export.model_copy(update={"accuracy_drop": drop})})
    refusals = (
        ExportRefusal(
            fingerprint="f", model_fingerprint="m", variant="full.onnx-int8", artifact="onnx-int8",
            reason="refused full.onnx-int8: it gives up 4.00 points of accuracy; the trained model is kept",
            parity=first.export.parity,
            accuracy_drop=drop.model_copy(update={"value": 0.04, "low": 0.03, "high": 0.05}),
            finished_at="2026-11-22T10:05:00+00:00",
        ),
        ExportRefusal(
            fingerprint="f", model_fingerprint="m", variant="full.torch-nf4", artifact="torch-nf4",
            reason="refused full.torch-nf4: no graph", finished_at="2026-11-22T10:05:00+00:00",
        ),
    )  # fmt: skip
    told = content.model_copy(update={"variants": (flagged, *content.variants[1:]), "refusals": refusals})
    html = report_html(told)
    assert _headings(html).index("Artifacts refused or flagged") == _headings(html).index("Artifacts and latency") + 1
    text = _parsed(html).text()
    assert "full.onnx-int8 refused 4.00 3.00 to 5.00 0.5 99.42 0.021 it gives up 4.00 points" in text
    assert "full.torch-nf4 refused ? ? no graph" in text
    assert "full.onnx-fp32 flagged, kept 0.90 0.20 to 1.60 0.5 99.42 0.021 more than the limit seems" in text
    assert "| full.torch-nf4 | refused | ? |  |  | ? |  | no graph |" in report_markdown(told)
    write_report(told, tmp_path)
    assert read_record(tmp_path / "report.json", ReportContent) == told


@pytest.mark.parametrize("loaded", [True, False])
def test_partial_runs_make_a_page(
    loaded: bool, content_with: Callable[..., ReportContent], variant_with: Callable[..., Variant]
) -> None:
    for variants in ((), (variant_with("prompt", loaded=loaded, epochs=()),)):
        content = content_with(
            variants=variants, sheet=None, recommendation=None, returns=(), commands=(), dataset_note=""
        )
        assert NO_QUOTES in _parsed(report_html(content)).text()
        assert "No recommendation" in report_markdown(content)


def test_written_report_reads_back_and_repeats(content: ReportContent, tmp_path: Path) -> None:
    paths = write_report(content, tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json"]
    first = [path.read_bytes() for path in paths]
    again = read_record(tmp_path / "report.json", ReportContent)
    # Prices come back as the numbers they are written as.
    assert again.model_dump_json() == content.model_dump_json()
    assert json.loads(first[2])["recommendation"]["quote"]["usd_per_million"]["planned"]["basis"] == "assumed"
    write_report(again, tmp_path)
    assert [path.read_bytes() for path in paths] == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_an_earlier_report_survives_one_that_fails(
    content: ReportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.html", "report.md", "report.json"):
        (tmp_path / name).write_text("earlier")

    def fails(_: ReportContent) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(page, "report_markdown", fails)
    with pytest.raises(RuntimeError, match="broken"):
        write_report(content, tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"earlier"}


def test_training_with_ranks_and_profiles_is_on_the_page(
    content_with: Callable[..., ReportContent],
    variant_with: Callable[..., Variant],
    profile_with: Callable[..., ProfileRecord],
    ranks: RankHistory,
    memory: TrainingMemory,
) -> None:
    variant = variant_with("lora", ranks=ranks, predicted_memory=memory, resumed_at_steps=(120,))
    content = content_with(
        variants=(variant, variant_with("qlora")), profiles=(profile_with("lora"), profile_with("qlora", 35.0))
    )
    html = report_html(content)
    text = _parsed(html).text()
    for told in (
        "lora-r8 was stopped and went on from its checkpoint at step 120.",
        "Training, epoch by epoch",
        "Rank decisions of lora-r8",
        "20 1.query 0.00100 6 2 least",
        "A step of qlora-r8 takes 35.0 ms more than one of lora-r8: quantisation +35.0.",
        "Where a step of qlora-r8 goes",
    ):
        assert told in text
        assert told in report_markdown(content).replace(" | ", " ")
    assert html.count("<figure ") == 6
    assert 'id="figure-ranks-lora-r8"' in html
    targets = [value for _, name, value in _parsed(html).attributes if name in ("href", "xlink:href", "src")]
    assert all(target.startswith("#") for target in targets)


def test_quotes_without_capacity_are_folded_and_kept_in_the_record(content: ReportContent, tmp_path: Path) -> None:
    text = _parsed(report_html(content)).text()
    assert "10 quotes on 1 machine unknown: T4 was not measured (azure Standard_NC4as_T4_v3)" in text
    write_report(content, tmp_path)
    quotes = json.loads((tmp_path / "report.json").read_text())["sheet"]["quotes"]
    assert sum(quote["capacity_rps"]["value"] is None for quote in quotes) == 10
