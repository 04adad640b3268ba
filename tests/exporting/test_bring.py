"""Brought models through to sealed bundles: any architecture, any head, adapters merged; held against themselves."""
# ruff: noqa: TID253 - these test what is made of the framework

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from peft import LoraConfig, PromptEncoderConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from deploycost.brought_model import find_brought
from deploycost.dataset import Dataset, LabelledTexts
from deploycost.errors import UserError
from deploycost.experiment import BroughtSpec
from deploycost.exporting.bring import judge, open_brought, trained_model
from deploycost.exporting.export import Refused, export
from deploycost.exporting.graph import write_onnx
from deploycost.models.first_token import as_served
from deploycost.records import BroughtRecord, MultiLabelScores, RegressionScores, Scores, read_record, write_record
from serving.bundle import Task
from serving.classifier import Classifier
from serving.predictions import sigmoid

LABELS = ("World", "Sports", "Business")


@pytest.fixture(scope="session")
def texts_of(toy_dataset: Dataset) -> Callable[..., Dataset[Any]]:
    """The toy texts with labels of a task, or with none."""

    def make(task: Task, *, labelled: bool = True) -> Dataset[Any]:
        def of(split: LabelledTexts) -> LabelledTexts[Any]:
            several = tuple(
                tuple({label, len(text) % 3}) for text, label in zip(split.texts, split.labels, strict=True)
            )
            made: dict[Task, tuple[Any, ...]] = {
                "single-label": split.labels,
                "multi-label": several,
                "regression": tuple(len(text) / 10 for text in split.texts),
            }
            return LabelledTexts(split.texts, made[task] if labelled else (None,) * len(split.texts))

        names = ("length",) if task == "regression" else LABELS
        return replace(
            toy_dataset, train=of(toy_dataset.train), test=of(toy_dataset.test), label_names=names if labelled else ()
        )

    return make


