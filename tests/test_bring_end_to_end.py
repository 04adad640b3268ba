"""The whole way of a model that is brought, with real processes: read, export, serve, load-test, quote, report."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.dataset import Dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LABELS = ("World", "Sports", "Business")  # in the model's own order; the data set's is that of the alphabet
TEXTS = ("--dataset", "toy")


def call(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "deploycost", *arguments], cwd=place, capture_output=True, text=True, timeout=300,
        check=False, env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tuned: Callable[..., Any], toy_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained classifier, its texts, and a run `own` made of both."""
    from transformers import AutoTokenizer

    from deploycost.models.adapter_folder import load_merged

    place = tmp_path_factory.mktemp("brought")
    made = tuned("bert", "full")
    load_merged(made.folder).model.save_pretrained(place / "model")
    AutoTokenizer.from_pretrained(made.base.place).save_pretrained(place / "model")
    (place / "toy").mkdir()
    for name, split in (("train", toy_dataset.train), ("test", toy_dataset.test)):
        rows = zip(split.texts, split.labels, strict=True)
        lines = [json.dumps({"text": text, "label": LABELS[label]}) + "\n" for text, label in rows]
        (place / "toy" / f"{name}.jsonl").write_text("".join(lines))
    call(place, "build", "--run", "own", "--from", "model", *TEXTS)
    return place


def record(place: Path, *path: str) -> dict[str, Any]:
    return json.loads(place.joinpath("runs", *path).read_text(encoding="utf-8"))


def test_a_classifier_becomes_a_variant_with_its_artifacts(place: Path) -> None:
    brought = record(place, "own", "own", "brought.json")
    assert (brought["kind"], brought["architecture"]) == ("classifier", "BertForSequenceClassification")
    assert brought["label_names"] == list(LABELS)
    assert brought["scores"]["accuracy"] > 0.6  # one in three by chance
    assert brought["training_s"] is None
    for artifact in ("onnx-fp32", "onnx-int8"):
        assert record(place, "own", "own", artifact, "export.json")["variant"] == f"own.{artifact}"
    assert record(place, "own", "own", "onnx-fp32", "export.json")["scores"] == brought["scores"]


def test_what_is_unchanged_is_kept_and_what_changed_is_read_anew(place: Path) -> None:
    assert "own: done before, kept" in call(place, "build", "--run", "own", "--from", "model", *TEXTS).stderr
    path = place / "model" / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")
    again = ("build", "--run", "own", "--from", "model", *TEXTS, "--artifacts", "onnx-int8")
    assert "own: reading, onnx-int8" in call(place, *again).stderr


def test_load_test_quote_and_report_without_an_accuracy(place: Path) -> None:
    texts = "".join(json.dumps({"text": f"word number {n} of the news"}) + "\n" for n in range(60))
    (place / "texts.jsonl").write_text(texts)
    build = ("build", "--run", "texts", "--from", "model", "--dataset", "texts.jsonl", "--name", "mine", "--json")
    (variant,) = json.loads(call(place, *build, "--artifacts", "onnx-int8").stdout)["variants"]
    assert (variant["variant"], variant["accuracy"], variant["training_s"]) == ("mine.onnx-int8", None, None)
    assert variant["parity"]["agreement_ratio"] > 0.9
    call(place, "loadtest", "--run", "texts", "--precision", "quick")
    load = record(place, "texts", "mine", "onnx-int8", "load.json")
    assert load["capacity_rps"]["value"] > 20
    (parity,) = (each for each in load["certificate"]["checks"] if each["name"] == "output_parity")
    assert parity["value"] > 0.9
    sheet = json.loads(call(place, "quote", "--run", "texts", "--cloud", "aws-c7i.large", "--json").stdout)
    (quote,) = sheet["quotes"]
    assert quote["accuracy"]["value"] is None
    assert quote["usd_per_million"]["per_correct"]["value"] is None
    assert quote["usd_per_million"]["planned"]["value"] > 0
    assert "the accuracy of mine is unknown, so what a right answer costs is too" in sheet["warnings"]
    call(place, "report", "--run", "texts")
    page = (place / "runs" / "texts" / "report.md").read_text(encoding="utf-8")
    assert "## Models that were brought" in page
    assert "no labelled texts, so accuracy is unknown" in page


def test_an_onnx_file_with_its_tokenizer(place: Path) -> None:
    folder = place / "graph"
    folder.mkdir()
    shutil.copy(place / "runs" / "own" / "own" / "onnx-fp32" / "bundle" / "model.onnx", folder)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(place / "model" / name, folder)
    call(
        place,
        "build",
        "--run",
        "own",
        "--from",
        "graph/model.onnx",
        "--name",
        "graph",
        *TEXTS,
        "--artifacts",
        "onnx-fp32",
    )
    exported = record(place, "own", "graph", "onnx-fp32", "export.json")
    assert exported["parity"]["relative_error"] < 1e-6
    assert exported["scores"] == record(place, "own", "own", "onnx-fp32", "export.json")["scores"]
    done = call(place, "loadtest", "--run", "own", "gaph.onnx-fp32", code=2)
    assert "did you mean 'graph.onnx-fp32'?" in done.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--from", "model", "--method", "lora"), "--from brings a model that is trained already: leave out --method"),
        (("--from", "model", "--epochs", "3", "--rank", "4"), "leave out --epochs, --rank"),
        (("--name", "x"), "--name is of a model that is brought: name it with --from"),
        (("--method", "lora", "--task", "regression"), "--task is of a model that is brought: name it with --from"),
        (("--from", "model", "--task", "several"), "brought.0.task: unknown 'several'; known: single-label"),
        (("--from", "model", "--name", "../up"), "brought.0.name"),
        (("--from", "nowhere/at/all"), "no such model to bring: nowhere/at/all"),
    ],
)
def test_requests_that_are_wrong_are_one_line_and_leave_nothing(
    place: Path, tmp_path: Path, flags: tuple[str, ...], line: str
) -> None:
    shutil.copytree(place / "model", tmp_path / "model")
    done = call(tmp_path, "build", "--dataset", "demo", *flags, code=2)
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_model_that_does_not_fit_the_texts_leaves_nothing_half_made(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "model", tmp_path / "model")
    rows = "".join(json.dumps({"text": f"t{n}", "label": ("dog", "cat")[n % 2]}) + "\n" for n in range(40))
    (tmp_path / "pets.jsonl").write_text(rows)
    done = call(tmp_path, "build", "--from", "model", "--dataset", "pets.jsonl", code=2)
    assert "'cat', 'dog' are not among 'World', 'Sports', 'Business'" in done.stderr.splitlines()[-1]
    left = {path.name for path in (tmp_path / "runs" / "default").rglob("*") if path.is_file()}
    assert left <= {"experiment.yaml", ".lock"}
