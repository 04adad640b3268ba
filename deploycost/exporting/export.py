"""From an adapter folder to sealed bundles: merge, write, serve the whole test split, compare, keep or refuse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from deploycost.dataset import LabelledTexts
from deploycost.environment import machine_facts, now, usable_cores
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import ArtifactName, ExportSpec
from deploycost.exporting import calibration
from deploycost.exporting.artifacts import ARTIFACTS, Artifact
from deploycost.exporting.buckets import choose_buckets
from deploycost.exporting.fidelity import accuracy_drop, calibration_error
from deploycost.exporting.graph import write_onnx
from deploycost.exporting.sharing import share_files
from deploycost.exporting.vocabulary import Trimming, trim_vocabulary
from deploycost.exporting.writers import ONNX_FILE, WRITERS, Source
from deploycost.models.adapter_folder import load_merged, read_recipe
from deploycost.models.base import find_base, load_tokenizer
from deploycost.models.first_token import as_served
from deploycost.models.scoring import THRESHOLD, compare, score_task
from deploycost.records import AccuracyDrop, ExportRecord, ModelRecord, Parity, TuningRecord
from deploycost.units import percent
from serving.bundle import Bundle, Manifest, seal_bundle
from serving.classifier import Classifier
from serving.errors import BundleError, EngineError

_TOKENIZER_FILE = "tokenizer.json"
NS_PER_S = 1_000_000_000
# Of labels, and five times that of logits: what a smaller vocabulary may move beyond an artifact's own limits.
_TRIMMED_ALLOWANCE = 0.05
_KEPT = "the trained model is kept"


class Refused(NoAnswer):
    """An artifact that is not kept, with the figures it was judged by where it came to them."""

    def __init__(
        self, variant: str, why: str, parity: Parity | None = None, accuracy_drop: AccuracyDrop | None = None
    ) -> None:
        super().__init__(f"refused {variant}: {why}")
        self.parity = parity
        self.accuracy_drop = accuracy_drop


@dataclass(frozen=True)
class TrainedModel:
    """A tuned or brought model ready to be written in any precision: its plain fp32 graph, its tokenizer, its answers.

    `network` is what the graph was written from, None for a model that came as a graph; `train` are the texts that
    calibrated artifacts watch, None where there are none.

    The labels of `test` are None where nothing is known of them.
    """

    tuning: ModelRecord
    graph_path: Path
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int
    test: LabelledTexts[Any]
    logits: NDArray[np.float32]
    merge_s: float
    network: nn.Module | None = None
    train: LabelledTexts | None = None
    trimming: Trimming | None = None


@dataclass(frozen=True)
class Sealed:
    """A bundle that was written: what merging and writing took, and the texts that a quantiser watched, if any."""

    bundle: Bundle
    export_s: float
    calibration: str


@dataclass(frozen=True)
class Judgement:
    """What a bundle answers to the test split, how far that is from the trained model's answers, and what it costs."""

    logits: NDArray[np.float32]
    parity: Parity
    accuracy_drop: AccuracyDrop | None


def open_trained(
    tuning: TuningRecord,
    adapter_folder: Path,
    logits_path: Path,
    test: LabelledTexts,
    scratch: Path,
    train: LabelledTexts | None = None,
) -> TrainedModel:
    """Merges the adapters on the dequantised base and writes the fp32 graph once into `scratch`.

    Raises:
        UserError: the adapter folder is damaged, or the kept logits are not of this test split.
    """
    began_ns = perf_counter_ns()
    recipe = read_recipe(adapter_folder)
    base = find_base(recipe.base_model)
    max_tokens = recipe.text_tokens(base, int(tuning.hyper_parameters["max_tokens"]))
    graph_path = scratch / ONNX_FILE
    logits = load_file(logits_path)["logits"]
    if len(logits) != len(test.texts):
        raise UserError(f"{logits_path} holds {len(logits)} rows, the test split {len(test.texts)}; build in a new run")
    network = load_merged(adapter_folder)
    write_onnx(as_served(network), max_tokens, graph_path)
    merge_s = (perf_counter_ns() - began_ns) / NS_PER_S
    return TrainedModel(tuning, graph_path, load_tokenizer(base), max_tokens, test, logits, merge_s, network, train)


