"""What several test folders share: tiny real encoders with a task they can learn, and records with round numbers.

Nothing is downloaded; the records' figures are such that what comes of them can be worked out by hand.
"""

import datetime
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from deploycost.dataset import Dataset, LabelledTexts
from deploycost.demo_news import generate_news
from deploycost.environment import MachineFacts
from deploycost.records import (
    LOAD_RULES,
    BroughtRecord,
    Certificate,
    Check,
    CurvePoint,
    EpochScores,
    ExportRecord,
    Figure,
    LoadRecord,
    MemoryUse,
    Parity,
    Scores,
    Slo,
    TuningRecord,
    Variant,
)
from deploycost.study_record import CellMeasurement, TrainingConditions
from deploycost.units import MIB
from pricing.book import Offer

# Processes that tests start run what is tested, not what is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
# A suite that is started in the background ignores Ctrl-C, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _shipped_prices_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test meets the price files of whoever runs it, in this process or in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOYCOST_PRICES_DIR", str(tmp_path_factory.mktemp("prices")))
        yield


WHEN = "2026-01-02T03:04:05+00:00"
MACHINE = MachineFacts(
    cpu_model="Test CPU", cpu_cores=2, memory_bytes=8 * 1024**3, platform="Linux x86_64", python="3.11", packages={}
)

FAMILIES = ("bert", "distilbert", "roberta")
MAX_POSITIONS = 64
VOCABULARY = 320  # RoBERTa's alphabet alone takes 256
WIDTH, LAYERS, HEADS, INNER = 32, 2, 4, 64


@dataclass(frozen=True)
class Tuned:
    """What `tune` left of one method on one family."""

    record: Any
    folder: Path
    dataset: Dataset
    base: Any


@pytest.fixture(scope="session")
def offline() -> Iterator[None]:
    """The hub's client never asks the network, in this process and in those it starts."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory, offline: None) -> dict[str, Path]:
    """Folders of saved encoders by family: two layers of width 32, 64 positions, random weights, a real tokenizer."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("bases")
    texts, _, _ = generate_news(rows=300)
    torch.set_num_threads(1)  # networks this small only wait for one another
    torch.manual_seed(0)
    for family, make in {"bert": _bert, "distilbert": _distilbert, "roberta": _roberta}.items():
        tokenizer, model = make(texts)
        # Larger than fresh weights, so that the encoder tells texts apart without being trained.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:
                    parameter.mul_(8 if "embeddings" in name else 5)
        model.save_pretrained(root / family)
        tokenizer.save_pretrained(root / family)
    return {family: root / family for family in FAMILIES}


@pytest.fixture(scope="session")
def toy_dataset() -> Dataset:
    """Three classes, each with words of its own among common ones; 180 training and 61 test rows of 4 to 20 words."""
    own = (("treaty", "minister", "border"), ("match", "goal", "coach"), ("profit", "shares", "bank"))
    common = ("the", "a", "on", "after", "said", "new", "for", "with", "in", "late")
    draw = Random(7)
    rows = []
    for number in range(241):
        words = [draw.choice(own[number % 3] if draw.random() < 0.6 else common) for _ in range(draw.randint(4, 20))]
        rows.append((" ".join([*words, draw.choice(own[number % 3])]), number % 3))
    texts, labels = zip(*rows, strict=True)
    return Dataset(
        name="toy",
        label_names=("World", "Sports", "Business"),
        train=LabelledTexts(texts[:180], labels[:180]),
        test=LabelledTexts(texts[180:], labels[180:]),
        fingerprint="toy",
        description="toy: 180 training and 61 test rows in 3 classes",
        generated=True,
    )


@pytest.fixture(scope="session")
def tuned(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Tuned]:
    """Tunes a family by a method, once a session: `tuned("bert", "stacked")`."""
    from deploycost.experiment import Experiment, PromptSpec, TrainingSpec
    from deploycost.models.base import find_base
    from deploycost.tuning.training import TuningJob, tune

    done: dict[tuple[str, str], Tuned] = {}
    prompt = PromptSpec(virtual_tokens=4)
    spec = TrainingSpec(epochs=2, learning_rate=3e-3, prompt=prompt, max_tokens=48, mixed_precision=False)

    def get(family: str, method: Any) -> Tuned:
        if (family, method) not in done:
            base = find_base(str(tiny_bases[family]))
            experiment = Experiment(model=base.name, methods=(method,), training=spec)
            folder = tmp_path_factory.mktemp(f"{family}-{method}")
            job = TuningJob(experiment, method, base, toy_dataset, fingerprint="mark")
            done[family, method] = Tuned(tune(job, folder, lambda *_: None), folder, toy_dataset, base)
        return done[family, method]

    return get


