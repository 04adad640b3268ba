"""Processes that we start: what they say, how they die, and that they are gone afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploycost.benchmarking.child import Child
from deploycost.benchmarking.cores import plan_cores
from deploycost.errors import LoadTestFailed

Module = Callable[[str], tuple[str, ...]]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Makes a module of some code, importable by processes started in the test."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(code: str) -> tuple[str, ...]:
        (tmp_path / "spoken.py").write_text(code, encoding="utf-8")
        return ("spoken",)

    return make


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], deadline_s: float = 10) -> bool:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_lines_go_both_ways(module: Module) -> None:
    echo = "import json, sys\nprint('not json')\nfor line in sys.stdin:\n    print(line, end='', flush=True)\n"
    with Child("echo", module(echo), ()) as child:
        child.send({"a": 1})
        assert child.read(10) == {"a": 1}
    assert gone(child.pid)


def test_a_death_is_told_with_its_last_words(module: Module) -> None:
    with (
        Child(
            "the server", module("import sys\nsys.stderr.write('first\\nno such bundle\\n')\nsys.exit(3)\n"), ()
        ) as child,
        pytest.raises(LoadTestFailed, match=r"the server died \(exit code 3\); it last said: first \| no such bundle"),
    ):
        child.read(10)


def test_silence_has_a_deadline(module: Module) -> None:
    with Child("the server", module("import time\ntime.sleep(60)\n"), ()) as child:
        start = time.monotonic()
        with pytest.raises(LoadTestFailed, match=r"said nothing for 0\.3 s"):
            child.read(0.3)
        assert time.monotonic() - start < 3
    assert gone(child.pid)


def test_one_that_ignores_sigterm_is_killed_with_its_children(module: Module) -> None:
    code = """
import json, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(json.dumps({"inner": inner.pid}), flush=True)
time.sleep(60)
"""
    with Child("stubborn", module(code), ()) as child:
        inner = child.read(10)["inner"]
    assert gone(child.pid)
    assert wait_until(lambda: gone(inner))


def test_pinned_to_its_cores(module: Module) -> None:
    cores = plan_cores(1)
    if not cores.server:
        pytest.skip("this system cannot pin")
    code = "import json, os, time\nprint(json.dumps({'cores': sorted(os.sched_getaffinity(0))}), flush=True)\n"
    with Child("pinned", module(code), cores.client) as child:
        assert child.read(10) == {"cores": list(cores.client)}


def test_a_module_in_the_current_folder_is_run_only_where_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spoken.py").write_text("print('{}', flush=True)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Child("meant", ("spoken",), (), from_folder=True) as child:
        assert child.read(10) == {}
    with Child("not meant", ("spoken",), ()) as child, pytest.raises(LoadTestFailed, match="No module named spoken"):
        child.read(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a killed process")
def test_a_killed_parent_takes_its_children_along(module: Module) -> None:
    module("import time\ntime.sleep(60)\n")
    code = "from deploycost.benchmarking.child import Child\nimport time\n"
    code += "print(Child('x', ('spoken',), ()).pid, flush=True)\ntime.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        os.kill(parent.pid, signal.SIGKILL)
    assert wait_until(lambda: gone(pid))
