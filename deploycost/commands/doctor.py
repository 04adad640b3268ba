"""`deploycost doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import shutil
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from deploycost.base_model import locate_model
from deploycost.commands.options import Place
from deploycost.commands.output import show, show_json
from deploycost.environment import MachineFacts, machine_facts
from deploycost.errors import UserError
from deploycost.experiment import EMBEDDED_MODEL
from deploycost.units import GIB, bytes_text

_NEEDED_DISK_BYTES = 4 * GIB


def doctor(
    *,
    place: Place | None = None,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON document instead of a table.")] = False,
) -> int:
    """Say what this machine can do, and what is missing. Exit code 1 where something is.

    Example: deploycost doctor
    """
    facts = machine_facts()
    checks = _checks(facts, place or Place())
    if json:
        show_json({"machine": facts.model_dump(), "checks": [{"name": n, "ok": ok, "told": t} for n, ok, t in checks]})
    else:
        table = Table("", "check", "found")
        for name, ok, told in checks:
            table.add_row("ok" if ok else "MISSING", name, told)
        show(table)
    return 0 if all(ok for _, ok, _ in checks) else 1


def _checks(facts: MachineFacts, place: Place) -> list[tuple[str, bool, str]]:
    runs = place.runs_dir if place.runs_dir.exists() else place.runs_dir.absolute().parent
    free = shutil.disk_usage(runs).free
    return [
        (
            "cores: one for the endpoint, one for the client",
            facts.cpu_cores >= 2,
            f"{facts.cpu_cores} ({facts.cpu_model})",
        ),
        ("memory for fine-tuning", facts.memory_bytes >= 4 * GIB, bytes_text(facts.memory_bytes)),
        ("disk for a run", free >= _NEEDED_DISK_BYTES, f"{bytes_text(free)} free"),
        ("packages", not (absent := _absent(facts)), ", ".join(absent) or "all installed"),
        ("embedded encoder (extra 'demo')", *_embedded()),
        ("GPU", True, facts.gpu_model or "none; everything runs on the CPU"),
    ]


def _absent(facts: MachineFacts) -> list[str]:
    needed = ("torch", "transformers", "peft", "bitsandbytes", "onnx", "onnxruntime", "tokenizers", "locust")
    return [name for name in needed if name not in facts.packages]


def _embedded() -> tuple[bool, str]:
    try:
        return True, f"{EMBEDDED_MODEL}, weights {locate_model(EMBEDDED_MODEL).digest}"
    except UserError as error:
        return False, str(error)