@pytest.fixture(scope="session")
def tiny_classifier(tiny_bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of saved sequence classifiers, once a session: `tiny_classifier("bert", "multi-label", "World", ...)`."""
    from serving.bundle import Task

    done: dict[tuple[str, ...], Path] = {}
    problems: dict[Task, str] = {
        "single-label": "single_label_classification", "multi-label": "multi_label_classification",
        "regression": "regression",
    }  # fmt: skip

    def get(family: str, task: Task, *labels: str) -> Path:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if (family, task, *labels) not in done:
            torch.manual_seed(1)
            folder = tmp_path_factory.mktemp(f"{family}-{task}")
            fields: dict[str, Any] = {
                "num_labels": len(labels), "id2label": dict(enumerate(labels)), "problem_type": problems[task],
                "label2id": {name: number for number, name in enumerate(labels)},
            }  # fmt: skip
            if family == "electra":
                model = _electra(fields)
            else:
                model = AutoModelForSequenceClassification.from_pretrained(tiny_bases[family], **fields)
            with torch.no_grad():  # else all texts would get nearly the same numbers
                for name, parameter in model.named_parameters():
                    if parameter.ndim == 2 and ("classifier" in name or family == "electra"):
                        parameter.mul_(8)
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(tiny_bases["bert" if family == "electra" else family]).save_pretrained(folder)
            done[family, task, *labels] = folder
        return done[family, task, *labels]

    return get


def _electra(fields: dict[str, Any]) -> Any:
    from transformers import ElectraConfig, ElectraForSequenceClassification

    config = ElectraConfig(
        vocab_size=VOCABULARY, embedding_size=WIDTH, hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, intermediate_size=INNER, max_position_embeddings=MAX_POSITIONS, **fields,
    )  # fmt: skip
    return ElectraForSequenceClassification(config)


def _bert(texts: list[str]) -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel, BertTokenizer

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=INNER, max_position_embeddings=MAX_POSITIONS,
    )  # fmt: skip
    return BertTokenizer(_word_pieces(texts), model_max_length=MAX_POSITIONS), BertModel(config)


def _distilbert(texts: list[str]) -> tuple[Any, Any]:
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizer

    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
        max_position_embeddings=MAX_POSITIONS,
    )  # fmt: skip
    return DistilBertTokenizer(_word_pieces(texts), model_max_length=MAX_POSITIONS), DistilBertModel(config)


def _roberta(texts: list[str]) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    learnt = json.loads(trained.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = RobertaTokenizer(learnt["vocab"], merges)
    # Positions are counted from the padding id, 1: two rows of the table are never used.
    config = RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=INNER, max_position_embeddings=MAX_POSITIONS + 2, type_vocab_size=1,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return tokenizer, RobertaModel(config, add_pooling_layer=False)


def _word_pieces(texts: list[str]) -> dict[str, int]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer()
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    )
    return trained.get_vocab()


@pytest.fixture(scope="session")
def make_offer() -> Callable[..., Offer]:
    def make(**changes: Any) -> Offer:
        fields: dict[str, Any] = {
            "cloud": "aws", "region": "us-east-1", "instance_type": "x.large", "family": "aws-x", "vcpus": Decimal(2),
            "memory_gib": Decimal(4), "accelerator_name": None, "accelerator_count": Decimal(0),
            "accelerator_memory_gib": None, "purchase_option": "on-demand", "usd_per_hour": Decimal("0.1"),
            "source": "price list", "as_of": datetime.date(2026, 7, 20), "note": "", "vcpu_is": "thread",
            "cpu_model": "Xeon", "architecture": "x86_64",
            "sustained_cpu_ratio": Decimal(1),
        }  # fmt: skip
        return Offer(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_load() -> Callable[..., LoadRecord]:
    def make(capacity: float | None = 100.0, low: float | None = 90.0, high: float | None = 110.0, **changes: Any):  # noqa: ANN202
        curve = tuple(
            CurvePoint(
                rate_rps=share * (capacity or 100.0), achieved_rps=share * (capacity or 100.0), p50_ms=p95 / 2,
                p95_ms=p95, p99_ms=None, errors=0, requests=1000, duration_s=10.0, meets_slo=p95 <= 100,
            )
            for share, p95 in ((0.5, 20.0), (0.8, 40.0), (1.0, 90.0), (1.2, 400.0))
        )  # fmt: skip
        fields: dict[str, Any] = {
            "fingerprint": "f", "variant": "full.onnx-int8", "slo": Slo(p95_ms=100.0),
            "capacity_rps": Figure(value=capacity, low=low, high=high), "curve": curve,
            "memory_bytes": MemoryUse(idle=100 * MIB, at_capacity=200 * MIB, peak=256 * MIB), "startup_s": 1.0,
            "server_cores": 1, "server_cpu_ratio": 0.9, "client_cpu_ratio": 0.2, "mean_tokens": 50.0,
            "certificate": Certificate(certified=True, checks=(Check(name="drift", ok=True, value=0, limit=1),)),
            "environment": MACHINE, "bundle_digest": "d" * 64, "seed": 1, "duration_s": 60.0, "finished_at": WHEN,
            "rules": LOAD_RULES,
        }  # fmt: skip
        return LoadRecord(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_variant(make_load: Callable[..., LoadRecord]) -> Callable[..., Variant]:
    def make(name: str = "full.onnx-int8", accuracy: float = 0.9, **changes: Any) -> Variant:
        method, artifact = name.split(".", 1)
        scores = Scores(accuracy=accuracy, macro_f1=accuracy, precision=accuracy, recall=accuracy, rows=1000)
        tuning = TuningRecord(
            fingerprint="f", method=method, slug=method, base_model="minilm", label_names=("a", "b"), dataset="demo",
            dataset_fingerprint="f", dataset_description="", dataset_generated=True, train_rows=10,
            hyper_parameters={}, scores=scores, epochs=(), final_loss=0.5, training_s=3_000.0, samples_per_s=1,
            tokens_per_s=50, step_ms_p50=1, step_ms_p95=2, baseline_memory_bytes=1, peak_memory_bytes=2,
            baseline_pss_bytes=1, peak_pss_bytes=2, peak_gpu_memory_bytes=None, peak_gpu_nvml_bytes=None,
            predicted_memory=None, energy_joules=None, energy_source="", trainable_parameters=1, head_parameters=1,
            total_parameters=1, mean_tokens=50, machine=MACHINE, finished_at=WHEN,
        )  # fmt: skip
        parity = Parity(
            relative_error=0, relative_error_limit=1, agreement_ratio=1, agreement_high=1, agreement_limit=0.9
        )
        export = ExportRecord(
            fingerprint="f", variant=name, method=method, artifact=artifact, engine="onnxruntime", precision="int8",
            scores=scores, parity=parity, size_bytes=1, export_s=600.0, bundle_digest="d" * 64, mean_tokens=50,
            machine=MACHINE, finished_at=WHEN,
        )  # fmt: skip
        fields: dict[str, Any] = {"load": make_load(variant=name)}
        return Variant(tuning=tuning, export=export, **(fields | changes))

    return make


@pytest.fixture(scope="session")
def make_brought(make_variant: Callable[..., Variant]) -> Callable[..., Variant]:
    """A variant of a model that was brought, of unknown accuracy unless scores are given."""

    def make(name: str = "own.onnx-int8", scores: Any = None, task: Any = "single-label", **changes: Any) -> Variant:
        variant = make_variant(name, **changes)
        export = variant.export.model_copy(update={"scores": scores, "method": "brought"})
        brought = BroughtRecord(
            fingerprint="f", slug=name.partition(".")[0], source="model", kind="classifier",
            architecture="BertForSequenceClassification", digest="d" * 64, base_model="model", task=task,
            label_names=("a", "b"), dataset="texts", dataset_fingerprint="f", dataset_description="", notes=("a note",),
            dataset_generated=False, max_tokens=64, scores=scores, total_parameters=1_000_000, mean_tokens=50,
            machine=MACHINE, finished_at=WHEN,
        )  # fmt: skip
        return variant.model_copy(update={"tuning": brought, "export": export})

    return make


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., CellMeasurement]:
    def make(accuracy: float = 0.8, **changes: Any) -> CellMeasurement:
        scores = Scores(accuracy=accuracy, macro_f1=accuracy, precision=accuracy, recall=accuracy, rows=1000)
        epochs = tuple(EpochScores(epoch=n, train_loss=0.5, scores=scores, duration_s=30.0) for n in (1.0, 2.0))
        conditions = TrainingConditions(epochs=2, train_rows=800, batch_size=8, learning_rate=1e-3, settings={})
        fields: dict[str, Any] = {
            "scores": scores, "training_s": 60.0, "samples_per_s": 10.0, "tokens_per_s": 500.0,
            "memory_bytes": 400_000_000, "memory_source": "process", "predicted_memory_bytes": None,
            "trainable_parameters": 1_000, "head_parameters": 100, "total_parameters": 100_000, "step_ms_p50": 100.0,
            "step_ms_p95": 150.0, "epochs": epochs, "conditions": conditions, "finished_at": WHEN,
            "machine": MACHINE.model_copy(update={"cpu_cores": 1}),
        }  # fmt: skip
        return CellMeasurement(**(fields | changes))

    return make
