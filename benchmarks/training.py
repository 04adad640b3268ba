"""Training by deploycost beside a plain transformers `Trainer` script, on the same rows, in one interleaved run.

Regime: pairs of short trainings of the same rows at the same batch size, one by deploycost and one by the script, each
in a process of its own, taking turns at going first, so that a machine that is slow for a while is slow for both. A
ratio is taken within each pair; the answer is the median of the ratios. Steps after a warm-up are timed; loading and
judging are not. Ends in one line of JSON. README.md beside this file says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table

from benchmarks.medians import median_of, with_interval
from deploycost.environment import machine_facts, now, usable_cores
from deploycost.experiment import METHOD_NAMES, MethodName
from deploycost.stats import wilson_interval
from deploycost.units import MIB

Side = Literal["ours", "plain"]
# Of our methods, those that the documentation shows too; the others are held against full fine-tuning.
PEERS: dict[MethodName, str] = {"full": "full", "lora": "lora", "qlora": "qlora", "prompt": "prompt"}
SIDES: tuple[Side, ...] = get_args(Side)
MEASURED = ("samples_per_s", "samples_per_core_s", "tokens_per_s", "peak_memory_bytes")


@dataclass(frozen=True)
class Question:
    """What to train and how. With `steps`, so many are timed after the warm-up; without, it is judged."""

    side: Side
    method: MethodName
    model: str
    dataset: str
    train_rows: int | None
    test_rows: int | None
    warm_up_steps: int
    steps: int | None
    epochs: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """What came out; `peak_memory_bytes` is the kernel's mark after the last step over what was held before.

    `samples_per_core_s` is over the time that cores worked for the process, whatever else they did beside.
    """

    samples_per_s: float
    tokens_per_s: float
    samples_per_core_s: float
    peak_memory_bytes: int
    accuracy: float
    test_rows: int


Pair = dict[Side, Answer]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = _arguments()
    say = Console(stderr=True, highlight=False).print
    found = []
    for method in asked.methods:
        pairs = _timed_pairs(asked, method, say)
        judged = _judged_pair(asked, method, say) if asked.accuracy else None
        found.append(_summary(method, pairs, judged))
    Console(width=150).print(_table(found))
    machine = machine_facts().model_dump(mode="json")
    # Of a folder or file its name only: the line may be published.
    settings = vars(asked) | {name: Path(getattr(asked, name)).name for name in ("dataset", "model")}
    print(
        json.dumps({"benchmark": "training", "at": now(), "machine": machine, "settings": settings, "methods": found})
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", default="ag_news", help="hub id, folder or file, or demo (default: ag_news)")
    parser.add_argument("--model", default="minilm", help="hub id, local folder, or minilm (default)")
    parser.add_argument("--methods", default="full,lora,qlora,prompt", help="a comma list, or all")
    parser.add_argument("--pairs", type=int, default=6, help="of trainings per method; fewer than 6 have no interval")
    parser.add_argument("--steps", type=int, default=20, help="timed in each training (default: 20)")
    parser.add_argument("--warm-up-steps", type=int, default=4, help="before them, not timed (default: 4)")
    parser.add_argument("--threads", type=int, default=len(usable_cores()), help="of each process (default: all cores)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--accuracy", action="store_true", help="also train both to the end once, and judge them")
    parser.add_argument("--epochs", type=int, default=2, help="of the trainings that are judged (default: 2)")
    parser.add_argument("--train-rows", type=int, default=4000, help="of the trainings that are judged (default: 4000)")
    parser.add_argument("--test-rows", type=int, default=None, help="to judge on (default: all)")
    asked = parser.parse_args()
    for name in ("pairs", "steps", "warm_up_steps", "threads", "epochs"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(asked, name)}: expected 1 or more")
    asked.methods = METHOD_NAMES if asked.methods == "all" else asked.methods.split(",")
    unknown = [name for name in asked.methods if name not in METHOD_NAMES]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; known: {', '.join(METHOD_NAMES)}")
    return asked


def _timed_pairs(asked: argparse.Namespace, method: MethodName, say: Callable[[str], None]) -> list[Pair]:
    pairs = []
    for number in range(asked.pairs):
        # Taking turns at going first: what a machine does to the second of two, it does to both sides.
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        pair = {side: _ask(asked, _question(asked, side, method, timed=True)) for side in order}
        pairs.append(pair)
        rates = " and ".join(f"{side} {pair[side].samples_per_s:.1f}" for side in SIDES)
        say(f"{method}, pair {number + 1} of {asked.pairs}: {rates} samples/s")
    return pairs


def _judged_pair(asked: argparse.Namespace, method: MethodName, say: Callable[[str], None]) -> Pair:
    say(f"{method}: training both sides for {asked.epochs} epochs on {asked.train_rows} rows")
    return {side: _ask(asked, _question(asked, side, method, timed=False)) for side in SIDES}


def _question(asked: argparse.Namespace, side: Side, method: MethodName, *, timed: bool) -> Question:
    return Question(
        side=side,
        method=method,
        model=asked.model,
        dataset=asked.dataset,
        train_rows=None if timed else asked.train_rows,
        test_rows=None if timed else asked.test_rows,
        warm_up_steps=asked.warm_up_steps,
        steps=asked.steps if timed else None,
        epochs=1 if timed else asked.epochs,
        seed=asked.seed,
    )


def _ask(asked: argparse.Namespace, question: Question) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_piece", json.dumps(asdict(question))],
        env=os.environ | {"OMP_NUM_THREADS": str(asked.threads), "TOKENIZERS_PARALLELISM": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        sys.exit(f"{question.method} by {question.side} failed (exit status {done.returncode}): {last}")
    return Answer(**json.loads(done.stdout))


def _summary(method: MethodName, pairs: Sequence[Pair], judged: Pair | None) -> dict[str, Any]:
    summary: dict[str, Any] = {"method": method, "peer": PEERS.get(method, "full"), "pairs": len(pairs)}
    for side in SIDES:
        summary[side] = {field: statistics.median(getattr(pair[side], field) for pair in pairs) for field in MEASURED}
    summary["ratios"] = {
        field: median_of([getattr(pair["ours"], field) / getattr(pair["plain"], field) for pair in pairs])
        for field in MEASURED
    }
    if judged is not None:
        summary["accuracy"] = {side: _proportion(judged[side]) for side in SIDES}
    return summary


def _proportion(answer: Answer) -> dict[str, float]:
    low, high = wilson_interval(round(answer.accuracy * answer.test_rows), answer.test_rows)
    return {"value": answer.accuracy, "low": low, "high": high}


def _table(found: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="deploycost / plain Trainer script", title_justify="left")
    for name in (
        "method",
        "plain peer",
        "samples/s",
        "tokens/s",
        "peak MiB",
        "faster by",
        "by core time",
        "memory ratio",
        "accuracy %",
    ):
        table.add_column(name, justify="left" if name in ("method", "plain peer") else "right")
    for row in found:
        ours, plain, ratios = row["ours"], row["plain"], row["ratios"]
        table.add_row(
            row["method"],
            row["peer"],
            f"{ours['samples_per_s']:.1f} / {plain['samples_per_s']:.1f}",
            f"{ours['tokens_per_s']:.0f} / {plain['tokens_per_s']:.0f}",
            f"{ours['peak_memory_bytes'] / MIB:.0f} / {plain['peak_memory_bytes'] / MIB:.0f}",
            with_interval(ratios["samples_per_s"]),
            with_interval(ratios["samples_per_core_s"]),
            with_interval(ratios["peak_memory_bytes"]),
            " / ".join(f"{100 * row['accuracy'][side]['value']:.1f}" for side in SIDES) if "accuracy" in row else "-",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