def with_trimmed_vocabulary(trained: TrainedModel) -> TrainedModel:
    """The same model with the embeddings of its training texts' words only; its graph is written beside the other.

    Raises:
        UserError: it has no network or no training texts, or its vocabulary cannot be cut.
    """
    if trained.network is None or trained.train is None:
        raise UserError(
            "--trim-vocabulary cuts the network's embedding table to the words of the training texts, and this model "
            "came without one of them; build without it"
        )
    began_ns = perf_counter_ns()
    trimming = trim_vocabulary(trained.network, trained.tokenizer, trained.train.texts, trained.test.texts)
    graph_path = trained.graph_path.with_name(f"trimmed-{ONNX_FILE}")
    write_onnx(as_served(trimming.network), trained.max_tokens, graph_path)
    return replace(
        trained,
        network=trimming.network,
        tokenizer=trimming.tokenizer,
        graph_path=graph_path,
        trimming=trimming,
        merge_s=trained.merge_s + (perf_counter_ns() - began_ns) / NS_PER_S,
    )


def export(
    trained: TrainedModel,
    name: ArtifactName,
    folder: Path,
    fingerprint: str,
    wanted: ExportSpec | None = None,
    *,
    max_accuracy_drop: float = 0.01,
    neighbours: Iterable[Path] = (),
) -> ExportRecord:
    """Fills an existing empty folder with one sealed bundle, and judges it through the code that serves it.

    Args:
        trained: What to export.
        name: As which artifact.
        folder: Where to.
        fingerprint: Of all that decides what comes of it.
        wanted: How, where there is a choice.
        max_accuracy_drop: Accuracy, or of a number explained variance, that may be given up: beyond it, the artifact is
            refused where the test rows are evidence enough, and flagged in its record where they are not.
        neighbours: Folders of bundles whose files may be shared.

    Returns:
        The record; the caller writes it, last.

    Raises:
        Refused: the bundle cannot be served, or strays from the trained model beyond its limits; with the figures.
    """
    began_ns = perf_counter_ns()
    source = source_of(trained, ARTIFACTS[name], wanted or ExportSpec(), max_accuracy_drop)
    bundle = write_bundle(trained, name, source, folder)
    export_s = trained.merge_s + (perf_counter_ns() - began_ns) / NS_PER_S
    sealed = Sealed(bundle, export_s, source.calibration.description if source.calibration is not None else "")
    judgement = _judge(trained, ARTIFACTS[name], bundle, max_accuracy_drop)
    return _record(trained, name, fingerprint, sealed, judgement, share_files(bundle, neighbours))


def _record(
    trained: TrainedModel,
    name: ArtifactName,
    fingerprint: str,
    sealed: Sealed,
    judgement: Judgement,
    shared_bytes: int,
) -> ExportRecord:
    served = judgement.logits
    return ExportRecord(
        fingerprint=fingerprint,
        variant=f"{trained.tuning.slug}.{name}",
        method=trained.tuning.method,
        artifact=name,
        engine=ARTIFACTS[name].engine,
        precision=ARTIFACTS[name].precision,
        scores=score_task(trained.tuning.task, trained.test.labels, served),
        parity=judgement.parity,
        size_bytes=sealed.bundle.size_bytes,
        export_s=sealed.export_s,
        bundle_digest=sealed.bundle.digest,
        mean_tokens=trained.tuning.mean_tokens,
        machine=machine_facts(),
        finished_at=now(),
        calibration_error=_calibration_error(trained, served),
        trained_calibration_error=_calibration_error(trained, trained.logits),
        accuracy_drop=judgement.accuracy_drop,
        calibration=sealed.calibration,
        shared_bytes=shared_bytes,
        vocabulary=None
        if trained.trimming is None
        else trained.trimming.record(trained.tuning.task, _known_labels(trained), trained.logits, served),
    )


def _known_labels(trained: TrainedModel) -> Sequence[Any] | None:
    """What is true of each test row; None where nothing is known of them."""
    return None if None in trained.test.labels else trained.test.labels


def _calibration_error(trained: TrainedModel, logits: NDArray[np.float32]) -> float | None:
    labels = _known_labels(trained)
    return calibration_error(labels, logits, trained.tuning.task) if labels is not None else None


