"""Counters of energy as the kernel shows them, and power by assumption."""

from pathlib import Path

import pytest

from deploycost.benchmarking.meters import PackageMeter, assumed_power, measured_power, package_meter
from deploycost.records import Figure


def domain(folder: Path, name: str, microjoules: int) -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "max_energy_range_uj").write_text("1000000000")
    (place / "energy_uj").write_text(str(microjoules))
    return place


def test_packages_add_up_and_their_memory_is_not_counted_twice(tmp_path: Path) -> None:
    first, second = domain(tmp_path, "intel-rapl:0", 5_000_000), domain(tmp_path, "intel-rapl:1", 999_000_000)
    inside = domain(tmp_path, "intel-rapl:0:0", 0)
    meter = package_meter(tmp_path)
    assert isinstance(meter, PackageMeter)
    (first / "energy_uj").write_text("8000000")
    # Full at 1000 J, and begun anew: 1 J to the end and 2 J since.
    (second / "energy_uj").write_text("2000000")
    (inside / "energy_uj").write_text("500000000")
    assert meter.joules() == pytest.approx(3 + 3)
    assert meter.joules() == pytest.approx(6)


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert package_meter(tmp_path / "nowhere") is None
    (domain(tmp_path, "intel-rapl:0", 0) / "energy_uj").unlink()
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
