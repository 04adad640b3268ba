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
        ("Core i9-13900K (24 cores)", "Core i9-13900K", 1, 24),
        ("4xA100", "A100-40GB-SXM", 4, None),
        ("A100x4", "A100-40GB-SXM", 4, None),
        ("T4 × 4", "T4", 4, None),
        ("8 H100s", "H100-SXM", 8, None),
        ("NVIDIA DGX A100 (8x A100-80GB)", "A100-80GB-SXM", 8, None),
        ("RTX4090x2", "RTX 4090", 2, None),
        ("RTX2080Ti", "RTX 2080 Ti", 1, None),
        ("A100 (single GPU)", "A100-40GB-SXM", 1, None),
        ("Xeon 8380 (dual socket)", "Xeon Platinum 8380", 2, 80),
        ("dual Xeon 8380", "Xeon Platinum 8380", 2, 80),
        ("2 x 40-core Xeon Platinum 8380", "Xeon Platinum 8380", 2, 80),
        ("Xeon 8380 2x40 cores", "Xeon Platinum 8380", 2, 80),
        ("Xeon 8380, 2 sockets", "Xeon Platinum 8380", 2, 80),
        ("Apple M1 Max", "Apple M1 Max", 1, None),
        ("RTX 3090 GPU", "RTX 3090", 1, None),
        ("Intel(R) Xeon(R) Platinum 8380 Processor", "Xeon Platinum 8380", 1, 40),
        ("Graviton 3 processor", "Graviton3 (c7g)", 1, 64),
        ("AMD EPYC 9R14 96-Core Processor", "EPYC Genoa 9R14 (AWS c7a/m7a)", 1, 96),
        ("EPYC Genoa 9R14", "EPYC Genoa 9R14 (AWS c7a/m7a)", 1, 96),
    ],
)
def test_names_that_people_use(name: str, device: str, sockets: int, cores: int | None) -> None:
    place = find_place(name)
    assert (place.device.name, place.sockets, place.cores) == (device, sockets, cores)


@pytest.mark.parametrize(
    ("name", "device", "sockets", "cores"),
    [
        ("c7i.large", "Xeon Sapphire Rapids 8488C (AWS c7i/m7i)", 1, 1),
        ("AWS c6i.xlarge", "Xeon Ice Lake 8375C (AWS c6i/m6i)", 1, 2),
        ("c7a.large", "EPYC Genoa 9R14 (AWS c7a/m7a)", 1, 2),  # whose vCPUs are cores
        ("EPYC Milan (c6a.4xlarge)", "EPYC Milan 7R13 (AWS c6a/m6a), 7B13 (GCP t2d/n2d)", 1, 8),
        ("r6i.2xlarge", "Xeon Ice Lake 8375C (AWS c6i/m6i)", 1, 4),  # in no price book: by its size
        ("c6a.48xlarge", "EPYC Milan 7R13 (AWS c6a/m6a), 7B13 (GCP t2d/n2d)", 2, 96),
        ("n2-standard-8", "Xeon Cascade Lake (GCP c2 / n2)", 1, 4),
        ("Standard_D4s_v5", "Xeon Ice Lake 8375C (AWS c6i/m6i)", 1, 2),
        ("g4dn.12xlarge", "T4", 4, None),
        ("T4 (g4dn.12xlarge)", "T4", 1, None),
        ("inf2.24xlarge", "Inferentia2 (per chip)", 6, None),
        ("gpu_8x_a100", "A100-40GB-SXM", 8, None),
        ("2x g4dn.xlarge", "T4", 2, None),
    ],
)
def test_instances_are_as_large_as_the_price_book_says(name: str, device: str, sockets: int, cores: int | None) -> None:
    place = find_place(name)
    assert (place.device.name, place.sockets, place.cores) == (device, sockets, cores)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("T4 x0", "is 0 chips"),
        ("0x T4", "is 0 chips"),
        ("100x T4", "is 100 chips"),
        ("8x A100 (1 GPU)", "tells 1 and 8 chips"),
        ("A100 MIG 1g.5gb", "a share of a chip"),
        ("0.5x A10", "a share of a chip"),
        ("g6f.large", "has a share of a L4"),
        ("Apple M2 Max", "unknown hardware 'Apple M2 Max'"),
        ("RTX 3090 Ti", "unknown hardware 'RTX 3090 Ti'"),
        ("2x c7i.large", "is 2 machines"),
        ("c6i.0xlarge", "unknown instance type 'c6i.0xlarge'"),
        (f"c6i.{'9' * 5000}xlarge", "unknown instance type"),
        ("q9.medium", "unknown instance type 'q9.medium'"),
        ("m5.large", "Xeon Skylake/Cascade Lake"),  # either of two
    ],
)
def test_what_is_no_whole_known_chip_is_refused(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        find_place(name)


def test_cards_compute_batches_side_by_side_and_sockets_one_together() -> None:
    one, four = find_place("T4"), find_place("T4 x4")
    assert (four.rate("fp16"), four.bytes_per_s) == (one.rate("fp16"), one.bytes_per_s)
    assert (one.batches_at_once, four.batches_at_once) == (1, 4)
    assert find_place("Xeon Platinum 8380 x2").batches_at_once == 1


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
