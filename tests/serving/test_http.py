"""The endpoint on a socket of this process: what it accepts, what it refuses, and what it says."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.classifier import Classifier
from serving.errors import EngineError
from serving.http import Endpoint
from serving.limits import Limits
from serving.server import HttpServer

JSON = {"content-type": "application/json"}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates, NUL and all
SMALL = Limits(max_body_bytes=1000, max_texts=3, max_queue=4)


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, SMALL)) as client:
        yield client


def refused(response: Any, status: int, sentence: str) -> None:
    """Check a refusal: its status, and one sentence under `error`."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert sentence in response.json()["error"]
    assert "\n" not in response.json()["error"]
    assert response.headers["content-type"] == "application/json"


def test_one_text(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"text": "green"})
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["label", "score", "scores", "tokens", "truncated"]
    assert (body["label"], body["tokens"], body["truncated"]) == ("green", 3, False)
    assert list(body["scores"]) == ["red", "green", "blue"]
    assert body["score"] == body["scores"]["green"] == pytest.approx(0.654796, abs=1e-6)  # e^(4/3) / (e^(4/3) + 2)


def test_several_texts_in_order(client: httpx.Client) -> None:
    texts = ["blue " * 9, "red", "green green"]
    predictions = client.post("/predict", json={"texts": texts}).json()["predictions"]
    assert [(p["label"], p["truncated"]) for p in predictions] == [("blue", True), ("red", False), ("green", False)]
    for text, prediction in zip(texts, predictions, strict=True):
        alone = client.post("/predict", json={"text": text}).json()
        assert alone["label"] == prediction["label"]
        assert alone["scores"] == pytest.approx(prediction["scores"], abs=1e-5)


def test_the_best_labels_only(client: httpx.Client) -> None:
    body = client.post("/predict", json={"text": "blue blue green", "top_k": 2}).json()
    assert list(body["scores"]) == ["blue", "green"]
    assert body["score"] == body["scores"]["blue"] > body["scores"]["green"]
    assert len(client.post("/predict", json={"text": "red", "top_k": 9}).json()["scores"]) == 3


def test_raw_logits_on_request(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"texts": ["red", "blue"], "logits": True, "top_k": 1}).json()["predictions"]
    assert [prediction["logits"] for prediction in answer] == [
        {"red": pytest.approx(4 / 3)},
        {"blue": pytest.approx(4 / 3)},
    ]
    whole = client.post("/predict", json={"text": "green", "logits": True}).json()
    assert whole["logits"] == pytest.approx({"red": 0, "green": 4 / 3, "blue": 0})
    assert "logits" not in client.post("/predict", json={"text": "green", "logits": False}).json()


def test_a_text_as_long_as_allowed_and_one_character_more(classifier: Classifier, served_aside: Any) -> None:
    with served_aside(Endpoint(classifier, Limits(max_text_chars=10))) as client:
        assert client.post("/predict", json={"text": "red " * 2 + "re"}).status_code == 200
        refused(
            client.post("/predict", json={"texts": ["red", "r" * 11]}),
            413,
            "texts[1] has 11 characters; send at most 10",
        )


def test_a_megabyte_of_one_letter(classifier: Classifier, served_aside: Any) -> None:
    with served_aside(Endpoint(classifier, Limits(max_text_chars=1 << 20))) as client:
        answer = client.post("/predict", json={"text": "a" * ((1 << 20) - 100)})
        assert (answer.status_code, answer.json()["tokens"]) == (200, 3)
        refused(client.post("/predict", json={"text": "a" * (1 << 20)}), 413, "larger than 1048576 bytes")


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    refused(client.post("/predict", content=b"x", headers=JSON | {"content-encoding": "gzip"}), 415, "compressed")


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b'{"text": NaN}', 400, "not valid JSON"),
        (b'{"text": "red"} and more', 400, "not valid JSON"),
        (b'{"text": "\\ud800"}', 400, "not valid JSON"),
        (b'{"text": "\xff"}', 400, "not UTF-8"),
        (b"[" * 900, 422, "Expected `object`, got `array`"),
        (b'{"text": ' + b"[" * 900, 422, "Expected `str`, got `array`"),
        (b"null", 422, "Expected `object`"),
        (b'{"text": 1}', 422, "Expected `str`, got `int` - at `$.text`"),
        (b'{"text": null}', 422, "Expected `str`, got `null`"),
        (b'{"texts": "red"}', 422, "Expected `array`, got `str` - at `$.texts`"),
        (b'{"texts": ["red", 1e999]}', 422, "at `$.texts[1]`"),
        (b'{"txet": "red"}', 422, "unknown field `txet`"),
        (b"{}", 422, 'neither text nor texts; expected {"text": "..."} or {"texts": ["...", ...]}'),
        (b'{"text": "red", "texts": ["red"]}', 422, "both text and texts"),
        (b'{"text": "red", "texts": []}', 422, "both text and texts"),
        (b'{"texts": []}', 422, "texts is empty"),
        (b'{"text": ""}', 422, "text is empty or only white space"),
        (b'{"texts": ["red", " \\n\\t"]}', 422, "texts[1] is empty or only white space"),
        (b'{"text": "red", "top_k": 0}', 422, "at `$.top_k`"),
        (b'{"text": "red", "top_k": 1.5}', 422, "at `$.top_k`"),
        (b'{"text": "red", "top_k": 1e999}', 422, "at `$.top_k`"),
        (b'{"text": "red", "logits": 1}', 422, "Expected `bool`, got `int` - at `$.logits`"),
        (b'{"texts": ["a", "b", "c", "d"]}', 413, "4 texts are too many; send at most 3"),
    ],
)
def test_a_body_that_asks_for_nothing(client: httpx.Client, body: bytes, status: int, sentence: str) -> None:
    refused(client.post("/predict", content=body, headers=JSON), status, sentence)


