"""Memory and CPU of real processes, read from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploycost.benchmarking.sampling import Meters, Sample, Sampler, sample_tree
from deploycost.energy_counter import PackageCounter

# Holds 64 MiB in a child of its own, and works.
CODE = """
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "x = bytearray(64 << 20); print(1, flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
inner.stdout.readline()
print(1, flush=True)
while True: pass
"""


def test_the_whole_tree_is_sampled() -> None:
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with Sampler(process.pid, ()) as sampler:
                start = time.perf_counter()
                time.sleep(1.8)
                busy = [(start, time.perf_counter())]
            use, cpu_ratio = sampler.memory_use(busy), sampler.cpu_ratio(busy, cores=1)
        finally:
            subprocess.run(["kill", *map(str, _tree(process.pid))], check=False)
    assert 64 << 20 < use.idle <= use.peak
    assert use.idle <= use.at_capacity <= use.peak
    assert use.peak < 300 << 20
    assert cpu_ratio is not None
    # It never sleeps, but it may have to share its core.
    assert 0.2 < cpu_ratio < 1.2


def test_a_process_that_is_gone_has_no_sample() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert sample_tree(process.pid) is None


def test_without_two_samples_there_is_no_cpu_ratio() -> None:
    with Sampler(os.getpid(), ()) as sampler:
        pass
    assert sampler.cpu_ratio([(0, 1e-9)], cores=1) is None
    assert sampler.memory_use([(0, 1e-9)]).at_capacity == pytest.approx(sampler.memory_use([]).idle)


def test_rates_of_counters_by_hand() -> None:
    sampler = Sampler(os.getpid(), ())
    sampler._samples += [
        Sample(at, memory, 0.0, cores_s=(at, 0.5 * at), gpu_memory_bytes=gpu, package_joules=20 * at, gpu_joules=None)
        for at, memory, gpu in ((0.0, 10, 0), (1.0, 20, 5), (3.0, 30, 7), (9.0, 15, 3))
    ]
    busy = [(0.5, 4.0)]
    assert sampler.core_cpu_ratios(busy) == pytest.approx((1.0, 0.5))
    assert sampler.watts(busy) == (pytest.approx(20), "RAPL, processor packages")
    assert sampler.watts([(4.0, 5.0)]) is None
    graphics = sampler.gpu_memory_use(busy)
    assert graphics is not None
    assert (graphics.idle, graphics.at_capacity, graphics.peak) == (0, 7, 7)


def test_a_server_is_watched_idle_where_a_counter_tells_energy(tmp_path: Path) -> None:
    with Sampler(os.getpid(), ()) as without:
        without.watch_idle()
    assert without.idle_watts() is None
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    (domain / "name").write_text("package-0")
    (domain / "max_energy_range_uj").write_text("1000000000")
    (domain / "energy_uj").write_text("5000000")
    with Sampler(os.getpid(), (), Meters(package=PackageCounter(tmp_path))) as sampler:
        sampler.watch_idle()
        idle = sampler.idle_watts()
    # The counter stood still.
    assert idle == (0.0, "RAPL, processor packages")


def _tree(pid: int) -> list[int]:
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
