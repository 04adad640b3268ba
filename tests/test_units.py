"""Quantities as people read them."""

from decimal import Decimal

import pytest

from deploycost.units import bytes_text, milliseconds, percent, rate, seconds_text, usd


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (Decimal("0.0042"), "$0.0042"),
        (0.5, "$0.5"),
        (0.12345, "$0.123"),
        (1, "$1.00"),
        (12.3, "$12.30"),
        (999.994, "$999.99"),
        (1234, "$1,234"),
        (1234567.8, "$1,234,568"),
    ],
)
def test_usd(amount: Decimal | float | None, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (812 * 1024, "812 KiB"),
        (1000 * 1024, "1000 KiB"),
        (24_012_390, "22.9 MiB"),
        (1.34 * 1024**3, "1.34 GiB"),
        (1500 * 1024**3, "1500 GiB"),
    ],
)
def test_bytes(count: float | None, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0, "0 ms"),
        (0.84, "840 ms"),
        (1, "1.0 s"),
        (12.34, "12.3 s"),
        (60, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "digits", "text"),
    [(None, 1, "unknown"), (0, 1, "0.0 %"), (0.892, 1, "89.2 %"), (0.8915, 2, "89.15 %"), (1, 0, "100 %")],
)
def test_percent(ratio: float | None, digits: int, text: str) -> None:
    assert percent(ratio, digits) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (4.123, "4.12 ms"), (412.3, "412 ms"), (999.7, "1,000 ms"), (3330, "3,330 ms")],
)
def test_milliseconds(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unknown"), (0, "0/s"), (94.12, "94.1/s"), (999.7, "1,000/s"), (12345.6, "12,346/s")]
)
def test_rate(value: float | None, text: str) -> None:
    assert rate(value) == text
