"""Tuning end to end on tiny encoders: they learn, and the record tells what happened."""
# ruff: noqa: TID253 - these test what is made of the framework

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils.checkpoint import checkpoint

from deploycost.dataset import Dataset
from deploycost.errors import NoAnswer, UserError
from deploycost.experiment import Experiment, TrainingSpec
from deploycost.models.base import find_base, load_tokenizer
from deploycost.models.encoding import EncodedTexts
from deploycost.models.scoring import score
from deploycost.records import TuningRecord
from deploycost.tuning import training
from deploycost.tuning.judging import curve_rows
from deploycost.tuning.training import TuningJob, tune

FAMILIES = ("bert", "distilbert", "roberta")
METHODS = ("full", "lora", "qlora", "prompt", "stacked")

# Vocabulary 320, width 32, inner width 64, two layers, 64 positions, three labels.
LAYER = 4 * (32 * 32 + 32) + 2 * 64 + (32 * 64 + 64) + (64 * 32 + 32)
BODY = {
    "bert": (320 + 64 + 2) * 32 + 64 + 2 * LAYER,
    "distilbert": (320 + 64) * 32 + 64 + 2 * LAYER,
    "roberta": (320 + 66 + 1) * 32 + 64 + 2 * LAYER,
}
# Pooler, pre-classifier or dense, and the output: the same for all three.
HEAD = (32 * 32 + 32) + (32 * 3 + 3)
# Two layers, query and value, rank 8, down and up.
LOW_RANK = 2 * 2 * (8 * 32 + 32 * 8)
PROMPT = 4 * 32


def _tune(base_folder: Path, dataset: Dataset, folder: Path, method: Any = "full", **training: Any) -> TuningRecord:
    spec = TrainingSpec.model_validate(
        {"mixed_precision": False, "max_tokens": 48, "prompt": {"virtual_tokens": 4}} | training
    )
    base = find_base(str(base_folder))
    experiment = Experiment(model=base.name, methods=(method,), training=spec)
    return tune(TuningJob(experiment, method, base, dataset, "mark"), folder, lambda *_: None)


def _losses(record: TuningRecord) -> list[float | None]:
    return [epoch.train_loss for epoch in record.epochs]


@pytest.mark.parametrize("method", ["full", "stacked"])
def test_it_learns_what_can_be_learnt(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path, method: str
) -> None:
    record = _tune(tiny_bases["bert"], toy_dataset, tmp_path, method, epochs=6, learning_rate=1e-2, batch_size=8)
    assert record.scores.accuracy > 0.9, "chance is a third"
    first, last = record.epochs[0], record.epochs[-1]
    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < 0.5 * first.train_loss
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3, 4, 5, 6]
    # The split is small enough to be judged whole after each epoch.
    assert last.scores == record.scores


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_record_tells_what_happened(tuned: Callable[..., Any], family: str, method: str) -> None:
    done = tuned(family, method)
    record: TuningRecord = done.record
    added = {"full": 0, "lora": LOW_RANK, "qlora": LOW_RANK, "prompt": PROMPT, "stacked": LOW_RANK + PROMPT}[method]
    assert record.total_parameters == BODY[family] + HEAD + added
    assert record.head_parameters == HEAD
    assert record.trainable_parameters == (BODY[family] + HEAD if method == "full" else HEAD + added)

    assert record.fingerprint == "mark"
    assert (record.method, record.base_model) == (method, done.base.name)
    assert record.label_names == ("World", "Sports", "Business")
    assert (record.dataset, record.dataset_fingerprint, record.train_rows) == ("toy", "toy", 180)
    assert (record.scores.rows, len(record.epochs)) == (61, 2)
    assert record.training_s > 0
    assert record.samples_per_s == pytest.approx(2 * 180 / record.training_s)
    steps = 2 * -(-180 // record.hyper_parameters["batch_size"])
    assert 0 < record.step_ms_p50 * steps / 1000 < 2 * record.training_s
    assert record.step_ms_p50 <= record.step_ms_p95
    assert record.training_s == pytest.approx(sum(epoch.duration_s for epoch in record.epochs))
    assert record.final_loss == record.epochs[-1].train_loss
    assert record.peak_memory_bytes >= record.baseline_memory_bytes > 0
    assert (record.peak_pss_bytes or 0) >= (record.baseline_pss_bytes or 0) > 0
    assert (record.peak_gpu_memory_bytes is None) == (not torch.cuda.is_available())
    assert (record.energy_joules is None) == record.energy_source.startswith("no counter")
    assert record.predicted_memory is not None
    assert record.predicted_memory.total > 4 * record.total_parameters / 8
    assert (record.resumed_at_steps, record.unstable_steps, record.tracker) == ((), (), "none")
    logits = load_file(done.folder / "trained_logits.safetensors")["logits"]
    assert logits.shape == (61, 3)
    assert score(done.dataset.test.labels, logits) == record.scores


@pytest.mark.parametrize("method", ["full", "prompt"])
def test_tokens_are_real_ones(tuned: Callable[..., Any], method: str) -> None:
    """Word by word, between [CLS] and [SEP] and cut at 48: no padding, no virtual tokens."""
    done = tuned("bert", method)
    tokenizer = load_tokenizer(done.base)
    lengths = [2 + sum(len(tokenizer.tokenize(word)) for word in text.split()) for text in done.dataset.train.texts]
    tokens = sum(min(length, 48) for length in lengths)
    assert done.record.tokens_per_s * done.record.training_s == pytest.approx(2 * tokens)


@pytest.mark.parametrize(
    ("method", "slug", "told"),
    [
        ("full", "full", {"batch_size": 16}),
        ("lora", "lora-r8", {"batch_size": 8, "rank": 8, "alpha": 16, "dropout": 0.1}),
        (
            "prompt",
            "prompt-p4",
            {"batch_size": 8, "virtual_tokens": 4, "start": "vocabulary", "prompt_learning_rate": 15e-3},
        ),
        (
            "stacked",
            "stacked-r8-p4",
            {"batch_size": 8, "rank": 8, "alpha": 16, "dropout": 0.1, "virtual_tokens": 4,
             "start": "vocabulary", "prompt_learning_rate": 15e-3, "bits": 4,
             "quantisation": "nf4, double"},
        ),
    ],
)  # fmt: skip
def test_the_record_tells_the_hyper_parameters(
    tuned: Callable[..., Any], method: str, slug: str, told: dict[str, Any]
) -> None:
    record = tuned("bert", method).record
    assert record.slug == slug
    common = {
        "epochs": 2, "learning_rate": 3e-3, "max_tokens": 48, "seed": 42, "warmup_ratio": 0.1, "weight_decay": 0.01,
        "precision": "fp32", "gradient_checkpointing": False, "compile": False,
    }  # fmt: skip
    assert record.hyper_parameters == common | told


def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path
) -> None:
    logits = {}
    losses = {}
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        (tmp_path / name).mkdir()
        record = _tune(tiny_bases["bert"], toy_dataset, tmp_path / name, "stacked", epochs=1, seed=seed)
        losses[name] = _losses(record)
        logits[name] = load_file(tmp_path / name / "trained_logits.safetensors")["logits"]
    assert losses["a"] == losses["b"] != losses["c"]
    assert np.array_equal(logits["a"], logits["b"])
    assert not np.array_equal(logits["a"], logits["c"])


