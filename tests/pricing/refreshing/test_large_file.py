import pytest

from benchmarks.refresh import measure


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file() -> None:
    """`python -m benchmarks.refresh` reads 300 MB; here the growth from a small file to a larger one is looked at."""
    small, large = measure(1_000_000), measure(40_000_000)
    assert (small.rows, large.rows) == (1, 1)
    assert large.peak_bytes - small.peak_bytes < 20_000_000
    assert large.peak_bytes < 150_000_000
