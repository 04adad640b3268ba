"""`deploycost serve`: one variant over HTTP."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options import Place
from deploycost.commands.output import say
from deploycost.errors import UserError, unknown_name
from deploycost.workspace import open_run


@Parameter(name="*")
@dataclass(frozen=True)
class Pressure:
    """How the endpoint shares its work out, and how long a request may wait."""

    workers: Annotated[int, Parameter(help="Processes that answer; workers x threads should not exceed cores.")] = 1
    threads: Annotated[int, Parameter(help="Cores that one engine may use.")] = 1
    max_batch: Annotated[int, Parameter(help="Most texts computed together.")] = 8
    max_queue: Annotated[int, Parameter(help="Most texts that wait, of all requests together.")] = 512
    batch_window_ms: Annotated[float, Parameter(help="How long texts that have company wait for more of it.")] = 0.0
    deadline_ms: Annotated[int, Parameter(help="How long a request without X-Deadline-Ms waits for its turn.")] = 1000


@Parameter(name="*")
@dataclass(frozen=True)
class Sizes:
    """How much one request may hold, and how many may come at a time."""

    max_texts: Annotated[int, Parameter(help="Most texts in one request.")] = 256
    max_text_chars: Annotated[int, Parameter(help="Most characters in one text.")] = 100_000
    max_body_bytes: Annotated[int, Parameter(help="Most bytes in one request.")] = 1 << 20
    max_connections: Annotated[int, Parameter(help="Most connections at a time, of each worker.")] = 1024


@Parameter(name="*")
@dataclass(frozen=True)
class Doors:
    """Who may come in, and over which wire."""

    api_key_file: Annotated[Path | None, Parameter(help="Keys that open the endpoint, one a line.")] = None
    tls_cert: Annotated[Path | None, Parameter(help="Certificate chain in PEM; serves HTTPS.")] = None
    tls_key: Annotated[Path | None, Parameter(help="Its key in PEM.")] = None


def serve(
    variant: Annotated[str, Parameter(help="Name such as lora-r8.onnx-int8.")],
    *,
    place: Place | None = None,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8000,
    pressure: Pressure | None = None,
    sizes: Sizes | None = None,
    doors: Doors | None = None,
) -> int:
    """Serve one variant over HTTP until Ctrl-C: POST /predict, the Open Inference Protocol under /v2, GET /healthz,
    /readyz, /metadata, /metrics, /openapi.json.

    Example: deploycost serve lora-r8.onnx-int8 --port 8000
    """
    place = place or Place()
    run = open_run(place.runs_dir, place.run)
    bundles = {f"{p.parents[1].name}.{p.parent.name}": p.parent / "bundle" for p in run.record_paths("export.json")}
    if not bundles:
        raise UserError(f"run {run.name!r} holds no finished variant; build one with 'deploycost build'")
    if variant not in bundles:
        raise unknown_name("variant", variant, bundles)
    pressure, sizes, doors = pressure or Pressure(), sizes or Sizes(), doors or Doors()
    scheme = "https" if doors.tls_cert else "http"
    say(f"try: curl -s {scheme}://{host}:{port}/predict -d '{{\"text\": \"…\"}}' -H 'content-type: application/json'")
    options = {"--bundle": bundles[variant], "--host": host, "--port": port}
    for group in (pressure, sizes, doors):
        options |= _flags(group)
    _become([sys.executable, "-m", "serving", *(str(part) for pair in options.items() for part in pair)])
    return 0


def _flags(options: Pressure | Sizes | Doors) -> dict[str, object]:
    """The endpoint's own options for those that are set; they bear the same names."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {f"--{name.replace('_', '-')}": value for name, value in values.items() if value is not None}


def _become(program: list[str]) -> None:
    # The endpoint takes this process's place: signals reach it directly and its exit code is the command's.
    os.execv(program[0], program)  # noqa: S606 - no shell wanted
