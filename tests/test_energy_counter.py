"""Energy as the kernel shows it: packages are added, nothing is counted twice, and a full counter starts anew."""

from pathlib import Path

import pytest

from deploycost.energy_counter import PackageCounter


def _domain(powercap: Path, name: str, microjoules: int, what: str = "package-0") -> Path:
    domain = powercap / name
    domain.mkdir(parents=True)
    (domain / "name").write_text(f"{what}\n")
    (domain / "energy_uj").write_text(f"{microjoules}\n")
    (domain / "max_energy_range_uj").write_text("1000000000\n")
    return domain


def test_packages_are_added_and_a_full_counter_starts_anew(tmp_path: Path) -> None:
    first, second = _domain(tmp_path, "intel-rapl:0", 5_000_000), _domain(tmp_path, "intel-rapl:1", 999_000_000)
    inside = _domain(tmp_path, "intel-rapl:0:0", 0, what="core")  # a part of package 0
    platform = _domain(tmp_path, "intel-rapl:2", 0, what="psys")  # all packages, and what is around them
    (tmp_path / "intel-rapl:3").mkdir()  # says nothing of itself
    counter = PackageCounter(tmp_path)
    (first / "energy_uj").write_text("8000000\n")
    # Full at 1000 J, and begun anew: 1 J to the end and 2 J since.
    (second / "energy_uj").write_text("2000000\n")
    for other in (inside, platform):
        (other / "energy_uj").write_text("500000000\n")
    assert counter.joules() == pytest.approx(3 + 3)
    assert counter.joules() == pytest.approx(6)


def test_where_there_is_no_package_there_is_no_counter(tmp_path: Path) -> None:
    _domain(tmp_path, "intel-rapl:0", 0, what="psys")
    with pytest.raises(FileNotFoundError, match="no processor package"):
        PackageCounter(tmp_path)
