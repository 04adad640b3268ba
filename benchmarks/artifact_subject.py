"""The artifacts that are compared: those of a run, those built for the purpose, or those of a shape without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers_environment import cache_folder
from deploycost.base_model import locate_model
from deploycost.encoder_shape import EncoderShape, shape_of
from deploycost.errors import LoadTestFailed, UserError
from deploycost.experiment import ARTIFACT_NAMES, ArtifactName
from deploycost.records import ExportRecord, read_record
from serving.bundle import open_bundle

BASELINE: ArtifactName = "torch-fp32"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """One artifact: its bundle, and its record where it was judged."""

    name: ArtifactName
    bundle: Path
    size_bytes: int
    record: ExportRecord | None


@dataclass(frozen=True)
class Subjects:
    """Artifacts of one model, in the table's order, and what the model measures."""

    artifacts: list[Subject]
    shape: EncoderShape
    description: str


def of_run(method_folder: Path) -> Subjects:
    """The artifacts that lie in `runs/NAME/METHOD`.

    Raises:
        UserError: the baseline is not among them, or a record is damaged.
        BundleError: a bundle is damaged.
    """
    found = []
    for name in ARTIFACT_NAMES:
        folder = method_folder / name
        if (folder / "export.json").exists():
            bundle = open_bundle(folder / "bundle")
            record = read_record(folder / "export.json", ExportRecord)
            found.append(Subject(name, bundle.folder, bundle.size_bytes, record))
    if BASELINE not in [subject.name for subject in found]:
        raise UserError(
            f"{method_folder} holds no {BASELINE}, which the others are held against; "
            "build it with 'deploycost build --artifacts all'"
        )
    provenance = open_bundle(found[0].bundle).manifest.provenance
    shape = shape_of(locate_model(provenance["base_model"]).place)
    return Subjects(found, shape, f"{provenance['base_model']} trained by {provenance['method']}")


def build(dataset: str, train_rows: int, say: Say) -> Subjects:
    """All artifacts that this machine can build of the packaged encoder, tuned in full; kept in the user's cache.

    Raises:
        LoadTestFailed: the build failed; with its last word.
    """
    runs = cache_folder() / "artifacts"
    name = f"{Path(dataset).name}-{train_rows}"
    say(f"building all artifacts of {train_rows} rows of {Path(dataset).name} in {runs}, where they are not there yet")
    command = ["build", "--runs-dir", str(runs), "--run", name, "--method", "full", "--model", "minilm"]
    command += ["--dataset", dataset, "--artifacts", "all", "--train-rows", str(train_rows), "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "deploycost.cli", *command], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):  # 1: an artifact was refused, the others are there
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise LoadTestFailed(f"building the artifacts failed: {last}")
    if done.returncode:
        say((done.stderr.strip().splitlines() or [""])[-1])
    return of_run(runs / name / "full")


def of_shape(shape: str, texts: Path, folder: Path, say: Say) -> Subjects:
    """Artifacts of an encoder of a known shape with random weights, for speed and memory: see `benchmarks.shapes`.

    Raises:
        LoadTestFailed: they could not be written; with the last word on why.
    """
    say(f"writing all artifacts of {shape}'s shape with random weights")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.shapes", shape, str(texts), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise LoadTestFailed(f"writing the artifacts failed: {last}")
    names = json.loads(done.stdout.splitlines()[-1])["artifacts"]
    bundles = [open_bundle(folder / name / "bundle") for name in names]
    found = [Subject(name, b.folder, b.size_bytes, None) for name, b in zip(names, bundles, strict=True)]
    return Subjects(found, shape_of(str(folder / "model")), f"{shape}'s shape, random weights")
