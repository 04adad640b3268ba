"""Holds the memory model against measured peaks: real trainings of the packaged encoder, each in a process of its own.

    python -m benchmarks.training_memory [--dataset FOLDER] [--cells 1,4,9] [--page docs/results/training-memory.md]

Each trains as `deploycost build` does, two epochs of texts of varying lengths with judging after each. A peak is the
kernel's high-water mark of the process, over its resident memory right before the model is loaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycost.encoder_shape import EncoderShape
from deploycost.pipeline import worker_environment
from deploycost.training_memory import TrainingLoad, predict
from deploycost.units import MIB

if TYPE_CHECKING:
    from deploycost.models.base import BaseModel
    from deploycost.records import TuningRecord

_EPOCHS, _STEPS_PER_EPOCH = 2, 30
_TEST_ROWS = 200


@dataclass(frozen=True)
class Cell:
    """One training: a method, how many texts at a time, and the most tokens of a text."""

    method: str
    batch_size: int
    tokens: int
    gradient_checkpointing: bool = False
    bits: int | None = None


CELLS = (
    Cell("full", 16, 128),
    Cell("lora", 16, 128),
    Cell("qlora", 16, 128),
    Cell("prompt", 8, 128),
    Cell("stacked", 8, 128),
    Cell("qlora", 8, 64),
    Cell("lora", 16, 128, gradient_checkpointing=True),
)
# Held out: the model's constants were set on the cells above.
HELD_OUT = (
    Cell("full", 8, 128),
    Cell("qlora", 8, 128),
    Cell("prompt", 16, 64),
    Cell("adapter", 8, 128),
    Cell("qlora", 8, 128, gradient_checkpointing=True),
)

# Peaks that were published for DistilBERT on SST-2 on an A100 by torch's allocator, in MB of a million bytes. The
# precision and the longest text are not told with them: SST-2's longest sentence has about 66 tokens.
_PUBLISHED_SHAPE = EncoderShape(
    "distilbert", layers=6, hidden=768, heads=12, ffn_width=3072, vocabulary=30522, positions=512, token_types=0
)
_SST2 = TrainingLoad(labels=2, batch_size=32, tokens=66, half_precision=False, device="cuda")
PUBLISHED = (
    ("full", 1305.9, replace(_SST2, whole_body=True, batch_size=8)),
    ("LoRA r 8", 811.2, replace(_SST2, rank=8)),
    ("LoRA r 32", 818.6, replace(_SST2, rank=32)),
    ("QLoRA r 8", 688.18, replace(_SST2, rank=8, bits=4)),
)


def main() -> None:
    """Measures all cells, and prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="write the table to this Markdown file too")
    parser.add_argument("--dataset", default="demo", help="as `deploycost build` takes it")
    parser.add_argument("--cells", type=_numbers, help="which to measure, by their numbers from 1: 1,4,9; default all")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        print(json.dumps(measure(Cell(**json.loads(asked.cell)), asked.dataset)))
        return
    rows = []
    for number, cell in enumerate((*CELLS, *HELD_OUT), start=1):
        if asked.cells is None or number in asked.cells:
            rows.append({"held_out": cell in HELD_OUT, **_in_a_process(cell, asked.dataset)})
            print(f"{cell.method}: measured {rows[-1]['measured_bytes'] / MIB:.0f} MiB", file=sys.stderr)
    fitted, held_out = _split(rows)
    print(_table(rows))
    print(json.dumps({"fitted": _errors(fitted), "held_out": _errors(held_out), "cells": rows}))
    if asked.page is not None:
        asked.page.write_text(_page(rows), encoding="utf-8")


def _numbers(text: str) -> frozenset[int]:
    chosen = frozenset(map(int, text.split(",")))
    if not chosen <= set(range(1, len(CELLS) + len(HELD_OUT) + 1)):
        raise argparse.ArgumentTypeError(f"cells are numbered from 1 to {len(CELLS) + len(HELD_OUT)}")
    return chosen


