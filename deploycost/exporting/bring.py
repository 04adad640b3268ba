"""From a brought model to what tuned ones leave: its answers, its scores, and a graph to make artifacts of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from deploycost.brought_model import BroughtModel, label_names_of
from deploycost.dataset import Dataset
from deploycost.environment import machine_facts, now
from deploycost.errors import UserError
from deploycost.exporting.export import NS_PER_S, TrainedModel
from deploycost.exporting.given_graph import GivenGraph, answers_of, open_graph, write_plain
from deploycost.exporting.graph import write_onnx
from deploycost.exporting.writers import ONNX_FILE
from deploycost.label_match import match_labels
from deploycost.models.brought import config_limit, load_network, open_tokenizer, tokenizer_limit
from deploycost.models.classifier import TunedClassifier
from deploycost.models.encoding import EncodedTexts, encode, logits_of
from deploycost.models.first_token import as_served
from deploycost.models.scoring import score_task
from deploycost.records import BroughtRecord
from serving.bundle import Task

# Where neither the model nor its tokenizer says how much it takes.
_USUAL_MAX_TOKENS = 128


@dataclass(frozen=True)
class OpenedModel:
    """A brought model in memory: as a network, or as the graph that it came as.

    `label_names` are its own where its files name them; `max_tokens` None where nothing says.
    """

    brought: BroughtModel
    made_of: TunedClassifier | GivenGraph
    architecture: str
    label_names: tuple[str, ...] | None
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int
    notes: tuple[str, ...]
    open_s: float

    @property
    def network(self) -> TunedClassifier | None:
        """The network in plain fp32; None where only a graph was brought."""
        return self.made_of if isinstance(self.made_of, TunedClassifier) else None

    def answers(self, texts: tuple[str, ...]) -> tuple[NDArray[np.float32], EncodedTexts]:
        """Logits [texts, labels] of the model as it was brought, and the tokens that it was fed.

        Raises:
            UserError: it fails on a text.
        """
        encoded = encode(self.tokenizer, texts, [0] * len(texts), self.max_tokens)
        if isinstance(self.made_of, GivenGraph):
            return answers_of(self.made_of, encoded), encoded
        try:
            return logits_of(self.made_of, encoded), encoded
        except Exception as error:  # noqa: BLE001 - networks fail in as many ways as there are architectures
            told = " ".join(str(error).split())[:200]
            source = self.brought.spec.source
            raise UserError(f"{source!r}, a {self.architecture}, does not run on texts: {told}") from None


def open_brought(brought: BroughtModel) -> OpenedModel:
    """Loads a brought model.

    Raises:
        UserError: it is damaged, no classifier, or what it needs is missing; one line.
    """
    began_ns = perf_counter_ns()
    tokenizer = open_tokenizer(brought)
    if brought.kind == "onnx":
        graph = open_graph(brought.place, brought.task)
        producer = f" by {graph.model.producer_name}" if graph.model.producer_name else ""
        architecture = f"ONNX graph of {len(graph.model.graph.node)} nodes{producer}"
        made_of, names, limit, notes = graph, label_names_of(brought.config), config_limit(brought.config), graph.notes
    else:
        loaded = load_network(brought)
        _refuse_larger_tokenizer(brought, tokenizer, loaded.network)
        made_of, architecture, names, limit = loaded.network, loaded.architecture, loaded.label_names, loaded.max_tokens
        notes = ()
    max_tokens, note = _max_tokens(brought, limit, tokenizer_limit(tokenizer))
    notes = (*notes, *([note] if note else ()))
    open_s = (perf_counter_ns() - began_ns) / NS_PER_S
    return OpenedModel(brought, made_of, architecture, names, tokenizer, max_tokens, notes, open_s)


def judge(
    opened: OpenedModel, dataset: Dataset[Any], task: Task, fingerprint: str
) -> tuple[BroughtRecord, NDArray[np.float32]]:
    """What the brought model answers to the test texts [rows, labels], and the record of it.

    Raises:
        UserError: it does not answer, or its labels do not fit the task or the data set's.
    """
    brought = opened.brought
    logits, fed = opened.answers(dataset.test.texts)
    if not np.isfinite(logits).all():
        raise UserError(f"{brought.spec.source!r} answers with numbers that are not finite; nothing can be made of it")
    width = logits.shape[1]
    names = opened.label_names or tuple(f"LABEL_{number}" for number in range(width))
    _check_width(brought, names, width, task)
    if isinstance(opened.made_of, GivenGraph):
        _refuse_probabilities(brought.spec.source, opened.made_of, logits, task)
    label_names, test, note = match_labels(names, dataset, task)
    record = BroughtRecord(
        fingerprint=fingerprint,
        slug=brought.spec.name,
        source=brought.spec.source,
        kind=brought.kind,
        architecture=opened.architecture,
        digest=brought.digest,
        base_model=brought.base.name if brought.base else brought.spec.source,
        task=task,
        label_names=label_names,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        dataset_description=dataset.description,
        dataset_generated=dataset.generated,
        notes=(*opened.notes, *([note] if note else ())),
        max_tokens=opened.max_tokens,
        scores=score_task(task, test.labels, logits),
        total_parameters=_parameters(opened),
        mean_tokens=fed.mean_tokens,
        whole_mean_tokens=fed.whole_mean_tokens,
        machine=machine_facts(),
        finished_at=now(),
    )
    return record, logits


def trained_model(
    opened: OpenedModel, record: BroughtRecord, dataset: Dataset[Any], logits: NDArray[np.float32], scratch: Path
) -> TrainedModel:
    """A brought model ready to be written in any precision, its plain fp32 graph written once into `scratch`.

    Raises:
        UserError: its architecture cannot be written as a graph.
    """
    began_ns = perf_counter_ns()
    path = scratch / ONNX_FILE
    if isinstance(opened.made_of, GivenGraph):
        write_plain(opened.made_of, logits.shape[1], path)
    else:
        try:
            write_onnx(as_served(opened.made_of), opened.max_tokens, path)
        except Exception as error:  # noqa: BLE001 - the exporter raises as many kinds as there are architectures
            told = " ".join(str(error).split())[:200]
            raise UserError(f"{opened.architecture} cannot be written as an ONNX graph: {told}") from None
    _, test, _ = match_labels(record.label_names, dataset, record.task)
    # Quantisers that mind accuracy judge by these: they too are told in the model's ids.
    _, train, _ = match_labels(record.label_names, replace(dataset, test=dataset.train), record.task)
    merge_s = opened.open_s + (perf_counter_ns() - began_ns) / NS_PER_S
    fed = (opened.tokenizer, opened.max_tokens, test, logits, merge_s)
    return TrainedModel(record, path, *fed, network=opened.network, train=train)


def _max_tokens(brought: BroughtModel, *limits: int | None) -> tuple[int, str]:
    known = [limit for limit in limits if limit is not None]
    asked = brought.spec.max_tokens
    if asked is not None and known and asked > min(known):
        raise UserError(f"--max-tokens {asked}: {brought.spec.source!r} takes at most {min(known)}")
    if asked is not None or known:
        return asked or min(known), ""
    note = f"nothing says how many tokens it takes: {_USUAL_MAX_TOKENS} are fed at most (--max-tokens)"
    return _USUAL_MAX_TOKENS, note


def _refuse_larger_tokenizer(
    brought: BroughtModel, tokenizer: PreTrainedTokenizerFast, network: TunedClassifier
) -> None:
    """Refuses tokens that the network has no embedding of: the first text with one would break the endpoint."""
    model: Any = network.model
    rows, highest = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise UserError(
            f"{brought.spec.source!r} has embeddings of {rows} tokens, and its tokenizer numbers them up to {highest}: "
            "they do not belong together; give its own with --tokenizer"
        )


def _check_width(brought: BroughtModel, names: tuple[str, ...], width: int, task: Task) -> None:
    source = brought.spec.source
    if len(names) != width:
        raise UserError(f"{source!r} answers with {width} scores, its config.json names {len(names)} labels")
    if task == "regression" and width != 1:
        raise UserError(f"{source!r} answers with {width} numbers; expected one of a regression, see --task")
    if task == "single-label" and width < 2:
        raise UserError(f"{source!r} answers with one number: it is no choice of a label; give --task regression")


def _refuse_probabilities(source: str, graph: GivenGraph, logits: NDArray[np.float32], task: Task) -> None:
    """Refuses a graph with a softmax or sigmoid that nobody recognised: the endpoint would compute it once more."""
    if task == "regression" or not ((logits >= 0) & (logits <= 1)).all():
        return
    # Logits between 0 and 1 give every label to every text, and so may those of a model that has learnt nothing.
    if np.allclose(logits.sum(axis=1), 1, atol=1e-3) if task == "single-label" else graph.holds("Sigmoid"):
        raise UserError(
            f"{source!r} answers with probabilities, and the endpoint makes those of logits; export the graph without "
            "its last softmax or sigmoid"
        )


def _parameters(opened: OpenedModel) -> int:
    if isinstance(opened.made_of, GivenGraph):
        return opened.made_of.parameters
    return sum(parameter.numel() for parameter in opened.made_of.parameters())
