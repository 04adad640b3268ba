"""The process that trains: its environment, and which program it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploycost.errors import DeploycostError
from deploycost.experiment import Frozen
from deploycost.pipeline import run_worker, worker_environment

# Maps 64 MiB, gives it back, and tells how many MiB of it are still in RAM.
FREED = """
import ctypes
from deploycost.tuning.counters import resident_memory_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
before = resident_memory_bytes()
place = libc.malloc(64 << 20)
ctypes.memset(place, 1, 64 << 20)
libc.free(place)
print((resident_memory_bytes() - before) >> 20)
"""


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
                    reason="of glibc's allocator")  # fmt: skip
def test_the_heap_keeps_what_it_has_got() -> None:
    def kept_mib(environment: dict[str, str]) -> int:
        done = subprocess.run(
            [sys.executable, "-c", FREED], env=environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    assert kept_mib(plain) < 16
    assert kept_mib(worker_environment()) > 48


def test_what_the_user_has_said_of_the_heap_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert worker_environment()["MALLOC_TRIM_THRESHOLD_"] == "131072"


def test_a_folder_of_the_users_is_not_taken_for_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploycost").mkdir()
    (tmp_path / "deploycost" / "__init__.py").write_text("")
    (tmp_path / "deploycost" / "worker.py").write_text('print(\'{"error": "not the worker"}\')')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeploycostError, match="'full' ended without an answer"):  # what was asked is no job
        run_worker(Frozen(), "full", "a smaller model")
