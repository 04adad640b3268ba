"""`python -m benchmarks.loadtest`, told to end in the middle of a real search."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_one_that_is_terminated_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.loadtest", "--repeats", "1", "--virtual", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        tree, end_s = psutil.Process(process.pid), time.monotonic() + 60
        # The client and the server.
        while len(started := tree.children(recursive=True)) < 2:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "interrupted; what it had started is stopped, nothing was kept" in told
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert not list(tmp_path.glob("deploycost-load-*"))
