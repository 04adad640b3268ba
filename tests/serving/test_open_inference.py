"""The Open Inference Protocol: by hand on the wire, and through Triton's own client."""

from collections.abc import Iterator
from math import exp
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.classifier import Classifier
from serving.http import Endpoint
from serving.limits import Limits

MODEL = "/v2/models/tiny.onnx-fp32"
SURE = exp(4 / 3) / (exp(4 / 3) + 2)  # the score of "red": its logits are (4/3, 0, 0)


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, Limits(max_texts=4))) as client:
        yield client


def text_input(*texts: str, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)} | changes


def infer(client: httpx.Client, *inputs: Any, **fields: Any) -> httpx.Response:
    return client.post(f"{MODEL}/infer", json={"inputs": list(inputs)} | fields)


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"{MODEL}/ready").json() == {"name": "tiny.onnx-fp32", "ready": True}
    assert client.get(f"{MODEL}/versions/1/ready").status_code == 200
    server = client.get("/v2").json()
    assert server["extensions"] == ["binary_tensor_data"]
    assert set(server) == {"name", "version", "extensions"}
    model = client.get(MODEL).json()
    assert (model["name"], model["versions"], model["labels"]) == ("tiny.onnx-fp32", ["1"], ["red", "green", "blue"])
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert model["outputs"][:2] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "labels", "datatype": "BYTES", "shape": [-1]},
    ]


def test_all_outputs_and_the_id_come_back(client: httpx.Client) -> None:
    answer = infer(client, text_input("red", "blue " * 9), id="17")
    assert list(answer.json()) == ["model_name", "model_version", "outputs", "id"]
    assert answer.json()["id"] == "17"
    told = outputs(answer)
    assert (told["scores"]["datatype"], told["scores"]["shape"]) == ("FP32", [2, 3])
    assert told["scores"]["data"][0] == pytest.approx(SURE, abs=1e-6)
    assert told["logits"]["data"][:3] == pytest.approx([4 / 3, 0, 0], abs=1e-6)
    assert told["labels"] == {"name": "labels", "datatype": "BYTES", "shape": [2], "data": ["red", "blue"]}
    assert told["truncated"] == {"name": "truncated", "datatype": "BOOL", "shape": [2], "data": [False, True]}
    assert "id" not in infer(client, text_input("red")).json()


def test_null_is_as_good_as_nothing(client: httpx.Client) -> None:
    plain = infer(client, text_input("red")).json()
    assert infer(client, text_input("red"), id=None, parameters=None, outputs=None).json() == plain
    asked = infer(client, text_input("red", parameters=None), outputs=[{"name": "labels", "parameters": None}])
    assert list(outputs(asked)) == ["labels"]


def test_only_what_was_asked_for(client: httpx.Client) -> None:
    assert list(outputs(infer(client, text_input("red"), outputs=[{"name": "labels"}]))) == ["labels"]


@pytest.mark.parametrize(
    ("shape", "data"), [([2, 1], ["red", "blue"]), ([2, 1], [["red"], ["blue"]]), ([2], [["red", "blue"]])]
)
def test_a_column_or_nested_lists_will_do(client: httpx.Client, shape: Any, data: Any) -> None:
    assert outputs(infer(client, text_input(shape=shape, data=data)))["labels"]["data"] == ["red", "blue"]


@pytest.mark.parametrize(
    ("inputs", "fields", "sentence"),
    [
        ([], {}, "unexpected inference inputs none; expected one, 'text'"),
        ([text_input("red", name="words")], {}, "unexpected inference inputs 'words'"),
        ([text_input("red"), text_input("red")], {}, "unexpected inference inputs 'text', 'text'"),
        ([text_input("red", datatype="FP32")], {}, "has datatype 'FP32', expected BYTES"),
        ([text_input("red", shape=[2])], {}, "of shape [2] holds 1 texts"),
        ([text_input("red", shape=[1, 1, 1])], {}, "expected [n] or [n, 1]"),
        ([text_input("red", shape=[])], {}, "length >= 1"),
        ([text_input("red", shape=[-1])], {}, ">= 0"),
        ([text_input("red", data=[1])], {}, "cannot be read"),
        ([{"name": "text", "shape": [1], "datatype": "BYTES"}], {}, "has no data"),
        ([text_input("red", parameters={"shared_memory_region": "x"})], {}, "shared memory"),
        ([text_input("red", parameters={"binary_data_size": 3})], {}, "binary_data_size must be the 0 bytes"),
        ([text_input("red")], {"outputs": [{"name": "colour"}]}, "unexpected inference output 'colour'"),
        ([text_input("red")], {"outputs": [{"name": "logits"}] * 2}, "an output is asked for twice"),
        ([text_input("red")], {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]}, "classification"),
        ([text_input("red")], {"parameters": {"timeout": -1}}, "timeout is not a number of microseconds"),
    ],
)
def test_what_the_protocol_refuses(client: httpx.Client, inputs: Any, fields: Any, sentence: str) -> None:
    answer = infer(client, *inputs, **fields)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]


