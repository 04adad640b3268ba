from decimal import Decimal
from pathlib import Path

import pytest

from pricing.errors import PriceError
from pricing.owned import find_owned, load_owned
from pricing.table import DATA_FOLDER


def test_an_hour_by_hand() -> None:
    machine = find_owned("Desk-Server-32c")
    # 6000 x 0.9 / (4 x 8760) + 0.1461 x 0.146
    assert machine.hourly_usd() == Decimal(5400) / 35_040 + Decimal("0.0213306")
    assert machine.hourly_usd(Decimal(0)) == Decimal(5400) / 35_040 + Decimal("0.0473") * Decimal("0.146")
    assert machine.watts(Decimal("0.5")) == Decimal("96.7")


def test_an_unknown_machine_is_told() -> None:
    with pytest.raises(PriceError, match="did you mean 'raspberry-pi-5-8gb'"):
        find_owned("raspberry-pi-5")


def test_a_file_of_ones_own_and_its_mistakes(tmp_path: Path) -> None:
    header = (DATA_FOLDER / "owned.csv").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\nbox,,0,5,0,10,50,8,32,x86_64,0.3,1,5,an old box,2026-01-01,\n", encoding="utf-8")
    (machine,) = load_owned(path)
    # 0.05 kW x 0.3 + 5 x 12 / 8760
    assert machine.hourly_usd() == Decimal("0.015") + Decimal(60) / 8760

    path = tmp_path / "bad.csv"
    path.write_text(f"{header}\nbox,,-1,0,2,60,50,8.5,32,mips,0.3,0.9,5,,,\n", encoding="utf-8")
    with pytest.raises(PriceError) as caught:
        load_owned(path)
    for expected in (
        "purchase_usd '-1'", "years '0'", "residual_ratio 2 is above 1", "watts_load 50 is below watts_idle 60",
        "cores 8.5 is not whole", "architecture 'mips' is none of", "pue 0.9 is below 1", "source is empty", "as_of ''",
    ):  # fmt: skip
        assert expected in str(caught.value)


def test_the_shipped_examples() -> None:
    machines = load_owned()
    assert [machine.name for machine in machines] == ["raspberry-pi-5-8gb", "desk-server-32c"]
    for machine in machines:
        assert "assumed" in machine.note
        assert Decimal("0.001") < machine.hourly_usd() < 1