def _token_buckets(trained: TrainedModel) -> tuple[int, ...]:
    """The lengths that texts are padded to for an engine that wants few of them, set where the training texts are."""
    if trained.train is None:
        return choose_buckets((), trained.max_tokens)
    drawn = calibration.draw(trained.train, trained.tokenizer, trained.max_tokens)
    lengths = [feed["input_ids"].shape[1] for feed in drawn.feeds()]
    return choose_buckets(lengths, trained.max_tokens)


def source_of(trained: TrainedModel, artifact: Artifact, wanted: ExportSpec, max_accuracy_drop: float) -> Source:
    """What the artifact is written from; texts are drawn for one that is calibrated only."""
    texts = trained.train if artifact.calibrated else None
    one_label_each = trained.tuning.task == "single-label" and texts is not None and None not in texts.labels
    fed = (trained.tokenizer, trained.max_tokens)
    return Source(
        graph_path=trained.graph_path,
        network=trained.network,
        max_tokens=trained.max_tokens,
        calibration=None if texts is None else calibration.draw(texts, *fed),
        validation=calibration.draw_validation(texts, *fed) if texts is not None and one_label_each else None,
        spec=wanted,
        max_accuracy_drop=max_accuracy_drop,
    )


def _judge(trained: TrainedModel, artifact: Artifact, bundle: Bundle, max_accuracy_drop: float) -> Judgement:
    """Judges a bundle on the test split through the code that serves it.

    Raises:
        Refused: it cannot be served, strays beyond its limits, or surely gives up more accuracy than it may.
    """
    variant = bundle.manifest.variant
    try:
        served = Classifier(bundle, threads=len(usable_cores())).logits(trained.test.texts)
    except (BundleError, EngineError) as error:
        raise Refused(variant, f"{error}; {_KEPT}") from None
    # Words that no training text has are split otherwise by a smaller vocabulary, and so answered otherwise.
    more = _TRIMMED_ALLOWANCE if trained.trimming is not None else 0.0
    parity = compare(
        trained.logits,
        served,
        relative_error_limit=artifact.relative_error_limit + 5 * more,
        agreement_limit=artifact.agreement_limit - more,
        task=trained.tuning.task,
    )
    if not parity.ok:
        raise Refused(variant, f"{_strayed(parity)}; {_KEPT}", parity)
    labels, task = _known_labels(trained), trained.tuning.task
    drop = accuracy_drop(labels, trained.logits, served, max_accuracy_drop, task) if labels is not None else None
    if drop is not None and drop.refused:
        raise Refused(variant, f"{_dropped(drop)}; {_KEPT}", parity, drop)
    return Judgement(served, parity, drop)


def write_bundle(trained: TrainedModel, name: ArtifactName, source: Source, folder: Path) -> Bundle:
    """The sealed bundle of one artifact; `Refused` where the model does not lend itself to it."""
    artifact, (model_file, write) = ARTIFACTS[name], WRITERS[name]
    try:
        write(source, folder / model_file)
    except NoAnswer as answer:
        raise Refused(f"{trained.tuning.slug}.{name}", str(answer)) from None
    tokenizer = trained.tokenizer.backend_tokenizer
    # The endpoint truncates and pads by the bundle's own figures.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / _TOKENIZER_FILE))
    pad = trained.tokenizer.pad_token_id
    return seal_bundle(
        folder,
        Manifest(
            variant=f"{trained.tuning.slug}.{name}",
            task=trained.tuning.task,
            labels=trained.tuning.label_names,
            threshold=THRESHOLD if trained.tuning.task == "multi-label" else None,
            engine=artifact.engine,
            precision=artifact.precision,
            model_file=model_file,
            tokenizer_file=_TOKENIZER_FILE,
            max_tokens=trained.max_tokens,
            pad_token_id=pad if isinstance(pad, int) else 0,
            token_buckets=_token_buckets(trained) if artifact.engine == "openvino" else (),
            device=artifact.device,
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


def _dropped(drop: AccuracyDrop) -> str:
    return (
        f"it gives up {100 * drop.value:.2f} points of {drop.measure} (at least {100 * drop.low:.2f} with 95 % "
        f"confidence), more than the {100 * drop.limit:g} of --max-accuracy-drop"
    )
