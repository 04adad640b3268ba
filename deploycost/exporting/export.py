"""From an adapter folder to sealed bundles: merge, write, serve the whole test split, compare, keep or refuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import PreTrainedTokenizerFast

from deploycost.dataset import LabelledTexts
from deploycost.environment import machine_facts, now, usable_cores
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import ArtifactName
from deploycost.exporting.artifacts import ARTIFACTS, Artifact
from deploycost.exporting.graph import write_int8, write_onnx
from deploycost.models.adapter_folder import load_merged, read_recipe
from deploycost.models.base import find_base, load_tokenizer
from deploycost.models.scoring import THRESHOLD, compare, score_task
from deploycost.records import ExportRecord, ModelRecord, Parity, TuningRecord
from deploycost.units import percent
from serving.bundle import Bundle, Manifest, seal_bundle
from serving.classifier import Classifier
from serving.errors import BundleError, EngineError

_MODEL_FILE, _TOKENIZER_FILE = "model.onnx", "tokenizer.json"
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class TrainedModel:
    """A tuned or brought model ready to be written in any precision: its plain fp32 graph, its tokenizer, its answers.

    The labels of `test` are None where nothing is known of them.
    """

    tuning: ModelRecord
    graph_path: Path
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int
    test: LabelledTexts[Any]
    logits: NDArray[np.float32]
    merge_s: float


def open_trained(
    tuning: TuningRecord, adapter_folder: Path, logits_path: Path, test: LabelledTexts, scratch: Path
) -> TrainedModel:
    """Merges the adapters on the dequantised base and writes the fp32 graph once into `scratch`.

    Raises:
        UserError: the adapter folder is damaged, or the kept logits are not of this test split.
    """
    began_ns = perf_counter_ns()
    recipe = read_recipe(adapter_folder)
    base = find_base(recipe.base_model)
    max_tokens = recipe.text_tokens(base, int(tuning.hyper_parameters["max_tokens"]))
    graph_path = scratch / _MODEL_FILE
    logits = load_file(logits_path)["logits"]
    if len(logits) != len(test.texts):
        raise UserError(f"{logits_path} holds {len(logits)} rows, the test split {len(test.texts)}; build in a new run")
    write_onnx(load_merged(adapter_folder), max_tokens, graph_path)
    merge_s = (perf_counter_ns() - began_ns) / NS_PER_S
    return TrainedModel(tuning, graph_path, load_tokenizer(base), max_tokens, test, logits, merge_s)


def export(trained: TrainedModel, name: ArtifactName, folder: Path, fingerprint: str) -> ExportRecord:
    """Fills an existing empty folder with one sealed bundle, and judges it through the code that serves it.

    Returns:
        The record; the caller writes it, last.

    Raises:
        NoAnswer: the bundle cannot be served, or strays from the trained model beyond its limits; with the figures.
    """
    artifact = ARTIFACTS[name]
    variant = f"{trained.tuning.slug}.{name}"
    began_ns = perf_counter_ns()
    bundle = _write_bundle(trained, artifact, variant, folder)
    export_s = trained.merge_s + (perf_counter_ns() - began_ns) / NS_PER_S
    served, parity = _judge(trained, artifact, bundle)
    return ExportRecord(
        fingerprint=fingerprint,
        variant=variant,
        method=trained.tuning.method,
        artifact=name,
        engine=artifact.engine,
        precision=artifact.precision,
        scores=score_task(trained.tuning.task, trained.test.labels, served),
        parity=parity,
        size_bytes=bundle.size_bytes,
        export_s=export_s,
        bundle_digest=bundle.digest,
        mean_tokens=trained.tuning.mean_tokens,
        machine=machine_facts(),
        finished_at=now(),
    )


def _judge(trained: TrainedModel, artifact: Artifact, bundle: Bundle) -> tuple[NDArray[np.float32], Parity]:
    """What the bundle answers to the test split, and how far that is from the trained model's answers."""
    variant = bundle.manifest.variant
    try:
        served = Classifier(bundle, threads=len(usable_cores())).logits(trained.test.texts)
    except (BundleError, EngineError) as error:
        raise NoAnswer(f"refused {variant}: {error}; the trained model is kept") from None
    parity = compare(
        trained.logits,
        served,
        relative_error_limit=artifact.relative_error_limit,
        agreement_limit=artifact.agreement_limit,
        task=trained.tuning.task,
    )
    if not parity.ok:
        raise NoAnswer(f"refused {variant}: {_strayed(parity)}; the trained model is kept")
    return served, parity


def _write_bundle(trained: TrainedModel, artifact: Artifact, variant: str, folder: Path) -> Bundle:
    model_path = folder / _MODEL_FILE
    if artifact.precision == "int8":
        write_int8(trained.graph_path, model_path)
    else:
        model_path.write_bytes(trained.graph_path.read_bytes())
    tokenizer = trained.tokenizer.backend_tokenizer
    # The endpoint truncates and pads by the bundle's own figures.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / _TOKENIZER_FILE))
    pad = trained.tokenizer.pad_token_id
    return seal_bundle(
        folder,
        Manifest(
            variant=variant,
            task=trained.tuning.task,
            labels=trained.tuning.label_names,
            threshold=THRESHOLD if trained.tuning.task == "multi-label" else None,
            engine=artifact.engine,
            precision=artifact.precision,
            model_file=_MODEL_FILE,
            tokenizer_file=_TOKENIZER_FILE,
            max_tokens=trained.max_tokens,
            pad_token_id=pad if isinstance(pad, int) else 0,
            provenance={
                "base_model": trained.tuning.base_model,
                "method": trained.tuning.method,
                "dataset": trained.tuning.dataset,
                "tuning_fingerprint": trained.tuning.fingerprint,
            },
        ),
    )


def _strayed(parity: Parity) -> str:
    return (
        f"its logits are {parity.relative_error:.3g} of their spread away from the trained model's "
        f"(limit {parity.relative_error_limit:g}) and it gives the same answer for {percent(parity.agreement_ratio)} "
        f"of the test texts (limit {percent(parity.agreement_limit)})"
    )
