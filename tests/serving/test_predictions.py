"""Several labels and numbers, from a sealed bundle to the wire: worked out by hand, and by Open Inference too."""

from collections.abc import Callable, Iterator
from math import exp
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.bundle import Bundle, Manifest, Task, open_bundle, seal_bundle
from serving.classifier import Classifier
from serving.errors import BundleError
from serving.http import Endpoint
from serving.predictions import EncodedText, describe, sigmoid, softmax, told

THRESHOLD = 0.6
# "red green" is fed as [CLS] red green [SEP]: its logits are (1, 1, 0); "red" alone has (4/3, 0, 0).
ONE = 1 / (1 + exp(-1))


@pytest.fixture(scope="module")
def several(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("several") / "bundle"
    return Classifier(make_bundle(folder, task="multi-label", threshold=THRESHOLD))


@pytest.fixture(scope="module")
def number(
    write_model: Callable[..., None],
    write_tokenizer: Callable[..., None],
    manifest: Callable[..., Manifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Classifier:
    """A regression whose number is the redness: 4 x red words / tokens."""
    folder = tmp_path_factory.mktemp("number")
    write_model(folder / "model.onnx", width=1)
    write_tokenizer(folder / "tokenizer.json")
    return Classifier(seal_bundle(folder, manifest(task="regression", labels=("redness",))))


@pytest.fixture(scope="module")
def several_client(several: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(several)) as client:
        yield client


@pytest.fixture(scope="module")
def number_client(number: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(number)) as client:
        yield client


def test_each_label_is_judged_for_itself(several_client: httpx.Client) -> None:
    answer = several_client.post("/predict", json={"text": "red green"}).json()
    assert answer["labels"] == ["red", "green"]
    assert answer["scores"] == pytest.approx({"red": ONE, "green": ONE, "blue": 0.5}, abs=1e-6)
    assert (answer["tokens"], answer["truncated"]) == (4, False)
    assert set(answer) == {"labels", "scores", "tokens", "truncated"}
    # Nothing reaches the threshold: no label, which is an answer.
    assert several_client.post("/predict", json={"texts": ["grey"]}).json()["predictions"][0]["labels"] == []


def test_top_k_and_logits_of_several_labels(several_client: httpx.Client) -> None:
    answer = several_client.post("/predict", json={"text": "red", "top_k": 1, "logits": True}).json()
    assert answer["scores"] == pytest.approx({"red": 1 / (1 + exp(-4 / 3))}, abs=1e-6)
    assert answer["logits"] == pytest.approx({"red": 4 / 3}, abs=1e-6)
    assert answer["labels"] == ["red"]


def test_a_number_comes_as_it_is(number_client: httpx.Client) -> None:
    answer = number_client.post("/predict", json={"text": "red", "logits": True}).json()
    assert answer["value"] == pytest.approx(4 / 3, abs=1e-6)
    assert answer["scores"] == answer["logits"] == {"redness": answer["value"]}
    assert "label" not in answer
    several = number_client.post("/predict", json={"texts": ["grey", "red red"]}).json()["predictions"]
    assert [each["value"] for each in several] == pytest.approx([0, 2], abs=1e-6)


@pytest.mark.parametrize(
    ("place", "outputs"),
    [
        (
            "several_client",
            {
                "scores": ("FP32", [2, 3], [ONE, ONE, 0.5, 0.5, 0.5, 0.5]),
                "decisions": ("BOOL", [2, 3], [True, True, False, False, False, False]),
                "logits": ("FP32", [2, 3], [1, 1, 0, 0, 0, 0]),
                "truncated": ("BOOL", [2], [False, False]),
            },
        ),
        (
            "number_client",
            {
                "scores": ("FP32", [2, 1], [1, 0]),
                "logits": ("FP32", [2, 1], [1, 0]),
                "truncated": ("BOOL", [2], [False, False]),
            },
        ),
    ],
)
def test_open_inference_has_the_tensors_of_the_task(
    request: pytest.FixtureRequest, place: str, outputs: dict[str, Any]
) -> None:
    client = request.getfixturevalue(place)
    text = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["red green", "grey"]}
    answer = client.post("/v2/models/tiny.onnx-fp32/infer", json={"inputs": [text]}).json()
    assert {each["name"] for each in answer["outputs"]} == set(outputs)
    for each in answer["outputs"]:
        datatype, shape, data = outputs[each["name"]]
        assert (each["datatype"], each["shape"]) == (datatype, shape)
        assert each["data"] == pytest.approx(data, abs=1e-6)
    described = client.get("/v2/models/tiny.onnx-fp32").json()["outputs"]
    assert [(each["name"], each["datatype"], len(each["shape"])) for each in described] == [
        (name, datatype, len(shape)) for name, (datatype, shape, _) in outputs.items()
    ]
    wrong = {"inputs": [text], "outputs": [{"name": "labels"}]}
    assert "expected of scores" in client.post("/v2/models/tiny.onnx-fp32/infer", json=wrong).json()["error"]


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("several_client", {"MultiLabelPrediction", "MultiLabelResponse"}),
        ("number_client", {"NumberPrediction", "NumbersResponse"}),
    ],
)
def test_the_document_and_the_metadata_tell_the_task(
    request: pytest.FixtureRequest, place: str, names: set[str]
) -> None:
    client = request.getfixturevalue(place)
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert names <= set(schemas)
    assert "Prediction" not in schemas
    told_of = client.get("/metadata").json()
    expected = ("multi-label", THRESHOLD) if place == "several_client" else ("regression", None)
    assert (told_of["task"], told_of["threshold"]) == expected


