"""What is served in the serving benchmark, and the texts that are sent to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks.peers_environment import cache_folder
from deploycost.dataset import load_dataset
from deploycost.errors import LoadTestFailed, UserError
from deploycost.experiment import DatasetSpec
from serving.bundle import open_bundle

_SEED = 1
_SERVED_ARTIFACT = "onnx-int8"
# The packaged encoder, or one of DistilBERT's shape with random weights: right for speed and memory, not for accuracy.
SHAPES = ("minilm", "distilbert")
# Just enough training for the artifacts to agree with the trained model; speed does not depend on it, and what starts
# from random weights learns nothing of it anyway.
_ROWS = {"minilm": ("400", "200"), "distilbert": ("64", "64")}
_BUILD = ("--method", "full", "--dataset", "demo", "--epochs", "1", "--artifacts", f"onnx-fp32,{_SERVED_ARTIFACT}")


def write_texts(dataset: str, number: int, path: Path) -> int:
    """Write so many texts of a data set's test split, drawn by a seed, as JSONL; returns how many there are.

    Raises:
        UserError: the data set cannot be had or read.
    """
    test = load_dataset(DatasetSpec(source=dataset), seed=_SEED).test.texts
    drawn = Random(_SEED).sample(test, min(number, len(test)))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in drawn), encoding="utf-8")
    return len(drawn)


def checked_bundle(folder: Path) -> Path:
    """The folder again, where it holds an intact int8 bundle for onnxruntime.

    Raises:
        BundleError: it holds none, or a damaged one.
        UserError: it is of another engine or precision, which the other servers do not run.
    """
    manifest = open_bundle(folder).manifest
    if (manifest.engine, manifest.precision) != ("onnxruntime", "int8"):
        raise UserError(
            f"{folder} holds {manifest.precision} for {manifest.engine}; expected an int8 bundle for onnxruntime, "
            f"which every server here runs: the {_SERVED_ARTIFACT} of a run"
        )
    return folder


def build_bundle(say: Callable[[str], None], shape: str = SHAPES[0]) -> Path:
    """A bundle of the demo texts by `deploycost build`, kept in the user's cache between two runs.

    Raises:
        LoadTestFailed: the build failed; with its last word.
    """
    runs, name, model = cache_folder() / "runs", "demo", shape
    if shape != SHAPES[0]:
        name, model = shape, str(cache_folder() / shape)
        if not Path(model).exists():
            _run("writing the encoder", ["benchmarks.random_encoder", model])
    say(f"building the artifacts of the demo texts in {runs / name}, where they are not there yet")
    rows = ("--train-rows", _ROWS[shape][0], "--test-rows", _ROWS[shape][1])
    place = ("--runs-dir", str(runs), "--run", name, "--model", model)
    _run("building the bundle", ["deploycost.cli", "build", *place, *rows, *_BUILD])
    (folder,) = (runs / name).glob(f"*/{_SERVED_ARTIFACT}/bundle")
    return folder


def write_torch_model(bundle: Path, folder: Path) -> bool:
    """The same model for torch, see `benchmarks.plain_model`; whether its weights are the trained ones.

    Raises:
        LoadTestFailed: it cannot be had; with the last word on why.
    """
    told = _run("writing the model for torch", ["benchmarks.plain_model", str(bundle), str(folder)])
    return json.loads(told.splitlines()[-1])["trained"]


def _run(what: str, module: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise LoadTestFailed(f"{what} failed: {last}")
    return done.stdout
