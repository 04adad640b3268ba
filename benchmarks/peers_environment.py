"""A virtual environment for the servers of others, so that their packages and ours leave one another alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploycost.errors import LoadTestFailed

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"
_STAMP = "requirements.sha256"


def cache_folder() -> Path:
    """Where the serving benchmark keeps what is worth keeping between two runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "deploycost" / "serving-benchmark"


def peers_python(folder: Path, say: Callable[[str], None]) -> str:
    """The interpreter of the environment in `folder`, which is made or brought up to date first.

    Raises:
        LoadTestFailed: it could not be installed; with pip's last word.
    """
    python = folder / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = folder / _STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        say(f"installing the servers of others into {folder}: some 1.5 GB, once")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)])
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise LoadTestFailed(
            f"cannot install the servers of others: {last}; --servers {'deploycost'} does without them"
        )
