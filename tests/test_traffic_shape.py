from pathlib import Path

import pytest

from deploycost.errors import UserError
from deploycost.traffic_shape import DAYS, HOURS_PER_WEEK, PRESETS, week_shape

ROW = ",".join(str(hour) for hour in range(24))


def refusal(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        week_shape(str(path))
    told = str(refused.value)
    assert "\n" not in told
    return told


def test_presets_are_the_documented_shapes() -> None:
    assert set(week_shape("flat")) == {1.0}
    business = week_shape("business-hours")
    assert len(business) == HOURS_PER_WEEK
    assert business[:24] == (1.0,) * 7 + (4.0,) * 2 + (10.0,) * 8 + (4.0,) * 3 + (1.0,) * 4
    assert set(business[5 * 24 :]) == {1.0}
    spiky = week_shape("spiky")
    assert (spiky[9], spiky[24 + 9], spiky[12], spiky[6 * 24 + 18]) == (24.0, 1.0, 8.0, 8.0)
    assert sum(spiky) == HOURS_PER_WEEK + 23 + 14 * 7


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("days.csv", "\n".join([ROW] * 7)),
        ("headed.csv", "day," + ROW.replace("0,", "h,", 1).replace(",", ",h") + "\n" + "\n".join([ROW] * 7)),
        ("named.csv", "\n".join(f"{day.capitalize()},{ROW}" for day in DAYS)),
        ("lines.csv", "weight\n" + "\n".join(ROW.split(",") * 7) + "\n"),
        ("list.yaml", f"[{','.join([ROW] * 7)}]"),
        ("lists.yml", f"[{','.join([f'[{ROW}]'] * 7)}]"),
        ("days.yaml", "\n".join(f"{day}: [{ROW}]" for day in reversed(DAYS))),
    ],
)
def test_a_file_in_each_form(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert week_shape(str(path)) == tuple(float(hour) for hour in range(24)) * 7


@pytest.mark.parametrize(
    ("name", "line", "end"),
    [
        ("sunday.csv", "{day},{hours}", "\n"),
        ("hours.csv", "{day},{hour}", "\n"),
        ("sunday.yaml", "{day}: [{hours}]", "\n"),
    ],
)
def test_days_are_where_their_names_put_them(tmp_path: Path, name: str, line: str, end: str) -> None:
    # Sunday first, as calendars have it. Each day's weights are its number, from Monday, 1, on.
    path = tmp_path / name
    order = (*DAYS[-1:], *DAYS[:-1])
    lines = [
        line.format(day=day[:3], hours=",".join([str(DAYS.index(day) + 1)] * 24), hour=DAYS.index(day) + 1)
        for day in order
        for _ in range(24 if "{hour}" in line else 1)
    ]
    path.write_text(end.join(lines), encoding="utf-8")
    assert week_shape(str(path)) == tuple(float(day + 1) for day in range(7) for _ in range(24))


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    told = refusal(path, "\n".join(["nan", "-1", "many", "inf", *["1"] * 163]))
    for part in ("line 1: 'nan' is not finite", "line 2: '-1' is negative", "line 3: 'many' is not a number",
                 "line 4: 'inf' is not finite", "167 hours, expected 168"):  # fmt: skip
        assert part in told


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("w.csv", "\n".join(["1"] * 167), "167 hours, expected 168"),
        ("w.csv", "\n".join(["0"] * 168), "zero in every hour"),
        ("w.csv", "", "0 hours"),
        ("w.csv", "\n".join(["nan"] * 168), "and 156 more"),
        ("w.yaml", "{mon: [1], funday: [1]}", "day 'funday' is none of monday,"),
        ("w.yaml", "\n".join(f"{day}: [{ROW}]" for day in (*DAYS, "mon")), "monday: 48 hours, expected 24"),
        ("w.yaml", "\n".join(f"{day}: [{ROW}]" for day in (*DAYS, "monday")), "monday: 48 hours, expected 24"),
        ("w.yaml", "\n".join(f"{day}: [{ROW}]" for day in DAYS).replace("23", "x", 1), "monday hour 23: 'x' is not a"),
        (
            "w.csv",
            "\n".join(f"{day},{ROW}" for day in (*DAYS[:6], "sat")),
            "saturday: 48 hours, expected 24; sunday: 0",
        ),
        (
            "w.csv",
            "\n".join([*(f"{day},{ROW}" for day in DAYS[:6]), ROW]),
            "line 7: names no day, as others do; sunday",
        ),
        ("w.yaml", "[1, 2", "cannot be read"),
        ("w.yaml", f"[{','.join(['true'] * 168)}]", "hour 0: True is not a number"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, name: str, text: str, part: str) -> None:
    assert part in refusal(tmp_path / name, text)


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(UserError, match=r"did you mean 'business-hours'\?"):
        week_shape("bussiness-hours")
    with pytest.raises(UserError, match=r"cannot read traffic profile missing\.csv"):
        week_shape("missing.csv")
    assert sorted(PRESETS) == ["business-hours", "flat", "spiky"]
