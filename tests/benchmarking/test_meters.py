"""The machine's meters where there are any, and power by assumption."""

from pathlib import Path

import pytest

from deploycost.benchmarking.meters import assumed_power, measured_power, package_meter
from deploycost.records import Figure


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert package_meter(tmp_path / "nowhere") is None
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "1000000"), ("energy_uj", "5")):
        (domain / name).write_text(text)
    meter = package_meter(tmp_path)
    assert meter is not None
    assert meter.joules() == 0
    (domain / "energy_uj").unlink()
    assert package_meter(tmp_path) is None


def test_power_by_assumption_is_labelled_and_has_a_range() -> None:
    known = assumed_power("Intel(R) Xeon(R) Platinum 8488C", cores_in_use=2, answers_per_s=100)
    assert known.watts.value == pytest.approx(14.6)
    assert known.joules_per_request.value == pytest.approx(0.146)
    assert (known.watts.low, known.watts.high) == (pytest.approx(7.6), pytest.approx(20))
    assert known.watts.basis == known.joules_per_request.basis == "assumed"
    assert known.source.startswith("assumed: 2.00 cores in use at 7.3 W each")
    assert assumed_power("unheard of", 1, 10).watts.value == pytest.approx(7.3)
    assert assumed_power("unheard of", 1, 0).joules_per_request.value is None


def test_power_by_a_counter_is_measured() -> None:
    told = measured_power(30, "RAPL, processor packages", 100)
    assert (told.watts.value, told.watts.basis, told.joules_per_request.value) == (30, "measured", 0.3)
    assert told.idle_watts is None
    assert measured_power(30, "RAPL, processor packages", 100, 9).idle_watts == Figure(value=9)
