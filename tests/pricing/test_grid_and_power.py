from collections import Counter
from collections.abc import Callable
from decimal import Decimal

from pricing.book import Offer, load_book
from pricing.grid import grid_intensity, load_grid
from pricing.power import load_power, power_of, pue_of
from pricing.table import DATA_FOLDER


def test_a_known_region_and_an_unknown_one() -> None:
    iowa = grid_intensity("gcp", "us-central1")
    assert iowa
    assert (iowa.grams_co2e_per_kwh, iowa.place, iowa.key) == (Decimal("431.95"), "Iowa", "gcp/us-central1@2025-12-31")
    assert grid_intensity("vast", "US") is None


def test_every_region_of_the_large_clouds_is_known() -> None:
    asked = {(o.cloud, o.region) for o in load_book(DATA_FOLDER).offers if o.cloud in ("aws", "gcp", "azure")}
    assert len(asked) == 11
    assert all(grid_intensity(*place) for place in asked)


def test_the_shipped_grid_rows() -> None:
    grid = load_grid()
    assert Counter(cloud for cloud, _ in grid) == {"gcp": 46, "aws": 23, "azure": 23}
    for row in grid.values():
        assert 5 < row.grams_co2e_per_kwh < 1000, row.key
        assert row.source.startswith("github "), row.key


def test_a_machine_by_hand(make_offer: Callable[..., Offer]) -> None:
    thread = make_offer(cpu_model="Xeon Ice Lake 8375C", vcpus=Decimal(8))
    power = power_of(thread)
    assert power
    assert (power.watts_idle, power.watts_load) == (8 * Decimal("0.7668"), 8 * Decimal("3.7582"))
    assert power.watts(Decimal("0.5")) == 4 * (Decimal("0.7668") + Decimal("3.7582"))

    core = power_of(make_offer(cpu_model="EPYC Genoa 9R14", vcpu_is="core", vcpus=Decimal(4)))
    assert core
    assert core.watts_load == 8 * Decimal("2.2822")

    arm = power_of(make_offer(cpu_model="Graviton2", vcpu_is="core", architecture="arm64", vcpus=Decimal(4)))
    assert arm
    assert arm.watts_load == 4 * Decimal("1.6930")

    gpu = power_of(
        make_offer(
            cpu_model="Xeon Cascade Lake 8259CL", vcpus=Decimal(4), accelerator_name="T4", accelerator_count=Decimal(1)
        )
    )
    assert gpu
    assert gpu.watts_load == 4 * Decimal("4.0632") + 71


def test_a_family_on_one_of_two_cpus_takes_their_mean(make_offer: Callable[..., Offer]) -> None:
    power = power_of(make_offer(cpu_model="Xeon Skylake/Cascade Lake", vcpus=Decimal(2)))
    assert power
    assert power.watts_load == Decimal("4.1042") + Decimal("4.0632")


def test_what_is_not_in_the_table_is_unknown(make_offer: Callable[..., Offer]) -> None:
    assert power_of(make_offer(cpu_model=None)) is None
    assert power_of(make_offer(cpu_model="Xeon Ice Lake", accelerator_name="L4", accelerator_count=Decimal(1))) is None
    assert power_of(make_offer(cloud="vast", cpu_model="Xeon Ice Lake")) is None
    assert pue_of("vast") is None


def test_the_shipped_power_rows() -> None:
    parts = load_power()
    assert len(parts) == 33
    for part in parts.values():
        limit = 5 if part.part == "cpu-thread" else 1000
        assert 0 < part.watts_idle < part.watts_load < limit, part.name
    assert (pue_of("aws"), pue_of("gcp"), pue_of("azure")) == (Decimal("1.135"), Decimal("1.1"), Decimal("1.185"))
