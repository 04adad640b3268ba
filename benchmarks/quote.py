"""How long `deploycost quote` takes for the whole price book: whole processes, start-up included.

    python -m benchmarks.quote

A run of 60 variants is made by code (their records are of the shape that a real run leaves; the figures in them are
drawn, not measured), and each question is asked of it several times in a process of its own, the questions taking
turns. `python alone` is what any process here takes to start. The claim: the whole book, all regions and purchase
options, in less than a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.medians import Median, median_of, with_interval
from deploycost.environment import machine_facts, now
from deploycost.experiment import Experiment, write_experiment
from deploycost.records import (
    LOAD_RULES,
    Certificate,
    Check,
    CurvePoint,
    ExportRecord,
    Figure,
    LoadRecord,
    MemoryUse,
    Parity,
    Record,
    Scores,
    Slo,
    TuningRecord,
    write_record,
)
from deploycost.units import MIB
from pricing.book import load_book

VARIANTS, CLAIM_S = 60, 1.0
_WHOLE_BOOK = ("--cloud", "all", "--region", "all", "--purchase-option", "all")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "usual machines": (),
    "all machines, one region each": ("--cloud", "all"),
    "whole book": _WHOLE_BOOK,
    "whole book, autoscaled": (*_WHOLE_BOOK, "--traffic", "business-hours", "--autoscale"),
    "whole book, sorted by carbon": (*_WHOLE_BOOK, "--sort", "carbon"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the run, asks, prints the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=VARIANTS)
    parser.add_argument("--repeats", type=int, default=11)
    asked = parser.parse_args(arguments)
    with TemporaryDirectory() as scratch:
        make_run(Path(scratch) / "runs" / "made", asked.variants)
        seconds = time_questions(Path(scratch), asked.repeats)
    medians = {name: median_of(spans) for name, spans in seconds.items()}
    offers = len(load_book().offers)
    Console().print(_table(medians, asked.variants, offers))
    print(
        json.dumps(
            {
                "benchmark": "quote", "variants": asked.variants, "offers": offers, "repeats": asked.repeats,
                "claim_s": CLAIM_S, "claim_holds": (medians["whole book"]["value"] or 0.0) < CLAIM_S,
                "seconds": medians, "machine": machine_facts().model_dump(mode="json"), "finished_at": now(),
            }
        )
    )  # fmt: skip
    return 0


def make_run(folder: Path, variants: int) -> None:
    """A run folder with the records of so many variants that were built and load-tested."""
    draw = Random(7)
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(write_experiment(Experiment()), encoding="utf-8")
    artifacts = ("onnx-fp32", "onnx-int8")
    for number in range(variants):
        method, artifact = f"lora-r{number // len(artifacts) + 1}", artifacts[number % len(artifacts)]
        tuning, export, load = _records(method, artifact, draw)
        _write(folder / method / "tuning.json", tuning)
        _write(folder / method / artifact / "export.json", export)
        _write(folder / method / artifact / "load.json", load)


def time_questions(cwd: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of whole processes by question, each asked so many times."""
    commands = {
        "python alone": [sys.executable, "-c", "pass"],
        "--help": [sys.executable, "-m", "deploycost", "--help"],
    }
    commands |= {name: [sys.executable, "-m", "deploycost", "quote", *flags] for name, flags in QUESTIONS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    # As for whoever installed it: modules are compiled once, wherever this process may write that.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cwd / "compiled")
    for turn in range(repeats + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=120, env=environment)
            if turn:  # the first turn compiles modules and warms the disk's cache
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _table(medians: dict[str, Median], variants: int, offers: int) -> Table:
    table = Table(title=f"deploycost quote, {variants} variants, {offers:,} price rows", box=SIMPLE_HEAD)
    table.add_column("question")
    table.add_column("seconds, median (95 %)", justify="right")
    for name, figure in medians.items():
        table.add_row(name, with_interval(figure))
    return table


def _records(method: str, artifact: str, draw: Random) -> tuple[TuningRecord, ExportRecord, LoadRecord]:
    machine, variant, rows = machine_facts(), f"{method}.{artifact}", 2000
    share = draw.uniform(0.85, 0.93)
    scores = Scores(accuracy=share, macro_f1=share, precision=share, recall=share, rows=rows)
    capacity = draw.uniform(50, 300)
    tuning = TuningRecord(
        fingerprint="made", method="lora", slug=method, base_model="minilm", label_names=("a", "b", "c", "d"),
        dataset="made", dataset_fingerprint="made", dataset_description="made by code", dataset_generated=True,
        train_rows=4000, hyper_parameters={}, scores=scores, epochs=(), final_loss=0.5,
        training_s=draw.uniform(300, 900), samples_per_s=20, tokens_per_s=1000, step_ms_p50=1, step_ms_p95=2,
        baseline_memory_bytes=1, peak_memory_bytes=2, baseline_pss_bytes=1, peak_pss_bytes=2,
        peak_gpu_memory_bytes=None, peak_gpu_nvml_bytes=None, predicted_memory=None, energy_joules=None,
        energy_source="", trainable_parameters=1, head_parameters=1, total_parameters=1, mean_tokens=53,
        machine=machine, finished_at=now(),
    )  # fmt: skip
    parity = Parity(relative_error=0, relative_error_limit=1, agreement_ratio=1, agreement_high=1, agreement_limit=0.9)
    export = ExportRecord(
        fingerprint="made", variant=variant, method="lora", artifact=artifact, engine="onnxruntime", precision="int8",
        scores=scores, parity=parity, size_bytes=1, export_s=60.0, bundle_digest=variant, mean_tokens=53,
        machine=machine, finished_at=now(),
    )  # fmt: skip
    return tuning, export, _load(variant, capacity, draw)


def _load(variant: str, capacity: float, draw: Random) -> LoadRecord:
    curve = tuple(
        CurvePoint(
            rate_rps=share * capacity, achieved_rps=share * capacity, p50_ms=p95_ms / 2, p90_ms=p95_ms * 0.9,
            p95_ms=p95_ms, p99_ms=None, service_p50_ms=1000 / capacity, errors=0, requests=1000, duration_s=10.0,
            meets_slo=p95_ms <= 100,
        )
        for share, p95_ms in ((0.4, 15.0), (0.6, 20.0), (0.75, draw.uniform(25, 60)), (0.9, 80.0), (1.0, 95.0))
    )  # fmt: skip
    checks = tuple(Check(name=name, ok=True, value=0, limit=1) for name in ("drift", "client CPU", "steal"))
    return LoadRecord(
        fingerprint="made", variant=variant, slo=Slo(p95_ms=100.0), saturation_rps=capacity * 1.2,
        capacity_rps=Figure(value=capacity, low=0.9 * capacity, high=1.1 * capacity), curve=curve,
        memory_bytes=MemoryUse(idle=100 * MIB, at_capacity=200 * MIB, peak=256 * MIB), startup_s=1.5, server_cores=1,
        server_cpu_ratio=0.9, client_cpu_ratio=0.2, mean_tokens=53, environment=machine_facts(), seed=1,
        certificate=Certificate(certified=True, checks=checks), bundle_digest=variant, duration_s=60.0,
        finished_at=now(), rules=LOAD_RULES,
    )  # fmt: skip


def _write(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(write_record(record), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
