"""`deploycost serve`: one variant over HTTP."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploycost.commands.options import Place
from deploycost.commands.output import say
from deploycost.errors import UserError, unknown_name
from deploycost.records import LoadRecord, ServerSettings, read_record
from deploycost.workspace import open_run
from serving.bundle import BundleError, open_bundle


@Parameter(name="*")
@dataclass(frozen=True)
class Pressure:
    """How the endpoint shares its work out, and how long a request may wait.

    What is not given is what 'deploycost loadtest --tune' chose for the variant, else the default.
    """

    workers: Annotated[
        int | None, Parameter(help="Processes that answer; workers x threads should not exceed cores. Default: 1.")
    ] = None
    threads: Annotated[int | None, Parameter(help="Cores that one engine may use. Default: 1.")] = None
    max_batch: Annotated[int | None, Parameter(help="Most texts computed together. Default: 8.")] = None
    batch_window_ms: Annotated[
        float | None, Parameter(help="How long texts that have company wait for more of it. Default: 0.")
    ] = None
    max_queue: Annotated[int, Parameter(help="Most texts that wait, of all requests together.")] = 512
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
    tuned: Annotated[bool, Parameter(help="Use the settings that 'deploycost loadtest --tune' chose, if any.")] = True,
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
    chosen = _tuned_settings(bundles[variant].with_name("load.json"), bundles[variant]) if tuned else None
    if chosen is not None:
        pressure = _filled(pressure, chosen)
        say(f"settings of its load test: {chosen.text}; flags override them, --no-tuned leaves them out")
    scheme = "https" if doors.tls_cert else "http"
    say(f"try: curl -s {scheme}://{host}:{port}/predict -d '{{\"text\": \"…\"}}' -H 'content-type: application/json'")
    options = {"--bundle": bundles[variant], "--host": host, "--port": port}
    for group in (pressure, sizes, doors):
        options |= _flags(group)
    # -P: a folder called `serving` where the user stands is not the endpoint.
    _become([sys.executable, "-P", "-m", "serving", *(str(part) for pair in options.items() for part in pair)])
    return 0


def _tuned_settings(record_path: Path, bundle: Path) -> ServerSettings | None:
    """The settings that a load test chose for this very bundle, None where none did."""
    if not record_path.exists():
        return None
    record = read_record(record_path, LoadRecord)
    try:
        digest = open_bundle(bundle).digest
    except BundleError as error:
        raise UserError(str(error)) from None
    return record.server if record.tuned and record.bundle_digest == digest else None


def _filled(pressure: Pressure, chosen: ServerSettings) -> Pressure:
    given = {name: value for name in ServerSettings.model_fields if (value := getattr(pressure, name)) is not None}
    return replace(pressure, **{**chosen.model_dump(), **given})


def _flags(options: Pressure | Sizes | Doors) -> dict[str, object]:
    """The endpoint's own options for those that are set; they bear the same names."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {f"--{name.replace('_', '-')}": value for name, value in values.items() if value is not None}


def _become(program: list[str]) -> None:
    # The endpoint takes this process's place: signals reach it directly and its exit code is the command's.
    os.execv(program[0], program)  # noqa: S606 - no shell wanted
