import csv

import pytest

from deploycost.errors import UserError
from deploycost.projecting.hardware import DATA_FOLDER, devices, find_place


@pytest.mark.parametrize(
    ("name", "device", "sockets", "cores"),
    [
        ("T4", "T4", 1, None),
        ("Tesla T4", "T4", 1, None),
        ("NVIDIA L4", "L4", 1, None),
        ("L40S-48GB", "L40S", 1, None),
        ("A100-SXM4-80GB", "A100-80GB-SXM", 1, None),
        ("A100 PCIe 80GB", "A100-80GB-PCIe", 1, None),
        ("A10", "A10", 1, None),
        ("A10G", "A10G", 1, None),
        ("V100-SXM3-32GB (DGX-2)", "V100-SXM2", 1, None),
        ("Inferentia2 (1 chip, 2 NeuronCore-v2)", "Inferentia2 (per chip)", 1, None),
        ("Xeon Platinum 8380 x2 (Ice Lake)", "Xeon Platinum 8380", 2, 80),
        ("2x Xeon Platinum 8380", "Xeon Platinum 8380", 2, 80),
        ("Intel Core i9-13900K", "Core i9-13900K", 1, 24),
        ("EPYC Genoa 9R14", "EPYC Genoa 9R14 (AWS c7a/m7a)", 1, 96),
    ],
)
def test_names_that_people_use(name: str, device: str, sockets: int, cores: int | None) -> None:
    place = find_place(name)
    assert (place.device.name, place.sockets, place.cores) == (device, sockets, cores)


def test_an_unknown_device_is_told_with_its_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown hardware 'T5' \(did you mean 'T4'\?\).*--list-hardware"):
        find_place("T5")


def test_rates_by_hand() -> None:
    t4 = find_place("T4")
    assert (t4.rate("fp16"), t4.rate("int8"), t4.bytes_per_s) == (65e12, 130e12, 320e9)
    assert t4.rate("tf32") == t4.rate("fp32") == 8.1e12  # it has no unit for tf32
    two = find_place("Xeon Platinum 8380 x2")
    assert two.rate("fp32") == pytest.approx(2 * 40 * 2.6e9 * 64, rel=1e-3)


def test_shipped_hardware_row_by_row() -> None:
    with (DATA_FOLDER / "hardware.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 107
    assert len({row["name"] for row in rows}) == 107
    for row in rows:
        assert row["source"], row["name"]
        assert row["confidence"] in ("sourced", "derived", "memory", "mixed"), row["name"]
    for name, device in devices().items():
        assert find_place(name).device.name == name
        assert 0 < device.rate("fp32") <= device.rate("fp16") <= device.rate("int8"), name
        assert 20e9 < device.bytes_per_s < 1e13, name
        assert (device.cores > 0) == (device.kind == "cpu"), name