def test_a_prediction_as_one_word(classifier: Classifier, several: Classifier, number: Classifier) -> None:
    (one,), (two,), (none,) = classifier.predict(["red"]), several.predict(["red green"]), several.predict(["grey"])
    assert (told(one), told(two), told(none)) == ("red", "red|green", "")
    (value,) = number.predict(["red red"])
    assert float(told(value)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"task": "multi-label"}, "threshold: None, but the task is multi-label"),
        ({"threshold": 0.5}, "threshold: 0.5, but the task is single-label"),
        ({"task": "regression"}, "labels: expected 1, got 3"),
        ({"labels": ("red",)}, "labels: expected at least 2, got 1"),
        ({"task": "multi-label", "threshold": 0.5, "labels": ()}, "labels: expected at least 1, got 0"),
        ({"task": "multi-label", "threshold": 1.5}, "threshold"),
    ],
)
def test_a_manifest_that_contradicts_its_task_is_not_sealed(
    make_bundle: Callable[..., Bundle], tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BundleError, match=problem) as refusal:
        make_bundle(tmp_path / "b", **changes)
    assert "\n" not in str(refusal.value)


def test_a_bundle_from_before_there_were_tasks_has_one_label(bundle: Bundle) -> None:
    path = bundle.folder / "bundle.json"
    lines = [line for line in path.read_text().splitlines() if '"task"' not in line and '"threshold"' not in line]
    path.write_text("\n".join(lines))
    assert open_bundle(bundle.folder).manifest.task == "single-label"


ROWS = arrays.arrays(np.float32, (2, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32))


@given(ROWS)
def test_scores_are_probabilities_in_the_order_of_the_logits(logits: np.ndarray) -> None:
    for scale in (sigmoid, softmax):
        scores = scale(logits)
        assert ((scores >= 0) & (scores <= 1)).all()
    order = np.argsort(logits, axis=1)
    assert (np.diff(np.take_along_axis(sigmoid(logits), order, axis=1), axis=1) >= 0).all()


@given(ROWS, st.sampled_from(["single-label", "multi-label", "regression"]))
def test_every_task_describes_any_logits(logits: np.ndarray, task: Task) -> None:
    logits = logits[:, :1] if task == "regression" else logits
    manifest = Manifest(
        variant="v", task=task, labels=("a", "b", "c")[: logits.shape[1]], engine="onnxruntime", precision="fp32",
        max_tokens=8, pad_token_id=0, threshold=0.5 if task == "multi-label" else None,
    )  # fmt: skip
    predictions = describe(manifest, [EncodedText([1], False)] * 2, logits)
    assert [list(each.scores) for each in predictions] == [list(manifest.labels)] * 2