def test_an_answer_quotes_little_of_a_long_mistake(client: httpx.Client) -> None:
    answer = client.post("/predict", content=b'{"' + b"x" * 900 + b'": 1}', headers=JSON)
    refused(answer, 422, "unknown field")
    assert len(answer.json()["error"]) < 300


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/predict", content=b'{"text": "red"}', headers={"content-type": content_type})
    refused(answer, 415, "send application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_by_another_spelling(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/predict", content=b'{"text": "red"}', headers={"content-type": content_type})
    assert answer.json()["label"] == "red"


def test_a_body_as_large_as_allowed_and_one_byte_more(client: httpx.Client) -> None:
    body = b'{"text": "red"}'.ljust(1000)
    assert client.post("/predict", content=body, headers=JSON).status_code == 200
    refused(client.post("/predict", content=body + b" ", headers=JSON), 413, "larger than 1000 bytes")


def test_an_endless_body_is_not_read_to_its_end(client: httpx.Client) -> None:
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        while len(sent) < 100_000:
            sent.append(400)
            yield b" " * 400

    answer = client.post("/predict", content=endless(), headers=JSON)
    refused(answer, 413, "larger than 1000 bytes")
    assert answer.headers["connection"] == "close"
    assert len(sent) < 100_000


def test_paths_and_methods_that_are_not_there(client: httpx.Client) -> None:
    refused(client.get("/predictions"), 404, "POST /predict")
    answer = client.get("/predict")
    refused(answer, 405, "GET is not answered at this path; use POST")
    assert answer.headers["allow"] == "POST"
    refused(client.post("/healthz"), 405, "use GET")


def test_metadata(client: httpx.Client, classifier: Classifier) -> None:
    body = client.get("/metadata").json()
    assert body.pop("pid") > 0
    assert body == {
        "variant": "tiny.onnx-fp32",
        "task": "single-label",
        "labels": ["red", "green", "blue"],
        "threshold": None,
        "engine": "onnxruntime",
        "precision": "fp32",
        "max_tokens": 8,
        "format_version": 1,
        "bundle_digest": classifier.bundle.digest,
        "threads": 1,
    }


def test_ready_from_start_to_end(classifier: Classifier) -> None:
    endpoint = Endpoint(classifier)

    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(endpoint, endpoint.limits)
        await server.start(listener)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
            early = await client.get("/readyz")
            refused(early, 503, "starting or stopping")
            assert early.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v2/health/ready")).status_code == 503
            endpoint.start()
            assert (await client.get("/readyz")).status_code == 200
            await endpoint.stop()
            assert (await client.get("/readyz")).status_code == 503
            refused(await client.post("/predict", json={"text": "red"}), 503, "try again shortly")
        await server.stop()

    asyncio.run(scenario())


def test_a_full_queue_is_503_until_it_is_not(braked: Any, served: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with served(Endpoint(classifier, Limits(max_texts=2, max_queue=2))) as client:
            engine.released.clear()
            first = asyncio.create_task(client.post("/predict", json={"texts": ["red", "blue"]}))
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            second = await client.post("/predict", json={"text": "green"})
            refused(second, 503, "the queue is full: 2 of 2 texts are waiting; try again shortly")
            assert second.headers["retry-after"] == "1"
            assert (await client.get("/readyz")).status_code == 200
            engine.released.set()
            assert (await first).status_code == 200
            assert (await client.post("/predict", json={"text": "green"})).json()["label"] == "green"

    asyncio.run(scenario())


def test_a_failing_engine_is_500_without_details_and_the_next_request_is_answered(
    braked: Any, served_aside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    classifier, engine = braked
    with caplog.at_level(logging.DEBUG), served_aside(Endpoint(classifier)) as client:
        engine.broken = EngineError("the weights melted")
        answer = client.post("/predict", json={"text": "SECRET"})
        refused(answer, 500, "its log says more")
        assert "melted" not in answer.text
        engine.broken = None
        assert client.post("/predict", json={"text": "red"}).json()["label"] == "red"
    assert "the weights melted" in caplog.text
    assert "SECRET" not in caplog.text


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_text_is_answered_or_refused(client: httpx.Client, text: str) -> None:
    answer = client.post("/predict", content=json.dumps({"text": text}).encode(), headers=JSON)
    lone_surrogate = any("\ud800" <= letter <= "\udfff" for letter in json.loads(json.dumps(text)))
    blank = not text or text.isspace()
    assert answer.status_code == (400 if lone_surrogate else 422 if blank else 200), answer.text
    if answer.status_code == 200:
        assert sum(answer.json()["scores"].values()) == pytest.approx(1)


@settings(deadline=None)
@given(st.binary(max_size=1100))
def test_any_bytes_are_refused(client: httpx.Client, body: bytes) -> None:
    assert client.post("/predict", content=body, headers=JSON).status_code in (400, 413, 422)


def test_limits_that_could_never_be_met() -> None:
    with pytest.raises(ValueError, match="max_queue 1 could never take a request of max_texts 2"):
        Limits(max_texts=2, max_queue=1)
    with pytest.raises(ValueError, match="limits start at 1"):
        Limits(max_batch=0)


def test_a_chunked_body(client: httpx.Client) -> None:
    answer = client.post("/predict", content=iter([b'{"text": ', b'"red"}']), headers=JSON)
    assert answer.json()["label"] == "red"
