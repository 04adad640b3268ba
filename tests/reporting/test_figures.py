from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest

from deploycost.records import Figure, LoadRecord, Quote, UsdPerMillion, Variant
from deploycost.reporting.content import ReportContent
from deploycost.reporting.figures import Picture, pictures
from deploycost.verdicts import QuoteSheet

_NAMES = ["cost", "latency", "memory", "epochs", "training"]


def _texts(picture: Picture) -> list[str]:
    return [text.text or "" for text in ET.fromstring(picture.svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def shown(content: ReportContent) -> dict[str, Picture]:
    return {picture.name: picture for picture in pictures(content)}


def test_all_figures_with_units_on_their_axes(shown: dict[str, Picture]) -> None:
    assert list(shown) == _NAMES
    axes = {
        "cost": "planned cost, USD per million predictions",
        "latency": "arrival rate, requests per second",
        "memory": "server memory, MiB: idle / at capacity / peak",
        "epochs": "accuracy on the test split, %",
        "training": "training time, min",
    }
    assert all(label in _texts(shown[name]) for name, label in axes.items())
    assert "latency, ms" in _texts(shown["latency"])


def test_figures_hold_the_numbers_of_the_records(shown: dict[str, Picture]) -> None:
    assert _texts(shown["memory"]).count("150 / 200 / 220") == 10
    assert {"30 min 00 s", "18 min 20 s"} <= set(_texts(shown["training"]))
    assert {"1", "2", "3", "4", "5", "stacked-r8-p20"} <= set(_texts(shown["epochs"]))
    assert "6" not in _texts(shown["epochs"]), "no epoch that was not trained"
    assert "full.onnx-int8 ($1.24, 89.3 %)" in shown["cost"].alt
    assert "4 more variants" in shown["latency"].caption


def test_latency_panels_begin_with_the_choice(shown: dict[str, Picture]) -> None:
    titles = [text for text in _texts(shown["latency"]) if ".onnx" in text]
    assert titles[0] == "lora-r8.onnx-int8"
    assert len(titles) == 6


def test_same_records_same_bytes(content: ReportContent, shown: dict[str, Picture]) -> None:
    again = {picture.name: picture for picture in pictures(content)}
    assert again == shown


def test_figures_suit_a_page(shown: dict[str, Picture]) -> None:
    ids = [found for picture in shown.values() for found in re.findall(r'\bid="([^"]+)"', picture.svg)]
    assert len(ids) == len(set(ids))
    for picture in shown.values():
        known = set(re.findall(r'\bid="([^"]+)"', picture.svg))
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', picture.svg)) <= known
        assert "<style" not in picture.svg
        assert "<metadata" not in picture.svg
        assert "currentColor" in picture.svg
        assert "#000000" not in picture.svg


def _one_variant(variant: Variant, **changes: object) -> dict[str, object]:
    return {"variants": (variant,), "sheet": None, "recommendation": None, "returns": (), **changes}


def test_without_load_tests_or_quotes(
    content_with: Callable[..., ReportContent], variant_with: Callable[..., Variant]
) -> None:
    content = content_with(**_one_variant(variant_with(loaded=False)))
    assert [picture.name for picture in pictures(content)] == ["memory", "epochs", "training"]
    content = content_with(**_one_variant(variant_with(loaded=False, epochs=(), training_s=61.0)))
    shown = {picture.name: picture for picture in pictures(content)}
    assert list(shown) == ["memory", "training"]
    assert "training time, s" in _texts(shown["training"])


def test_without_anything(content_with: Callable[..., ReportContent]) -> None:
    assert pictures(content_with(variants=(), sheet=None, recommendation=None, returns=())) == ()


def test_unknown_percentiles_and_capacity(
    content_with: Callable[..., ReportContent],
    variant_with: Callable[..., Variant],
    load_with: Callable[..., LoadRecord],
) -> None:
    load = load_with("full.onnx-fp32", certified=False)
    curve = tuple(point.model_copy(update={"p50_ms": None, "p95_ms": None}) for point in load.curve)
    load = load.model_copy(update={"curve": curve, "capacity_rps": Figure(value=None)})
    content = content_with(**_one_variant(variant_with().model_copy(update={"load": load})))
    shown = {picture.name: picture for picture in pictures(content)}
    assert "full.onnx-fp32 (not certified)" in _texts(shown["latency"])


def test_names_with_markup_and_dollars_stay_text(
    content_with: Callable[..., ReportContent],
    quote_with: Callable[..., Quote],
    sheet_with: Callable[..., QuoteSheet],
) -> None:
    name = "<script>$x_1$.a&b"
    content = content_with(variants=(), sheet=sheet_with(quote_with(name)), recommendation=None, returns=())
    (cost,) = pictures(content)
    assert name in _texts(cost)
    assert "<script" not in cost.svg


def test_prices_far_apart_are_drawn_on_a_logarithmic_axis(
    content_with: Callable[..., ReportContent],
    quote_with: Callable[..., Quote],
    sheet_with: Callable[..., QuoteSheet],
) -> None:
    def priced(name: str, usd: float) -> Quote:
        figure = Figure(value=usd)
        return quote_with(name, usd_per_million=UsdPerMillion(floor=figure, planned=figure, per_correct=figure))

    sheet = sheet_with(priced("a.onnx", 0.1), priced("b.onnx", 10.0))
    (cost,) = pictures(content_with(variants=(), sheet=sheet, recommendation=None, returns=()))
    assert {"$0.100", "$1.00", "$10.0"} <= set(_texts(cost))
