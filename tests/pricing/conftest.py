import shutil
from pathlib import Path

import pytest

from pricing.book import PriceBook, load_book
from pricing.table import DATA_FOLDER


@pytest.fixture(scope="session")
def book() -> PriceBook:
    return load_book(DATA_FOLDER)


@pytest.fixture
def price_folder(tmp_path: Path) -> Path:
    """A copy of the shipped tables with one good offer, to be spoilt."""
    for name in ("cpus.csv", "burstable.csv", "billing.csv"):
        shutil.copy(DATA_FOLDER / name, tmp_path / name)
    header = (DATA_FOLDER / "offers.csv").read_text(encoding="utf-8").splitlines()[0]
    offer = "aws,r1,a.large,aws-a,2,4,,0,,on-demand,0.1,list,2026-01-02,"
    (tmp_path / "offers.csv").write_text(f"{header}\n{offer}\n", encoding="utf-8")
    return tmp_path
