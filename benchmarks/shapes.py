"""Artifacts of an encoder that cannot be had here: its shape with random weights, which computes as long.

    python -m benchmarks.shapes SHAPE TEXTS FOLDER

Fills FOLDER with a bundle for each artifact that this machine can build, and prints their names in a line of JSON.
Accuracy means nothing here and is not judged; the tokenizer is that of the packaged encoder, BERT's uncased one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig

from deploycost.dataset import LabelledTexts
from deploycost.errors import UserError, unknown_name
from deploycost.experiment import ARTIFACT_NAMES, EMBEDDED_MODEL, ExportSpec
from deploycost.exporting.artifacts import ARTIFACTS, buildable
from deploycost.exporting.export import TrainedModel, source_of, write_bundle
from deploycost.exporting.graph import write_onnx
from deploycost.exporting.sharing import share_files
from deploycost.models.base import find_base, load_tokenizer
from deploycost.models.classifier import TunedClassifier
from deploycost.models.first_token import as_served
from deploycost.records import TuningRecord
from loadtests.workload import read_texts

# The published measures of distilbert-base-uncased, which are its configuration's defaults.
SHAPES: dict[str, Any] = {"distilbert": DistilBertConfig}
_LABELS = ("World", "Sports", "Business", "Sci/Tech")
_MAX_TOKENS = 128


def write_shape(shape: str, texts: list[str], folder: Path) -> list[str]:
    """Bundles in `folder/NAME/bundle`; returns the names. `UserError` for a shape that is unknown."""
    if shape not in SHAPES:
        raise unknown_name("shape", shape, SHAPES)
    torch.manual_seed(0)
    config = SHAPES[shape](num_labels=len(_LABELS))
    classifier = TunedClassifier(AutoModelForSequenceClassification.from_config(config)).requires_grad_(False).eval()
    config.save_pretrained(folder / "model")
    write_onnx(as_served(classifier), _MAX_TOKENS, folder / "model.onnx")
    labelled = LabelledTexts(tuple(texts), tuple(number % len(_LABELS) for number in range(len(texts))))
    tuning = TuningRecord.model_construct(
        slug=shape, method="none", base_model=shape, label_names=_LABELS, dataset="none", fingerprint="none"
    )
    trained = TrainedModel(
        tuning=tuning,
        graph_path=folder / "model.onnx",
        tokenizer=load_tokenizer(find_base(EMBEDDED_MODEL)),
        max_tokens=_MAX_TOKENS,
        test=labelled,
        logits=np.zeros((len(texts), len(_LABELS)), dtype=np.float32),
        merge_s=0.0,
        network=classifier,
        train=labelled,
    )
    names, _ = buildable(ARTIFACT_NAMES)
    for name in names:
        bundle_folder = folder / name / "bundle"
        bundle_folder.mkdir(parents=True)
        bundle = write_bundle(trained, name, source_of(trained, ARTIFACTS[name], ExportSpec(), 1.0), bundle_folder)
        share_files(bundle, [folder / other / "bundle" for other in names if other != name])
    return list(names)


def main(arguments: list[str]) -> int:
    """Write them, and tell which."""
    shape, texts, folder = arguments
    try:
        names = write_shape(shape, read_texts(texts), Path(folder))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({"artifacts": names}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
