"""What is told beside a load curve."""

from collections.abc import Callable

from deploycost.records import Figure, LoadRecord, Miss, PowerUse, ServerSettings, SoakRecord, TriedSettings
from deploycost.reporting import load_grids
from deploycost.reporting.tables import load_curve_table, render, settings_table, soak_table


def test_the_curve_is_drawn_within_a_narrow_terminal(make_load: Callable[..., LoadRecord]) -> None:
    load = make_load(capacity=100.0, low=90.0, high=110.0)
    head, bars, marks = load_grids.line(load)
    assert "p95 from 50" in head
    assert len(bars) <= 60
    # 20, 40, 90 and 400 ms of 100: an eighth of the height for each seventh of the limit.
    assert bars.split() == ["▂", "▃", "▇", "█"]
    # The capacity is above the probe at 100/s, and its interval about it.
    assert bars.index("▇") == marks.index("┴")
    assert marks.strip("─") != marks
    assert "┴" in marks.strip(" ─")
    assert all(len(line) <= 80 for line in render(load_curve_table(load)).splitlines())


def test_one_rate_is_no_curve(make_load: Callable[..., LoadRecord]) -> None:
    load = make_load()
    assert load_grids.line(load.model_copy(update={"curve": load.curve[:1]})) == ()


def test_facts_say_what_is_known(make_load: Callable[..., LoadRecord]) -> None:
    power = PowerUse(
        watts=Figure(value=7.3, basis="assumed"),
        joules_per_request=Figure(value=0.1, basis="assumed"),
        source="assumed: x",
    )
    told = load_grids.facts(make_load(first_answer_s=1.5, saturation_rps=120, core_cpu_ratios=(0.9, 0.2), power=power))
    text = " ".join(told)
    for part in ("Ready after 1.0 s, first answer after 1.5 s.", "drew 120 rps", "90 %, 20 %", "assumed: x"):
        assert part in text


def test_settings_and_soaks_fit_a_narrow_terminal(make_load: Callable[..., LoadRecord]) -> None:
    load = make_load()
    tried = tuple(
        TriedSettings(
            settings=ServerSettings(max_batch=most), saturation_rps=200, rounds=2, p95_ms=50,
            capacity_rps=Figure(value=150, low=140, high=160) if most == 8 else None,
        )
        for most in (8, 32)
    )  # fmt: skip
    shown = render(settings_table(load.model_copy(update={"tried": tried, "server": ServerSettings()})))
    assert "140" in shown
    miss = Miss(objective="p95", missed=30, requests=1000, allowed_ratio=0.05, design_effect=20)
    point = load.curve[0].model_copy(update={"misses": (miss,)})
    record = SoakRecord(
        variant=load.variant, slo=load.slo, rate_rps=70, rate_reason="70 % of 100/s", point=point,
        missed_ratios={"p95": Figure(value=0.03, low=0.005, high=0.15)}, held=True, surely=False, server=None,
        dispatch_p99_ms=1.0, calibration_drift_ratio=0.01, environment=load.environment, finished_at=load.finished_at,
    )  # fmt: skip
    held = render(soak_table([record]))
    assert "held, but too few independent requests" in " ".join(held.split())
    assert all(len(line) <= 80 for text in (shown, held) for line in text.splitlines())
