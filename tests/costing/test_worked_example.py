"""The numbers of docs/quotes.md, worked out anew by the code."""

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from deploycost.costing.fleet import floor_usd_per_million
from deploycost.costing.hourly import HourlyFleet, Purchase, plan_hours
from deploycost.traffic_shape import week_shape
from deploycost.verdicts import Policy, Traffic

PAGE = Path(__file__).parents[2] / "docs" / "quotes.md"
MONTH = 262_800_000
TRAFFIC = Traffic(requests_per_month=MONTH, hourly_weights=((1.0,) * 12 + (3.0,) * 12) * 7)


def fleet(peak: Purchase, base: Purchase | None = None, **policy: object) -> HourlyFleet:
    return plan_hours(100.0, TRAFFIC, Policy.model_validate(policy), peak, base)


def figures() -> dict[str, float]:
    section = PAGE.read_text(encoding="utf-8").partition("## A week worked by hand")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \|$", section, flags=re.MULTILINE)
    return {step: float(value) for step, value in rows}


def test_the_page_says_what_the_code_does() -> None:
    hired, by_second = Purchase(Decimal("0.1")), Purchase(Decimal("0.1"), 1, 60)
    scaled = fleet(hired, autoscale=True)
    early = fleet(by_second, autoscale=True, cold_start_s=180)
    mixed = fleet(
        Purchase(Decimal("0.03"), 1, 60, interruption_ratio=Fraction(1, 5)),
        Purchase(Decimal("0.06"), always_on=True),
        autoscale=True,
    )
    quiet, busy = scaled.schedule(MONTH).by_hour[0], scaled.schedule(MONTH).by_hour[12]
    hours = 730 * 3600
    worked = {
        "rate in a quiet hour, per second": MONTH * 1 / 2 / hours,
        "rate in a busy hour, per second": MONTH * 3 / 2 / hours,
        "machines in a quiet hour, with one spare, at 70 % load": quiet,
        "machines in a busy hour": busy,
        "autoscaled: fleet hours a month": sum(scaled.billed_hours(MONTH)),
        "autoscaled: USD a month": scaled.monthly_usd(MONTH),
        "autoscaled: planned USD per million": scaled.monthly_usd(MONTH) / MONTH * 1_000_000,
        "not autoscaled: USD a month": fleet(hired).monthly_usd(MONTH),
        "floor: USD per million": floor_usd_per_million(100.0, Decimal("0.1")),
        "autoscaled, 180 s cold start, billed by the second: fleet hours a month": sum(early.billed_hours(MONTH)),
        "base reserved at 0.06, rest spot at 0.03 with a fifth away: USD a month": mixed.monthly_usd(MONTH),
    }
    told = figures()
    assert told.keys() == worked.keys()
    for step, value in worked.items():
        assert told[step] == pytest.approx(float(value), rel=1e-4), step


def test_the_page_describes_the_presets() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "weight 10 from 9 to 17 h on weekdays, 4 in the two hours before and the three after, else 1" in text
    assert week_shape("business-hours")[7:20] == (4.0,) * 2 + (10.0,) * 8 + (4.0,) * 3
    assert "`spiky` has weight 1, but 8 at 12 and 18 h each day and 24 on Monday at 9 h" in text