def test_models_and_versions_that_are_not_here(client: httpx.Client) -> None:
    for path in ("/v2/models/other", f"{MODEL}/versions/2", f"{MODEL}/versions/2/infer"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "this endpoint serves 'tiny.onnx-fp32'" in answer.json()["error"]


def test_the_limits_of_predict_hold_here_too(client: httpx.Client) -> None:
    assert infer(client, text_input(*["red"] * 5)).status_code == 413
    assert infer(client, text_input(" ")).status_code == 422


def packed(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def post_binary(
    client: httpx.Client, behind: bytes, size: Any = None, texts: int = 1, json_size: int | None = None
) -> Any:
    parameters = {"binary_data_size": len(behind) if size is None else size}
    head = httpx.Request(
        "POST",
        "http://x",
        json={"inputs": [{"name": "text", "shape": [texts], "datatype": "BYTES", "parameters": parameters}]},
    ).content
    length = str(len(head) if json_size is None else json_size)
    headers = {"Inference-Header-Content-Length": length, "Content-Type": "application/octet-stream"}
    return client.post(f"{MODEL}/infer", content=head + behind, headers=headers)


def test_texts_behind_the_json(client: httpx.Client) -> None:
    assert outputs(post_binary(client, packed(b"red", "grün green".encode()), texts=2))["labels"]["data"] == [
        "red",
        "green",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"behind": packed(b"red")[:-1]}, "runs over the end"),
        ({"behind": b"\xff\xff\xff\xff"}, "runs over the end"),
        ({"behind": packed(b"\xff")}, "is not UTF-8"),
        ({"behind": packed(b"red"), "size": 3}, "must be the 7 bytes"),
        ({"behind": packed(b"red"), "size": True}, "must be the 7 bytes"),
        ({"behind": packed(b"red"), "size": "7"}, "must be the 7 bytes"),
        ({"behind": packed(b"red"), "texts": 2}, "holds 1 texts"),
        ({"behind": packed(b"red"), "json_size": 10_000}, "within the body"),
        ({"behind": packed(b"red"), "json_size": 5}, "cannot be read"),
    ],
)
def test_binary_tensors_that_are_broken(client: httpx.Client, arguments: Any, sentence: str) -> None:
    answer = post_binary(client, **arguments)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 250), st.booleans())
def test_any_bytes_are_refused(client: httpx.Client, body: bytes, length: int, binary: bool) -> None:
    headers = {"Inference-Header-Content-Length": str(length)} if binary else {}
    assert client.post(f"{MODEL}/infer", content=body, headers=headers).status_code == 400


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_behind_the_json_are_texts_or_refused(client: httpx.Client, behind: bytes) -> None:
    assert post_binary(client, behind).status_code in (200, 400, 422)


@pytest.fixture
def triton(client: httpx.Client) -> Iterator[Any]:
    """Triton's HTTP client, as its users have it."""
    tritonclient = pytest.importorskip("tritonclient.http")
    with tritonclient.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as triton:
        yield triton


def test_triton_asks_for_health_and_metadata(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("tiny.onnx-fp32")
    assert triton.is_model_ready("tiny.onnx-fp32", "1")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["name"] == "deploycost"
    assert triton.get_model_metadata("tiny.onnx-fp32")["outputs"][0]["shape"] == [-1, 3]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [None, True, False])
def test_triton_infers(triton: Any, binary_in: bool, binary_out: bool | None) -> None:
    from tritonclient.http import InferInput, InferRequestedOutput

    texts = np.array([["red"], ["blue " * 9], ["grün green"]], dtype=np.object_)
    tensor = InferInput("text", list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=binary_in)
    wanted = None
    if binary_out is not None:
        wanted = [InferRequestedOutput(name, binary_data=binary_out) for name in ("labels", "scores", "truncated")]
    result = triton.infer("tiny.onnx-fp32", [tensor], outputs=wanted, request_id="7", timeout=5_000_000)
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("labels")]
    assert labels == ["red", "blue", "green"]
    assert result.as_numpy("scores").shape == (3, 3)
    assert result.as_numpy("scores").dtype == np.float32
    assert result.as_numpy("scores")[0, 0] == pytest.approx(SURE, abs=1e-6)
    assert result.as_numpy("truncated").tolist() == [False, True, False]
    assert result.get_response()["id"] == "7"


def test_triton_reads_our_refusals(triton: Any) -> None:
    from tritonclient.http import InferInput
    from tritonclient.utils import InferenceServerException

    tensor = InferInput("words", [1], "BYTES")
    tensor.set_data_from_numpy(np.array(["red"], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="unexpected inference inputs 'words'") as caught:
        triton.infer("tiny.onnx-fp32", [tensor])
    assert caught.value.status() == "400"
