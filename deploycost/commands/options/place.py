"""Which run a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost.workspace import DEFAULT_RUNS_DIR


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Which run, and where runs lie."""

    run: Annotated[str | None, Parameter(help="Name of the run: the folder of its results.")] = None
    runs_dir: Annotated[Path, Parameter(help="Folder that holds the runs.")] = DEFAULT_RUNS_DIR