def _split(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [row for row in rows if not row["held_out"]], [row for row in rows if row["held_out"]]


def measure(cell: Cell, dataset: str) -> dict[str, Any]:
    """Trains a cell in this process: what was predicted and what was measured, in bytes."""
    from deploycost.models.base import find_base

    with tempfile.TemporaryDirectory() as folder:
        record = _train(cell, dataset, find_base("minilm"), Path(folder))
    predicted, measured = record.predicted_memory, record.peak_memory_bytes - record.baseline_memory_bytes
    if predicted is None:
        raise SystemExit("the record holds no prediction to be checked")
    return {
        **asdict(cell),
        "predicted": predicted.model_dump(),
        "predicted_bytes": predicted.total,
        "measured_bytes": measured,
        "error_ratio": predicted.total / measured - 1,
        "machine": record.machine.model_dump(mode="json"),
    }


def _train(cell: Cell, dataset: str, base: BaseModel, folder: Path) -> TuningRecord:
    from deploycost.dataset import load_dataset
    from deploycost.experiment import make_experiment
    from deploycost.tuning.training import TuningJob, tune

    training = {
        "epochs": _EPOCHS,
        "batch_size": cell.batch_size,
        "max_tokens": cell.tokens,
        "gradient_checkpointing": cell.gradient_checkpointing,
        "bits": cell.bits,
    }
    source = {"source": dataset, "train_rows": _STEPS_PER_EPOCH * cell.batch_size, "test_rows": _TEST_ROWS}
    experiment = make_experiment(
        {"model": base.name, "methods": [cell.method], "dataset": source, "training": training}
    )
    texts = load_dataset(experiment.dataset, experiment.training.seed)
    job = TuningJob(experiment, experiment.methods[0], base, texts, fingerprint="benchmark")
    return tune(job, folder, lambda *_: None)


def _errors(rows: list[dict[str, Any]]) -> dict[str, float]:
    if not rows:
        return {}
    errors = [abs(row["error_ratio"]) for row in rows]
    return {"median_error_ratio": statistics.median(errors), "largest_error_ratio": max(errors)}


def _errors_text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing was measured"
    median, largest = _errors(rows).values()
    return f"the median error is {100 * median:.1f} %, the largest {100 * largest:.1f} %"


def _in_a_process(cell: Cell, dataset: str) -> dict[str, Any]:
    module = [sys.executable, "-m", "benchmarks.training_memory"]
    command = [*module, "--dataset", dataset, "--cell", json.dumps(asdict(cell))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=worker_environment())
    if done.returncode:
        raise SystemExit(f"{cell} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| | method | batch | tokens | checkpointing | weights | gradients | optimiser | activations | workspace "
        "| predicted | measured | error |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        kind = "held out" if row["held_out"] else "fitted"
        bits = f" {row['bits']}-bit" if row["bits"] else ""
        parts = [f"{row['predicted'][part] / MIB:.0f}" for part in row["predicted"]]
        totals = [f"{row[which] / MIB:.0f}" for which in ("predicted_bytes", "measured_bytes")]
        checkpointing = "on" if row["gradient_checkpointing"] else "off"
        lines.append(
            f"| {kind} | {row['method']}{bits} | {row['batch_size']} | {row['tokens']} | {checkpointing} | "
            + " | ".join([*parts, *totals, f"{100 * row['error_ratio']:+.1f} %"])
            + " |"
        )
    return "\n".join(lines)


def _published_table() -> str:
    lines = ["| method | batch | published | predicted, fp32 | predicted, half |", "|---|---:|---:|---:|---:|"]
    for name, peak_mb, load in PUBLISHED:
        predicted_mb = [
            predict(_PUBLISHED_SHAPE, replace(load, half_precision=half)).total / 1e6 for half in (False, True)
        ]
        told = " | ".join(f"{value:.0f} ({100 * (value / peak_mb - 1):+.0f} %)" for value in predicted_mb)
        lines.append(f"| {name} | {load.batch_size} | {peak_mb:.0f} | {told} |")
    return "\n".join(lines)


def _page(rows: list[dict[str, Any]]) -> str:
    machine = rows[0]["machine"]
    fitted, held_out = _errors_text(rows[: len(CELLS)]), _errors_text(rows[len(CELLS) :])
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"""# The memory model against measured peaks

What training takes is predicted by `deploycost.training_memory` before anything is trained: it turns the
`--memory-budget` of dynamic ranks into a rank, and tells `deploycost recommend` which methods fit. Here it is held
against the peaks of real trainings of the packaged encoder (MiniLM, 22.7 M parameters): {_EPOCHS * _STEPS_PER_EPOCH}
steps in two epochs, of texts as long as they come, each in a process of its own as `deploycost build` starts it.

    python -m benchmarks.training_memory --dataset AG_NEWS_FOLDER --page docs/results/training-memory.md

{_table(rows)}

All sizes in MiB. What the model says of the workspace was set by hand on the fitted rows: there {fitted}. The others
were held out: {held_out}. On {machine["cpu_model"]}, {machine["cpu_cores"]} cores ({packages}).

- *Measured* is the kernel's high-water mark of the process while it trains, over its resident memory right before the
  model was loaded. The libraries themselves are below that line, and so outside a memory budget. Judging between the
  epochs goes in batches of training's size and is left out, but for what the heap keeps of it. Proportional memory
  would not do: it falls by tens of MiB when another training maps the same files.
- *Predicted* is the sum of the five parts for the longest batch. *Workspace* is what is no tensor: code first used
  while training; kernels that oneDNN makes for each width of batches and keeps; and the holes of the C library's heap,
  a share of what passes through it. Heaps differ from one C library to the next, and all rows are of one encoder on
  one machine.
- Lengths decide: with batches as wide as their longest text, and not padded to a multiple of 8, QLoRA at batch 16 took
  1136 MiB instead of 939, prompt tuning at batch 8 616 instead of 487 (single runs of 30 to 60 steps). Of each width
  kernels are kept for good, in holes of the heap that later batches then no longer fit in.
- Peaks vary by a few per cent from run to run, and with the order in which widths come.

## GPUs

The formula for GPUs has the same terms with fused attention and torch's own allocator. It was not held against
measurements of ours. Beside peaks that were published for DistilBERT on SST-2 on an A100, whose precision and longest
text are not told ({_SST2.tokens} tokens are assumed), in MB of a million bytes:

{_published_table()}
"""


if __name__ == "__main__":
    main()
