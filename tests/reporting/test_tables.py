from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from deploycost.records import (
    Figure,
    LoadRecord,
    ProfileRecord,
    Quote,
    RankHistory,
    TrainingMemory,
    TuningRecord,
    Variant,
)
from deploycost.reporting.content import ReportContent
from deploycost.reporting.tables import (
    answer_panel,
    artifacts_table,
    load_curve_table,
    methods_table,
    quotes_table,
    render,
    returns_table,
    training_tables,
)
from deploycost.verdicts import QuoteSheet, Return

_LONG_NAME = "stacked-r128-p100.openvino-int8-accuracy-aware"


def _all_tables(content: ReportContent, width: int) -> list[str]:
    assert content.sheet
    load = content.variants[0].load
    assert load
    tables = (
        answer_panel(content.recommendation),
        methods_table(content.variants, content.sheet, width),
        artifacts_table(content.variants, width),
        load_curve_table(load, width),
        quotes_table(content.sheet, width, limit=None),
        returns_table(content.returns, width),
    )
    return [render(table, width) for table in tables]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(content: ReportContent, width: int) -> None:
    for text in _all_tables(content, width):
        assert max(cell_len(line) for line in text.splitlines()) <= width
        assert "…" not in text


def test_all_figures_are_whole_at_80_columns(content: ReportContent) -> None:
    methods, artifacts = _all_tables(content, 80)[1:3]
    # 1800 s are 30 min, 1.5e9 bytes 1.50 GB; the cheapest quote of `full`: 2 x $0.0846 x 730 h for 100 M requests.
    assert "full            89.20  89.10  89.30   89.20   30.0    1.50  0.00000124 a" in methods
    assert "  literature    88.25  88.17  88.31   88.25     46    7.45         0.030" in methods
    # At 70 % of 100 rps the next probe is that at 75: 8 / (1 - 0.675) = 24.6 ms; p95 1.25 times that.
    first, second = (line.split() for line in artifacts.splitlines()[4:6])
    assert first == ["full.onnx-fp32", "89.20", "99.42", "100", "m", "24.6", "150", "yes"]
    assert second == ["0.021", "91.0", "90.0-110", "30.8", "220"]


def test_lora_has_no_published_row(content: ReportContent) -> None:
    lines = _all_tables(content, 80)[1].splitlines()
    after_lora = next(i for i, line in enumerate(lines) if line.startswith("lora-r8")) + 1
    assert lines[after_lora].startswith("qlora-r8")


def test_quote_with_interval_marks_and_machines(
    quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    text = render(quotes_table(sheet_with(quote_with(certified=False))))
    first, second = (line.split() for line in text.splitlines()[4:6])
    assert first == ["full.onnx-fp32", "100", "a!", "0.278", "a", "14.6", "a", "146", "38.5", "a", "yes"]
    assert second == ["aws", "c7i.large", "90.0-110", "2", "yes"]
    assert "m measured, p projected, a assumed, ? unknown; ! load test not certified." in " ".join(text.split())


def test_hidden_quotes_are_counted(quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]) -> None:
    sheet = sheet_with(*[quote_with()] * 25)
    assert "5 more quotes are not shown" in render(quotes_table(sheet))
    assert "not shown" not in render(quotes_table(sheet, limit=None))
    assert render(quotes_table(sheet, limit=None)).count("aws c7i.large") == 25


