"""Every artifact of one model on one core: rate by length and on real texts, memory, size, cost over `torch-fp32`.

Regime: each artifact in a process of its own on the same core, in interleaved rounds, through the code that serves it
(`serving.Classifier`); the answer is the ratio of times within a round. Memory is read alone, before. The share of the
core's peak is against matrix products measured on the same core. Ends in one line of JSON. README.md beside this file
says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import artifact_subject
from benchmarks.artifact_rounds import cost_ratio, measure, measure_peaks
from benchmarks.artifacts_report import Findings, page, show, verdicts
from benchmarks.serving_report import by_hand
from benchmarks.subject import write_texts
from deploycost.benchmarking.cores import plan_cores
from deploycost.environment import machine_facts, now
from deploycost.errors import DeploycostError, UserError
from deploycost.experiment import ARTIFACT_NAMES
from loadtests.workload import read_texts
from serving.classifier import Classifier
from serving.errors import BundleError

Say = Callable[[str], None]
_TEXTS, _ROUNDS, _TRAIN_ROWS = 256, 6, 4000
_QUICK_TEXTS = 32
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = _arguments()
    machine, load_before = machine_facts(), os.getloadavg()[0]
    try:
        found = _measure(asked, Console(stderr=True, highlight=False).print)
    except (DeploycostError, BundleError) as error:
        print(f"benchmarks.artifacts: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks.artifacts: interrupted; what it had started is stopped", file=sys.stderr)
        return 130
    show(found, Console(width=170))
    # Of a folder or file its name only: the line may be published.
    paths = {name: Path(getattr(asked, name) or "").name for name in ("dataset", "run", "page")}
    told = {
        "benchmark": "artifacts",
        "at": now(),
        "machine": machine.model_dump(mode="json"),
        "load_before": load_before,
        "settings": vars(asked) | paths,
        "model": found.subjects.description,
        "mean_tokens": found.mean_tokens,
        "peak_operations_per_s": found.peaks,
        "targets": [asdict(verdict) for verdict in verdicts(found)],
        "artifacts": [_as_json(found, number) for number in range(len(found.measured))],
    }
    if asked.page is not None:
        asked.page.write_text(page(found, told) + by_hand(asked.page), encoding="utf-8")
    print(json.dumps(told))
    return 0


def _as_json(found: Findings, number: int) -> dict[str, object]:
    one, subject = found.measured[number], found.subjects.artifacts[number]
    told: dict[str, object] = asdict(one) | {"size_bytes": subject.size_bytes, "accuracy": found.accuracy(one.name)}
    if not one.failure:
        told["cost_ratio"] = cost_ratio(one, found.baseline, batched=False)
        told["cost_ratio_batched"] = cost_ratio(one, found.baseline, batched=True)
        told["share_of_peak"] = {tokens: found.share_of_peak(one, tokens) for tokens in one.by_length}
    return told


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artifacts", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--dataset", default="demo", help="hub id, folder or file of the texts, or demo (default)")
    add("--run", type=Path, metavar="RUN/METHOD", help="artifacts of a run (default: built from the texts, and kept)")
    add("--shape", choices=("distilbert",), help="artifacts of this shape with random weights instead")
    add("--artifacts", default="all", help=f"a comma list, with {artifact_subject.BASELINE} (default: all)")
    add("--rounds", type=int, default=_ROUNDS, help="fewer than 6 have no interval (default: %(default)s)")
    add("--texts", type=int, default=_TEXTS, help="real texts of a round (default: %(default)s)")
    add("--train-rows", type=int, default=_TRAIN_ROWS, help="for artifacts that are built (default: %(default)s)")
    add("--quick", action="store_true", help="one round of few texts: its figures mean nothing")
    add("--page", type=Path, metavar="FILE", help="write the tables to a page in Markdown, too")
    asked = parser.parse_args()
    if min(asked.rounds, asked.texts, asked.train_rows) < 1:
        parser.error("--rounds, --texts and --train-rows: expected 1 or more")
    if asked.quick:
        asked.rounds, asked.texts = 1, _QUICK_TEXTS
    return asked


def _measure(asked: argparse.Namespace, say: Say) -> Findings:
    core = plan_cores(server_threads=1).server
    if not core:
        raise UserError("this system cannot keep a process on one core; it takes Linux")
    os.environ |= _ENVIRONMENT
    with TemporaryDirectory() as scratch:
        texts_path = Path(scratch) / "texts.jsonl"
        write_texts(asked.dataset, asked.texts, texts_path)
        subjects = _subjects(asked, texts_path, Path(scratch), say)
        peaks = measure_peaks(core)
        measured = measure(subjects.artifacts, texts_path, core, asked.rounds, say)
        classifier = Classifier(subjects.artifacts[0].bundle)
        tokens = mean(len(classifier.encode(text).token_ids) for text in read_texts(str(texts_path)))
    return Findings(subjects, measured, peaks, tokens)


def _subjects(asked: argparse.Namespace, texts: Path, scratch: Path, say: Say) -> artifact_subject.Subjects:
    """The artifacts asked for; `UserError` for a name that is unknown, or without the baseline."""
    if asked.shape:
        subjects = artifact_subject.of_shape(asked.shape, texts, scratch / "shape", say)
    elif asked.run is not None:
        subjects = artifact_subject.of_run(asked.run)
    else:
        subjects = artifact_subject.build(asked.dataset, asked.train_rows, say)
    if asked.artifacts == "all":
        return subjects
    wanted = asked.artifacts.split(",")
    unknown = [name for name in wanted if name not in ARTIFACT_NAMES]
    if unknown or artifact_subject.BASELINE not in wanted:
        raise UserError(
            f"--artifacts {asked.artifacts}: expected names of 'deploycost artifacts', {artifact_subject.BASELINE} "
            "among them, which the others are held against"
        )
    kept = [subject for subject in subjects.artifacts if subject.name in wanted]
    return artifact_subject.Subjects(kept, subjects.shape, subjects.description)


if __name__ == "__main__":
    # A terminated benchmark stops what it started, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