@pytest.mark.parametrize("method", ["full", "lora", "prompt", "stacked"])
def test_gradient_checkpointing_changes_no_loss(
    tiny_bases: dict[str, Path],
    toy_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    few = replace(toy_dataset, train=toy_dataset.train.take(range(48)))
    calls = 0
    recompute = checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return recompute(*args, **kwargs)

    # Where transformers takes the function from when checkpointing is switched on.
    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counted)
    losses = []
    for switch in (False, True):
        folder = tmp_path / str(switch)
        folder.mkdir()
        losses.append(
            _losses(
                _tune(
                    tiny_bases["bert"], few, folder, method,
                    epochs=2, learning_rate=1e-2, batch_size=8, gradient_checkpointing=switch,
                )
            )
        )  # fmt: skip
        # Two layers, two epochs of six batches.
        assert calls == (2 * 2 * 6 if switch else 0)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_texts_are_cut_to_what_positions_are_left_beside_virtual_tokens(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path
) -> None:
    few = replace(toy_dataset, train=toy_dataset.train.take(range(16)))
    lengths = [
        len(ids) for ids in load_tokenizer(find_base(str(tiny_bases["bert"])))(list(few.test.texts))["input_ids"]
    ]
    assert max(lengths) > 30
    record = _tune(tiny_bases["bert"], few, tmp_path, "prompt", epochs=1, max_tokens=128, prompt={"virtual_tokens": 44})
    assert record.mean_tokens == pytest.approx(np.mean([min(length, 20) for length in lengths]))
    assert record.whole_mean_tokens == pytest.approx(np.mean(lengths))


def test_more_virtual_tokens_than_positions_is_one_line(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="100 virtual tokens leave no room") as refusal:
        _tune(tiny_bases["bert"], toy_dataset, tmp_path, "prompt", prompt={"virtual_tokens": 100})
    assert "\n" not in str(refusal.value)


def test_a_model_that_diverged_is_refused(tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match=r"full: training diverged.*lower --learning-rate") as refusal:
        _tune(tiny_bases["bert"], toy_dataset, tmp_path, epochs=2, learning_rate=1e30)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_compile_is_one_line(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"--compile needs a C\+\+ compiler and none was found") as refusal:
        _tune(tiny_bases["bert"], toy_dataset, tmp_path, compile=True)
    assert "\n" not in str(refusal.value)


def test_progress_counts_steps_and_tells_the_accuracy(
    tiny_bases: dict[str, Path], toy_dataset: Dataset, tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    base = find_base(str(tiny_bases["bert"]))
    spec = TrainingSpec(epochs=2, mixed_precision=False, max_tokens=16)
    few = replace(toy_dataset, train=toy_dataset.train.take(range(32)))
    experiment = Experiment(model=base.name, methods=("full",), training=spec)
    tune(TuningJob(experiment, "full", base, few, "mark"), tmp_path, lambda *now: told.append(now))
    assert [(done, steps) for done, steps, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 1)]
    assert told[0][2] == "training"
    assert told[2][2].startswith("accuracy 0.")
    assert told[2][2].endswith("after epoch 1")


@pytest.mark.parametrize(("rows", "judged"), [(1, 1), (61, 61), (1000, 1000), (1001, 501), (1999, 1000), (7600, 950)])
def test_the_curve_is_drawn_from_rows_spread_over_the_whole_split(rows: int, judged: int) -> None:
    chosen = curve_rows(rows)
    assert len(chosen) == judged
    assert chosen[0] == 0
    assert rows - chosen[-1] <= chosen.step


@pytest.mark.parametrize("count", [10, 256, 300, 1000])
def test_data_are_looked_at_over_their_whole_length(count: int) -> None:
    texts = EncodedTexts(tuple([number] for number in range(count)), (0,) * count, 0)
    seen = [int(row) for batch in training._spread_batches(texts) for row in batch["input_ids"]]
    assert len(seen) == len(set(seen)) == min(256, count)
    gaps = {later - earlier for earlier, later in pairwise([*seen, count])}
    assert max(gaps) - min(gaps) <= 1
