"""`deploycost serve`: one variant over HTTP."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options import Place
from deploycost.commands.output import say
from deploycost.errors import UserError, unknown_name
from deploycost.workspace import open_run


def serve(
    variant: Annotated[str, Parameter(help="Name such as lora-r8.onnx-int8.")],
    *,
    place: Place | None = None,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8000,
    threads: Annotated[int, Parameter(help="Cores that the engine may use.")] = 1,
) -> int:
    """Serve one variant over HTTP until Ctrl-C: POST /predict, GET /healthz, /readyz, /metadata.

    Example: deploycost serve lora-r8.onnx-int8 --port 8000
    """
    place = place or Place()
    run = open_run(place.runs_dir, place.run)
    bundles = {f"{p.parents[1].name}.{p.parent.name}": p.parent / "bundle" for p in run.record_paths("export.json")}
    if not bundles:
        raise UserError(f"run {run.name!r} holds no finished variant; build one with 'deploycost build'")
    if variant not in bundles:
        raise unknown_name("variant", variant, bundles)
    say(f"try: curl -s http://{host}:{port}/predict -d '{{\"text\": \"…\"}}' -H 'content-type: application/json'")
    options = {"--bundle": bundles[variant], "--host": host, "--port": port, "--threads": threads}
    _become([sys.executable, "-m", "serving", *(str(part) for pair in options.items() for part in pair)])
    return 0


def _become(program: list[str]) -> None:
    # The endpoint takes this process's place: signals reach it directly and its exit code is the command's.
    os.execv(program[0], program)  # noqa: S606 - no shell wanted
