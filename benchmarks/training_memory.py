"""Holds the memory model against measured peaks: short real trainings of the packaged encoder, each in a process.

    python -m benchmarks.training_memory [--page docs/results/training-memory.md]

Texts are drawn from the encoder's own words, their lengths spread evenly from a quarter of the limit to the limit.
A peak is the kernel's high-water mark of the process, over its resident memory right before the model is loaded.
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
from random import Random
from typing import TYPE_CHECKING, Any

from deploycost.encoder_shape import EncoderShape
from deploycost.training_memory import TrainingLoad, predict
from deploycost.units import MIB

if TYPE_CHECKING:
    from deploycost.dataset import LabelledTexts
    from deploycost.models.base import BaseModel
    from deploycost.records import TuningRecord

_STEPS = 6
_TEST_ROWS = 16
_LABELS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Cell:
    """One training: a method, the longest text fed, and how many at a time."""

    method: str
    batch_size: int
    tokens: int
    gradient_checkpointing: bool = False
    bits: int | None = None


_METHODS = ("full", "lora", "qlora", "prompt")
CELLS = (
    *(Cell(method, 8, 64) for method in _METHODS),
    *(Cell(method, 16, 128) for method in (*_METHODS, "prefix", "adapter", "dynamic", "stacked")),
    *(Cell(method, 16, 128, gradient_checkpointing=True) for method in _METHODS),
    Cell("qlora", 16, 128, bits=8),
)
# Measured after the model's constants were set on the cells above: how well it does where it was not fitted.
HELD_OUT = (Cell("full", 8, 128), Cell("dynamic", 32, 64), Cell("stacked", 8, 64), Cell("adapter", 16, 64, True))

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
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        print(json.dumps(measure(Cell(**json.loads(asked.cell)))))
        return
    rows = []
    for cell in (*CELLS, *HELD_OUT):
        rows.append(_in_a_process(cell))
        print(f"{cell.method}: measured {rows[-1]['measured_bytes'] / MIB:.0f} MiB", file=sys.stderr)
    table = _table(rows)
    print(table)
    print(json.dumps({"fitted": _errors(rows[: len(CELLS)]), "held_out": _errors(rows[len(CELLS) :]), "cells": rows}))
    if asked.page is not None:
        asked.page.write_text(_page(rows), encoding="utf-8")


def measure(cell: Cell) -> dict[str, Any]:
    """Trains a cell in this process: what was predicted and what was measured, in bytes."""
    from deploycost.models.base import find_base

    with tempfile.TemporaryDirectory() as folder:
        record = _train(cell, find_base("minilm"), Path(folder))
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


def _train(cell: Cell, base: BaseModel, folder: Path) -> TuningRecord:
    from deploycost.dataset import Dataset
    from deploycost.experiment import make_experiment
    from deploycost.models.base import load_tokenizer
    from deploycost.tuning.training import TuningJob, tune

    words = sorted(word for word in load_tokenizer(base).get_vocab() if word.isascii() and word.isalpha())
    training = {
        "epochs": 1,
        "batch_size": cell.batch_size,
        "max_tokens": cell.tokens,
        "gradient_checkpointing": cell.gradient_checkpointing,
        "bits": cell.bits,
    }
    experiment = make_experiment({"model": base.name, "methods": [cell.method], "training": training})
    dataset = Dataset(
        name="drawn words",
        label_names=_LABELS,
        train=_texts(words, cell.tokens, _STEPS * cell.batch_size),
        test=_texts(words, cell.tokens, _TEST_ROWS),
        fingerprint="drawn words",
        description="words drawn at random",
        generated=True,
    )
    job = TuningJob(experiment, experiment.methods[0], base, dataset, fingerprint="benchmark")
    return tune(job, folder, lambda *_: None)


def _texts(words: list[str], tokens: int, count: int) -> LabelledTexts:
    from deploycost.dataset import LabelledTexts

    draw = Random(count)
    longest = tokens - 2  # [CLS] and [SEP]; each word is one token
    lengths = [max(1, round(longest * (0.25 + 0.75 * place / (count - 1)))) for place in range(count)]
    texts = tuple(" ".join(draw.choices(words, k=length)) for length in lengths)
    return LabelledTexts(texts, tuple(number % len(_LABELS) for number in range(count)))


def _errors(rows: list[dict[str, Any]]) -> dict[str, float]:
    errors = [abs(row["error_ratio"]) for row in rows]
    return {"median_error_ratio": statistics.median(errors), "largest_error_ratio": max(errors)}


def _errors_text(rows: list[dict[str, Any]]) -> str:
    median, largest = _errors(rows).values()
    return f"the median error is {100 * median:.1f} %, the largest {100 * largest:.1f} %"


def _in_a_process(cell: Cell) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training_memory", "--cell", json.dumps(asdict(cell))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | batch | tokens | checkpointing | weights | gradients | optimiser | activations | workspace "
        "| predicted | measured | error |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        bits = f" {row['bits']}-bit" if row["bits"] else ""
        parts = [f"{row['predicted'][part] / MIB:.0f}" for part in row["predicted"]]
        totals = [f"{row[which] / MIB:.0f}" for which in ("predicted_bytes", "measured_bytes")]
        checkpointing = "on" if row["gradient_checkpointing"] else "off"
        lines.append(
            f"| {row['method']}{bits} | {row['batch_size']} | {row['tokens']} | {checkpointing} | "
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
against the peaks of real trainings of the packaged encoder (MiniLM, 22.7 M parameters), {_STEPS} steps each, every one
in a process of its own.

    python -m benchmarks.training_memory --page docs/results/training-memory.md

{_table(rows)}

All sizes in MiB. What the model says of the workspace was set by hand on the first {len(CELLS)} rows (30 MiB, 30 % of
the activations, and for which trainings these count again): there {fitted}. The last
{len(HELD_OUT)} rows were measured after that: {held_out}. On {machine["cpu_model"]}, {machine["cpu_cores"]} cores
({packages}).

- *Measured* is the kernel's high-water mark of the process over its resident memory right before the model was
  loaded. The libraries themselves are below that line, and so outside a memory budget.
- *Predicted* is the sum of the five parts for the longest batch. The tensors of a step, as torch's allocator counts
  them, agree with *weights* to *activations*; *workspace* is the rest: kernels and code first used while training,
  and the holes of the C library's heap, a share of what passes through it. Heaps differ from one C library to the
  next, and all rows are of one encoder on one machine.
- The peaks themselves vary by a few per cent from run to run.

## GPUs

The formula for GPUs has the same terms with fused attention and torch's own allocator. It was not held against
measurements of ours. Beside peaks that were published for DistilBERT on SST-2 on an A100, whose precision and longest
text are not told ({_SST2.tokens} tokens are assumed), in MB of a million bytes:

{_published_table()}
"""


if __name__ == "__main__":
    main()
