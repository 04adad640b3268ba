"""Bundles: opened by the code that serves them, judged on the whole test split, refused where they stray."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from deploycost.errors import NoAnswer, UserError
from deploycost.exporting.artifacts import ARTIFACTS
from deploycost.exporting.export import Refused, export, open_trained
from deploycost.models.scoring import compare, score
from deploycost.records import ExportRecord, read_record, write_record
from serving.bundle import open_bundle
from serving.classifier import Classifier

FAMILIES = ("bert", "distilbert", "roberta")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_fp32_bundle_serves_what_was_trained(opened: Callable[..., Any], tmp_path: Path, family: str) -> None:
    trained = opened(family, "stacked")
    record = export(trained, "onnx-fp32", tmp_path, "mark")
    bundle = open_bundle(tmp_path)
    served = Classifier(tmp_path)
    logits = served.logits(trained.test.texts)

    assert {path.name for path in tmp_path.iterdir()} == {"bundle.json", "model.onnx", "tokenizer.json"}
    assert bundle.manifest.labels == ("World", "Sports", "Business")
    assert (bundle.manifest.variant, bundle.manifest.precision) == ("stacked-r8-p4.onnx-fp32", "fp32")
    assert bundle.manifest.max_tokens == 48
    assert bundle.manifest.pad_token_id == (1 if family == "roberta" else 0)
    assert bundle.manifest.provenance["method"] == "stacked"
    assert [prediction.label for prediction in served.predict(trained.test.texts[:5])] == [
        bundle.manifest.labels[at] for at in logits[:5].argmax(axis=1)
    ]

    assert (record.fingerprint, record.variant) == ("mark", bundle.manifest.variant)
    assert (record.method, record.artifact) == ("stacked", "onnx-fp32")
    assert (record.engine, record.precision) == ("onnxruntime", "fp32")
    assert record.scores == score(trained.test.labels, logits)
    assert record.scores.rows == 61
    assert record.parity.relative_error < 1e-4
    assert record.parity.agreement_ratio == 1
    assert np.abs(logits - trained.logits).max() < 1e-4
    assert record.size_bytes == sum((tmp_path / name).stat().st_size for name in ("model.onnx", "tokenizer.json"))
    assert record.bundle_digest == bundle.digest
    assert record.export_s > trained.merge_s > 0
    assert record.mean_tokens == trained.tuning.mean_tokens

    path = tmp_path / "export.json"
    path.write_text(write_record(record))
    assert read_record(path, ExportRecord) == record


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_training(opened: Callable[..., Any], tmp_path: Path, family: str) -> None:
    trained = opened(family, "stacked")
    export(trained, "onnx-fp32", tmp_path, "mark")
    served = Classifier(tmp_path)
    texts = [*trained.test.texts[:5], "goal " * 100]
    expected = trained.tokenizer(texts, truncation=True, max_length=48)["input_ids"]
    assert [served.encode(text).token_ids for text in texts] == expected


def test_an_int8_bundle_is_judged_by_its_own_answers(opened: Callable[..., Any], tmp_path: Path) -> None:
    trained = opened("bert", "full")
    record = export(trained, "onnx-int8", tmp_path, "mark")
    logits = Classifier(tmp_path).logits(trained.test.texts)
    limits = ARTIFACTS["onnx-int8"]
    assert record.scores == score(trained.test.labels, logits)
    assert record.parity == compare(
        trained.logits,
        logits,
        relative_error_limit=limits.relative_error_limit,
        agreement_limit=limits.agreement_limit,
    )
    assert 1e-4 < record.parity.relative_error < limits.relative_error_limit
    assert record.precision == "int8"


def test_a_bundle_that_strays_is_refused_with_its_figures(opened: Callable[..., Any], tmp_path: Path) -> None:
    trained = opened("bert", "full")
    strayed = replace(trained, logits=-trained.logits)
    with pytest.raises(NoAnswer) as refusal:
        export(strayed, "onnx-fp32", tmp_path, "mark")
    said = str(refusal.value)
    # About their means the logits are as far from their opposites as twice their spread; none keeps its label.
    assert said.startswith("refused full.onnx-fp32: its logits are ")
    spread = (trained.logits - trained.logits.mean(axis=1, keepdims=True)).std()
    assert _figure(refusal.value) == pytest.approx(np.sqrt(np.mean((2 * trained.logits) ** 2)) / spread, rel=0.01)
    assert "(limit 0.02)" in said
    assert isinstance(refusal.value, Refused)
    assert refusal.value.parity is not None
    assert (refusal.value.parity.agreement_ratio, refusal.value.accuracy_drop) == (0, None)
    assert "for 0.0 % of the test texts (limit 99.0 %)" in said
    assert "\n" not in said


def _figure(refusal: NoAnswer) -> float:
    return float(str(refusal).split("its logits are ")[1].split(" of their spread")[0])


def test_a_bundle_that_is_only_a_little_off_is_refused_too(opened: Callable[..., Any], tmp_path: Path) -> None:
    trained = opened("bert", "full")
    spread = (trained.logits - trained.logits.mean(axis=1, keepdims=True)).std()
    noise = np.random.default_rng(0).normal(scale=0.03 * spread, size=trained.logits.shape)
    with pytest.raises(NoAnswer) as refusal:
        export(replace(trained, logits=trained.logits + noise.astype(np.float32)), "onnx-fp32", tmp_path, "mark")
    assert _figure(refusal.value) == pytest.approx(0.03, rel=0.15)


def test_a_graph_that_cannot_be_served_is_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"no graph")
    folder = tmp_path / "bundle"
    folder.mkdir()
    with pytest.raises(NoAnswer, match=r"refused full\.onnx-fp32: .*the trained model is kept") as refusal:
        export(replace(opened("bert", "full"), graph_path=graph), "onnx-fp32", folder, "mark")
    assert "\n" not in str(refusal.value)


def test_logits_of_another_split_are_told(tuned: Callable[..., Any], tmp_path: Path) -> None:
    done = tuned("bert", "full")
    save_file({"logits": np.zeros((60, 3), dtype=np.float32)}, tmp_path / "logits.safetensors")
    with pytest.raises(UserError, match="holds 60 rows, the test split 61"):
        open_trained(done.record, done.folder, tmp_path / "logits.safetensors", done.dataset.test, tmp_path)


def test_an_int8_graph_may_stray_further_than_an_fp32_one() -> None:
    assert ARTIFACTS["onnx-fp32"].relative_error_limit < ARTIFACTS["onnx-int8"].relative_error_limit
    assert ARTIFACTS["onnx-fp32"].agreement_limit > ARTIFACTS["onnx-int8"].agreement_limit