def answers(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    """What transformers itself answers, one text at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=64)).logits for text in texts]
    return torch.cat(rows).numpy()


CASES = [
    ("bert", "single-label", LABELS, Scores),
    ("distilbert", "multi-label", LABELS, MultiLabelScores),
    ("roberta", "regression", ("length",), RegressionScores),
    ("electra", "single-label", LABELS, Scores),
]


@pytest.mark.parametrize(("family", "task", "labels", "kind"), CASES)
def test_a_classifier_is_served_as_it_answered(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], tmp_path: Path,
    family: str, task: Task, labels: tuple[str, ...], kind: type,
) -> None:  # fmt: skip
    source = tiny_classifier(family, task, *labels)
    brought = find_brought(BroughtSpec(source=str(source)))
    assert brought.task == task
    opened, dataset = open_brought(brought), texts_of(task)
    record, logits = judge(opened, dataset, task, "mark")
    np.testing.assert_allclose(logits, answers(source, dataset.test.texts), atol=1e-4)
    assert (record.kind, record.label_names, record.max_tokens) == ("classifier", labels, 64)
    assert record.architecture.endswith("ForSequenceClassification")
    assert record.training_s is None
    assert type(record.scores) is kind
    (tmp_path / "scratch").mkdir()
    (tmp_path / "bundle").mkdir()
    trained = trained_model(opened, record, dataset, logits, tmp_path / "scratch")
    exported = export(trained, "onnx-fp32", tmp_path / "bundle", "mark")
    assert exported.variant == "own.onnx-fp32"
    assert exported.parity.relative_error < 1e-4
    assert exported.parity.agreement_ratio == 1
    assert type(exported.scores) is kind
    served = Classifier(tmp_path / "bundle")
    assert served.bundle.manifest.task == task
    (prediction,) = served.predict(dataset.test.texts[:1])
    if task == "multi-label":
        chosen = sigmoid(logits[:1])[0] >= 0.5
        assert prediction.labels == [name for name, given in zip(labels, chosen, strict=False) if given]
    elif task == "regression":
        assert prediction.value == pytest.approx(float(logits[0, 0]), abs=1e-4)
        assert exported.accuracy is None
    else:
        assert prediction.label == labels[int(logits[0].argmax())]
    (tmp_path / "brought.json").write_text(write_record(record))
    assert read_record(tmp_path / "brought.json", BroughtRecord) == record


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_without_labels_accuracy_is_unknown_and_parity_is_not(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], task: Task
) -> None:
    labels = ("length",) if task == "regression" else LABELS
    source = tiny_classifier("roberta" if task == "regression" else "bert", task, *labels)
    opened = open_brought(find_brought(BroughtSpec(source=str(source))))
    dataset = texts_of(task, labelled=False)
    record, _ = judge(opened, dataset, task, "mark")
    # RoBERTa's alphabet makes more tokens of some texts than the 64 that it takes.
    whole = [len(ids) for ids in opened.tokenizer(list(dataset.test.texts))["input_ids"]]
    assert record.whole_mean_tokens == pytest.approx(np.mean(whole))
    assert (max(whole) > 64) == (task == "regression")
    assert record.scores is None


@pytest.fixture(scope="module")
def adapter(tiny_bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with a head of three, as PEFT leaves it, on a base without a head."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bases["distilbert"], num_labels=3)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["q_lin", "v_lin"],
        modules_to_save=["pre_classifier", "classifier"],
    )  # fmt: skip
    wrapped = get_peft_model(model, config)
    with torch.no_grad():
        for _name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(folder)
    return folder


def named(adapter: Path, tmp_path: Path) -> Path:
    """The adapter with names for its labels beside it."""
    folder = tmp_path / "named"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}))
    return folder


def test_an_adapter_is_merged_into_its_base(
    adapter: Path, tiny_bases: dict[str, Path], texts_of: Callable[..., Any], tmp_path: Path
) -> None:
    from peft import PeftModel

    dataset = texts_of("single-label")
    opened = open_brought(find_brought(BroughtSpec(source=str(named(adapter, tmp_path)))))
    record, logits = judge(opened, dataset, "single-label", "mark")
    assert (record.kind, record.base_model, record.label_names) == ("adapter", str(tiny_bases["distilbert"]), LABELS)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bases["distilbert"], num_labels=3)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bases["distilbert"])
    with torch.inference_mode():
        told = [model(**tokenizer(text, return_tensors="pt")).logits for text in dataset.test.texts[:9]]
    np.testing.assert_allclose(logits[:9], torch.cat(told).numpy(), atol=1e-4)


def test_an_adapter_of_a_quantised_base_is_merged_into_the_rounded_weights(
    adapter: Path, texts_of: Callable[..., Any], tmp_path: Path
) -> None:
    source, dataset = named(adapter, tmp_path), texts_of("single-label")
    plain = open_brought(find_brought(BroughtSpec(source=str(source))))
    rounded = open_brought(find_brought(BroughtSpec(source=str(source), bits=4)))
    assert rounded.network is not None
    assert {parameter.dtype for parameter in rounded.network.parameters()} == {torch.float32}
    one, other = (judge(opened, dataset, "single-label", "m")[1] for opened in (plain, rounded))
    assert np.abs(one - other).max() > 1e-3


def test_an_adapter_without_names_for_its_labels(adapter: Path, texts_of: Callable[..., Any]) -> None:
    opened = open_brought(find_brought(BroughtSpec(source=str(adapter))))
    dataset = texts_of("single-label")
    with pytest.raises(UserError, match=r"are not among 'LABEL_0', 'LABEL_1', 'LABEL_2'; put a labels.json"):
        judge(opened, dataset, "single-label", "mark")
    record, _ = judge(opened, replace(dataset, names_in_id_order=True), "single-label", "mark")
    assert record.label_names == LABELS


def test_an_adapter_of_ours_opens_as_it_was_trained(tuned: Callable[..., Any], texts_of: Callable[..., Any]) -> None:
    made = tuned("bert", "stacked")
    opened = open_brought(find_brought(BroughtSpec(source=str(made.folder), max_tokens=48)))
    record, logits = judge(opened, texts_of("single-label"), "single-label", "mark")
    assert record.label_names == LABELS
    from safetensors.numpy import load_file as load_arrays

    kept = load_arrays(made.folder / "trained_logits.safetensors")["logits"]
    assert np.abs(logits - kept).max() < 0.1 * kept.std()


@pytest.mark.parametrize(
    ("family", "task", "labels", "measure"),
    [("distilbert", "multi-label", LABELS, "accuracy"), ("roberta", "regression", ("length",), "explained variance")],
)
def test_what_an_artifact_gives_up_is_judged_whatever_the_task(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], tmp_path: Path,
    family: str, task: Task, labels: tuple[str, ...], measure: str,
) -> None:  # fmt: skip
    source, dataset = tiny_classifier(family, task, *labels), texts_of(task)
    opened = open_brought(find_brought(BroughtSpec(source=str(source))))
    record, logits = judge(opened, dataset, task, "mark")
    trained = trained_model(opened, record, dataset, logits, tmp_path)
    # The trained model is always right, and the artifact answers as it does.
    chosen = sigmoid(logits) >= 0.5
    right = [tuple(np.flatnonzero(row)) for row in chosen] if task == "multi-label" else logits[:, 0].tolist()
    trained = replace(trained, test=replace(trained.test, labels=tuple(right)))
    (tmp_path / "kept").mkdir()
    kept = export(trained, "onnx-fp32", tmp_path / "kept", "mark")
    assert kept.accuracy_drop is not None
    assert (kept.accuracy_drop.measure, kept.accuracy_drop.flagged) == (measure, False)
    assert kept.accuracy_drop.value == pytest.approx(0, abs=1e-6)
    assert (kept.calibration_error is None) == (task == "regression")
    (tmp_path / "refused").mkdir()
    with pytest.raises(Refused, match=f"points of {measure} .*--max-accuracy-drop") as told:
        export(trained, "onnx-fp32", tmp_path / "refused", "mark", max_accuracy_drop=-0.5)
    assert told.value.accuracy_drop is not None
    assert told.value.accuracy_drop.limit == -0.5


def as_graph(source: Path, folder: Path, *ends: str) -> Path:
    """A classifier's graph with more operators at its end, in the hub's layout: what belongs to it lies above it."""
    network = open_brought(find_brought(BroughtSpec(source=str(source)))).network
    assert network is not None
    path = folder / "onnx" / "model.onnx"
    path.parent.mkdir(parents=True)
    write_onnx(as_served(network), 64, path)
    model = onnx.load(str(path))
    for number, end in enumerate(ends):
        name = model.graph.output[0].name
        model.graph.output[0].name = f"end{number}"
        model.graph.node.append(onnx.helper.make_node(end, [name], [f"end{number}"]))
    onnx.save(model, str(path))
    for each in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / each).write_bytes((source / each).read_bytes())
    return folder


def test_a_graphs_regression_is_served_as_it_answered(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], tmp_path: Path
) -> None:
    source, dataset = tiny_classifier("roberta", "regression", "length"), texts_of("regression")
    folder = as_graph(source, tmp_path / "graph", "Sigmoid", "Identity")
    brought = find_brought(BroughtSpec(source=str(folder), max_tokens=64))
    opened = open_brought(brought)
    record, logits = judge(opened, dataset, brought.task, "mark")
    told = sigmoid(answers(source, dataset.test.texts))
    np.testing.assert_allclose(logits, told, atol=1e-4)
    (tmp_path / "bundle").mkdir()
    export(trained_model(opened, record, dataset, logits, tmp_path), "onnx-fp32", tmp_path / "bundle", "mark")
    (prediction,) = Classifier(tmp_path / "bundle").predict(dataset.test.texts[:1])
    assert prediction.scores == {"length": pytest.approx(float(told[0, 0]), abs=1e-4)}


@pytest.mark.parametrize(
    ("family", "task", "end"), [("bert", "single-label", "Softmax"), ("distilbert", "multi-label", "Sigmoid")]
)
def test_a_graph_that_hides_an_activation_is_not_served_twice_over(
    tiny_classifier: Callable[..., Path],
    texts_of: Callable[..., Any],
    tmp_path: Path,
    family: str,
    task: Task,
    end: str,
) -> None:
    source = tiny_classifier(family, task, *LABELS)
    opened = open_brought(find_brought(BroughtSpec(source=str(as_graph(source, tmp_path, end, "Abs")))))
    assert opened.label_names == LABELS
    with pytest.raises(UserError, match=r"answers with probabilities, .* export the graph without its last softmax"):
        judge(opened, texts_of(task), task, "mark")


def refusal(**fields: Any) -> str:
    with pytest.raises(UserError) as told:
        open_brought(find_brought(BroughtSpec(**fields)))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_adapters_that_cannot_be_merged(adapter: Path, tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bases["distilbert"], num_labels=3)
    config = PromptEncoderConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=2, token_dim=32, num_layers=2, num_attention_heads=4,
        encoder_hidden_size=8,
    )  # fmt: skip
    get_peft_model(model, config).save_pretrained(tmp_path / "prompt")
    assert "is of the kind P_TUNING: virtual tokens cannot be merged" in refusal(source=str(tmp_path / "prompt"))
    source = named(adapter, tmp_path)
    told = refusal(source=str(source), base=str(tiny_bases["bert"]))
    assert "does not fit its base" in told or "is not a trained" in told
    (source / "adapter_model.safetensors").write_bytes(b"damaged")
    assert "cannot read" in refusal(source=str(source))


def test_a_classifier_whose_weights_are_not_a_classifiers(
    tiny_classifier: Callable[..., Path], tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    whole = tiny_classifier("bert", "single-label", *LABELS)
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(headless, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "is not a trained BertForSequenceClassification: 2 weights are missing" in refusal(source=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    assert "cannot load" in refusal(source=str(tmp_path))
    assert "--max-tokens 100: " in refusal(source=str(whole), max_tokens=100)


def altered(source: Path, folder: Path, **config: Any) -> Path:
    """A copy of a classifier with other fields in its config.json."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | config))
    return folder


def test_a_tokenizer_with_more_tokens_than_the_network_has_embeddings_of(
    tiny_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    source = altered(tiny_classifier("bert", "single-label", *LABELS), tmp_path / "own", vocab_size=200)
    weights = load_file(source / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    save_file(weights | {name: weights[name][:200].clone()}, source / "model.safetensors", metadata={"format": "pt"})
    assert "has embeddings of 200 tokens, and its tokenizer numbers them up to 319: " in refusal(source=str(source))


def test_a_network_that_fails_on_texts(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], tmp_path: Path
) -> None:
    config = GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=64, num_labels=3)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer = str(tiny_classifier("bert", "single-label", *LABELS))
    opened = open_brought(find_brought(BroughtSpec(source=str(tmp_path), tokenizer=tokenizer)))
    with pytest.raises(UserError, match=r"a GPT2ForSequenceClassification, does not run on texts: .* no padding token"):
        judge(opened, texts_of("single-label"), "single-label", "mark")


def test_heads_and_tasks_that_do_not_fit(tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any]) -> None:
    one = open_brought(find_brought(BroughtSpec(source=str(tiny_classifier("roberta", "regression", "length")))))
    with pytest.raises(UserError, match=r"answers with one number: .* give --task regression"):
        judge(one, texts_of("single-label"), "single-label", "mark")
    three = open_brought(find_brought(BroughtSpec(source=str(tiny_classifier("bert", "single-label", *LABELS)))))
    with pytest.raises(UserError, match="answers with 3 numbers; expected one"):
        judge(three, texts_of("regression"), "regression", "mark")


def test_training_texts_are_told_in_the_models_labels(
    tiny_classifier: Callable[..., Path], texts_of: Callable[..., Any], tmp_path: Path
) -> None:
    source = tiny_classifier("bert", "single-label", *reversed(LABELS))
    opened, dataset = open_brought(find_brought(BroughtSpec(source=str(source)))), texts_of("single-label")
    record, logits = judge(opened, dataset, "single-label", "mark")
    trained = trained_model(opened, record, dataset, logits, tmp_path)
    for told, given in ((trained.train, dataset.train), (trained.test, dataset.test)):
        assert told is not None
        assert told.labels == tuple(2 - label for label in given.labels)
