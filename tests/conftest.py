"""Tiny real encoders of each family and a task they can learn, made on the spot: nothing is downloaded."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from deploycost.dataset import Dataset, LabelledTexts
from deploycost.demo_news import generate_news

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
    from deploycost.experiment import Experiment, TrainingSpec
    from deploycost.models.base import find_base
    from deploycost.tuning.training import TuningJob, tune

    done: dict[tuple[str, str], Tuned] = {}
    spec = TrainingSpec(epochs=2, learning_rate=3e-3, virtual_tokens=4, max_tokens=48, mixed_precision=False)

    def get(family: str, method: Any) -> Tuned:
        if (family, method) not in done:
            base = find_base(str(tiny_bases[family]))
            experiment = Experiment(model=base.name, methods=(method,), training=spec)
            folder = tmp_path_factory.mktemp(f"{family}-{method}")
            job = TuningJob(experiment, method, base, toy_dataset, fingerprint="mark")
            done[family, method] = Tuned(tune(job, folder, lambda *_: None), folder, toy_dataset, base)
        return done[family, method]

    return get


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
