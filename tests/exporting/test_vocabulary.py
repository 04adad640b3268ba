"""A vocabulary cut to the task: the same answers for its own words, other pieces and no loss for others."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from deploycost.errors import UserError
from deploycost.exporting.export import export, with_trimmed_vocabulary
from deploycost.exporting.vocabulary import Trimming, trim_vocabulary
from serving.classifier import Classifier

FAMILIES = ("bert", "distilbert", "roberta")


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_the_tasks_own_words_are_answered_alike(
    opened: Callable[..., Any], tmp_path: Path, family: str
) -> None:
    trained = opened(family, "stacked")
    trimmed = with_trimmed_vocabulary(trained)
    record = export(trimmed, "onnx-fp32", tmp_path, "mark")
    trim = record.vocabulary
    assert trim is not None
    assert trim.tokens_kept < trim.tokens_before
    assert trim.saved_bytes == 4 * 32 * (trim.tokens_before - trim.tokens_kept)
    # The toy task's test texts have no word that its training texts lack.
    assert (trim.unseen_texts, trim.unseen_accuracy, trim.mean_tokens_ratio) == (0, None, 1.0)
    served = Classifier(tmp_path)
    assert np.abs(served.logits(trained.test.texts) - trained.logits).max() < 1e-4
    assert served.bundle.manifest.pad_token_id == (1 if family == "roberta" else 0)
    # A word that nobody taught it is split into single characters or bytes, and into nothing unknown.
    unknown = served._tokenizer.token_to_id("<unk>" if family == "roberta" else "[UNK]")
    encoded = served.encode("xylophone goal")
    assert unknown not in encoded.token_ids
    assert max(encoded.token_ids) < trim.tokens_kept
    assert len(served.encode("xylophone").token_ids) > 4


def test_unseen_words_are_measured(opened: Callable[..., Any]) -> None:
    from dataclasses import replace

    trained = opened("bert", "full")
    few = replace(trained, train=replace(trained.train, texts=("the match",), labels=(1,)))
    trimmed = with_trimmed_vocabulary(few)
    assert trimmed.trimming is not None
    rows = trimmed.trimming.unseen_rows
    assert 0 < len(rows) <= 61
    told = trimmed.trimming.record("single-label", trained.test.labels, trained.logits, -trained.logits)
    truth = np.array(trained.test.labels)[list(rows)]
    named = trained.logits.argmax(axis=1)[list(rows)]
    assert told.unseen_texts == len(rows)
    assert told.unseen_agreement_ratio == 0
    assert told.unseen_trained_accuracy == pytest.approx((named == truth).mean())
    assert told.unseen_accuracy == pytest.approx(((-trained.logits).argmax(axis=1)[list(rows)] == truth).mean())
    assert told.mean_tokens_ratio > 1


def test_unseen_words_are_measured_by_the_task() -> None:
    nothing: Any = None
    trimming = Trimming(nothing, nothing, 9, 8, 4, unseen_rows=(0, 2), mean_tokens_ratio=1.5)
    trained = np.array([[3, -1], [1, 1], [2, 1]], dtype=np.float32)
    served = np.array([[3, 1], [1, 1], [2, 1]], dtype=np.float32)
    # The first text gets its second label by one of them only: another answer, though the highest score is the same.
    several = trimming.record("multi-label", [(0,), (0,), (0,)], trained, served)
    assert (several.unseen_agreement_ratio, several.unseen_trained_accuracy, several.unseen_accuracy) == (0.5, 0.5, 0)
    numbers = trimming.record("regression", [1.0, 2.0, 3.0], trained[:, :1], served[:, 1:])
    assert (numbers.unseen_agreement_ratio, numbers.unseen_accuracy) == (0, None)


def test_tokens_that_were_added_are_kept(tiny_classifier: Callable[..., Path]) -> None:
    folder = tiny_classifier("bert", "single-label", "World", "Sports", "Business")
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    tokenizer.add_tokens(["[url]", "goalkeeper"])
    model.resize_token_embeddings(len(tokenizer))
    texts = ("the goal of the goalkeeper [url]", "[url] the goal")
    trimming = trim_vocabulary(model, tokenizer, texts[:1], texts)
    assert (trimming.tokens_before, trimming.unseen_rows) == (322, ())
    assert trimming.tokens_kept < 322
    assert trimming.tokenizer.tokenize(texts[0])[-2:] == ["goalkeeper", "[url]"]
    with torch.inference_mode():
        for text in texts:
            ids = [each(text, return_tensors="pt")["input_ids"] for each in (tokenizer, trimming.tokenizer)]
            rows = [each.get_input_embeddings().weight for each in (model, trimming.network)]
            assert torch.equal(rows[0][ids[0]], rows[1][ids[1]])


def test_a_model_that_came_as_a_graph_is_not_cut(opened: Callable[..., Any]) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="--trim-vocabulary cuts the network's embedding table"):
        with_trimmed_vocabulary(replace(opened("bert", "full"), network=None))