def test_quotes_of_unknown_capacity_are_a_line_for_each_reason(
    quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    unknown = Figure(value=None, basis="assumed")

    def without(machine: str, reason: str, variant: str = "full.onnx-fp32") -> Quote:
        told = f"unknown: {reason}; run 'deploycost loadtest {variant}' on {machine}"
        return quote_with(variant, instance_type=machine, capacity_rps=unknown, capacity_reason=told)

    t4 = [without(f"g4dn.{n}xlarge", "T4 was not measured", v) for n in (1, 2, 4, 8) for v in ("a.onnx", "b.onnx")]
    sheet = sheet_with(quote_with(), without("c7g.large", "measured on x86_64"), *t4)
    text = " ".join(render(quotes_table(sheet)).split())
    assert "Quotes, cheapest of 1 first" in text
    assert (
        "8 quotes on 4 machines unknown: T4 was not measured (aws g4dn.1xlarge, aws g4dn.2xlarge, aws g4dn.4xlarge, "
        "…); 'deploycost quote --all' says how to measure them. "
        "1 quote on 1 machine unknown: measured on x86_64 (aws c7g.large)"
    ) in text
    whole = render(quotes_table(sheet, limit=None))
    assert whole.count("g4dn.") == 8
    assert "unknown:" not in whole


def test_reasons_beyond_a_handful_are_counted(
    quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    unknown = Figure(value=None, basis="assumed")
    quotes = [quote_with(capacity_rps=unknown, capacity_reason=f"unknown: GPU {n} was not measured") for n in range(9)]
    text = " ".join(render(quotes_table(sheet_with(*quotes))).split())
    assert text.startswith("Quotes: none")
    assert "GPU 5 was not measured" in text
    assert "GPU 6 was not measured" not in text
    assert "3 quotes unknown for 3 more reasons" in text


@pytest.mark.parametrize("width", [80, 120])
def test_training_tables_fit(
    width: int,
    tuning_with: Callable[..., TuningRecord],
    profile_with: Callable[..., ProfileRecord],
    ranks: RankHistory,
    memory: TrainingMemory,
) -> None:
    tunings = [
        tuning_with(method, predicted_memory=memory, energy_joules=1e6, energy_source="RAPL", ranks=ranks)
        for method in ("full", "lora", "stacked")
    ]
    profiles = [profile_with("full"), profile_with("lora"), profile_with("stacked", 30.0)]
    tables = training_tables(tunings, profiles, width)
    assert len(tables) == 1 + 3 + 4
    for table in tables:
        text = render(table, width)
        assert max(cell_len(line) for line in text.splitlines()) <= width
    first, second = (line.split() for line in render(tables[0], width).splitlines()[4:6])
    assert first == ["full", "40.0", "200", "1,431", "407", "22,698,460", "1,000"]
    assert second == ["30", "min", "00", "s", "2,120", "260", "370", "+10", "1,540"]
    assert training_tables([], [], width) == []


def test_places_that_differ_are_told_apart_at_80_columns(
    quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    sheet = sheet_with(quote_with(), quote_with(region="eu-central-1"), quote_with(purchase_option="spot"))
    lines = [line.split()[0] for line in render(quotes_table(sheet)).splitlines() if line.strip()]
    assert lines.count("us-east-1") == 2
    assert lines.count("eu-central-1") == 1
    assert lines.count("spot") == 1


def test_long_names_fold_and_figures_do_not(
    quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    text = render(quotes_table(sheet_with(quote_with(_LONG_NAME, cloud="azure", instance_type="Standard_NC4as_T4_v3"))))
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "0.278 a" in text
    parts = [line.split()[0] for line in text.splitlines()[4:9]]
    assert "".join(parts[:3]) == _LONG_NAME
    assert parts[3:] == ["azure", "Standard_NC4as_T4_v3"]


@pytest.mark.parametrize("name", ["[bold]x[/bold].onnx", "漢字" * 30, "a" * 200, ""])
def test_names_are_text_whatever_they_hold(
    name: str, quote_with: Callable[..., Quote], sheet_with: Callable[..., QuoteSheet]
) -> None:
    text = render(quotes_table(sheet_with(quote_with(name))))
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert name[:5] in text


def test_partial_records(
    content: ReportContent, variant_with: Callable[..., Variant], load_with: Callable[..., LoadRecord]
) -> None:
    alone = (variant_with("prompt", loaded=False, epochs=()),)
    assert "?" in render(artifacts_table(alone))
    row = next(line for line in render(methods_table(alone, None)).splitlines() if line.startswith("prompt-p20"))
    assert row.split()[-1] == "?"
    failed = load_with("full.onnx-fp32", certified=False, curve=())
    assert "NOT certified" in " ".join(render(load_curve_table(failed)).split())
    assert render(quotes_table(content.sheet.model_copy(update={"quotes": ()}))).startswith("Quotes: none")  # type: ignore[union-attr]
    assert render(returns_table(()))


def test_generated_data_is_told_beside_accuracy(content: ReportContent, variant_with: Callable[..., Variant]) -> None:
    warning = "accuracy says nothing about your task"
    assert warning in render(methods_table(content.variants, None))
    assert warning in render(artifacts_table(content.variants))
    assert warning not in render(artifacts_table((variant_with(),)))


def test_training_memory_is_that_of_the_gpu_where_there_was_one(variant_with: Callable[..., Variant]) -> None:
    text = render(methods_table((variant_with(peak_gpu_memory_bytes=2_500_000_000),), None))
    assert "2.50" in text
    assert "peak of the training GPU" in text


def test_returns_say_not_reached(return_with: Callable[..., Return], api_return: Return) -> None:
    lines = render(returns_table((return_with(), api_return))).splitlines()
    cells = {line[:26].strip(): line[26:].split() for line in lines}
    assert cells["payback, months"] == ["0.500", "not", "reached"]
    assert cells["saving, $/month"] == ["40.0", "a", "(0-73.0)", "-69.5", "a"]
    assert cells["never dearer above that"] == ["no", "?"]


def test_answer_names_price_interval_and_basis(content: ReportContent) -> None:
    text = " ".join(render(answer_panel(content.recommendation)).replace("│", "").split())
    assert "Deploy lora-r8.onnx-int8 on 2 x azure Standard_F2s_v2 (eastus, on-demand)" in text
    # 2 x $0.0846 x 730 h / 100; a third machine where capacity is at its low end.
    assert "$1.24 ($1.24 to $1.85, assumed) per million predictions, as planned" in text
    assert "either may be the cheaper" in text
    assert "Runner-up: full.onnx-int8" in text


def test_no_answer_has_its_reason() -> None:
    text = render(answer_panel(None, "none fits: 3 of 3 quotes are too slow"))
    assert "No recommendation" in text
    assert "3 of 3 quotes are too slow" in text


def test_tables_load_neither_plotting_nor_templates() -> None:
    program = "import sys, deploycost.reporting.tables; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
