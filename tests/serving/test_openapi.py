"""The OpenAPI document, and the endpoint held to it by a fuzzer."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from serving.classifier import Classifier
from serving.http import Endpoint
from serving.limits import Limits
from serving.predicting import NOT_BLANK
from serving.security import KeyRing

schemathesis = pytest.importorskip("schemathesis")
SMALL = Limits(max_texts=3, max_text_chars=200, max_queue=64, deadline_ms=30_000)


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, SMALL)) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def schema(client: httpx.Client) -> Any:
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    # Too many texts, or too long ones, violate the schema too, and are told apart by 413.
    schema.config.checks.negative_data_rejection.expected_statuses = ["400", "404", "413", "422"]
    # A deadline of a millisecond may be too short.
    schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "4xx", "503"]
    return schema


def test_blank_means_the_same_in_the_document_and_in_the_endpoint() -> None:
    assert all(bool(re.match(NOT_BLANK, letter)) != letter.isspace() for letter in map(chr, range(0x110000)))


def test_every_path_of_the_endpoint_is_described(document: dict[str, Any], client: httpx.Client) -> None:
    assert document["openapi"] == "3.1.0"
    operations = {(method, path) for path, item in document["paths"].items() for method in item}
    assert {("post", "/predict"), ("get", "/metrics"), ("post", "/v2/models/{name}/infer")} <= operations
    assert len(operations) == 15
    for method, path in operations:
        here = path.replace("{name}", "tiny.onnx-fp32").replace("{version}", "1")
        assert client.request(method, here).status_code != 404, path


def test_the_limits_in_force_are_in_the_document(document: dict[str, Any]) -> None:
    asked = document["components"]["schemas"]["PredictRequest"]
    assert asked["properties"]["texts"]["maxItems"] == 3
    assert asked["properties"]["text"]["maxLength"] == 200
    assert asked["additionalProperties"] is False


def test_a_key_is_asked_for_where_it_is_needed(classifier: Classifier, served_aside: Any) -> None:
    with served_aside(Endpoint(classifier, keys=KeyRing(["k"]))) as client:
        document = client.get("/openapi.json", headers={"x-api-key": "k"}).json()
    assert document["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}


def test_the_document_is_one(schema: Any) -> None:
    schema.validate()


BODIES = ["/predict", "/v2/models/{name}/infer"]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", BODIES)
def test_what_comes_back_is_what_is_written(schema: Any, client: httpx.Client, path: str, mode: Any) -> None:
    held_to = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_headers_conformance,
        schemathesis.checks.response_schema_conformance,
        schemathesis.checks.negative_data_rejection,
    ]
    if path == "/predict":  # a tensor that fits its schema can still contradict its shape, which is a 400
        held_to.append(schemathesis.checks.positive_data_acceptance)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=schema[path]["POST"].as_strategy(generation_mode=mode))
    def every_case(case: Any) -> None:
        case.call_and_validate(checks=held_to)

    every_case()
    assert client.post("/predict", json={"text": "blue"}).json()["label"] == "blue"


def test_what_is_read_is_what_is_written(document: dict[str, Any], schema: Any) -> None:
    for path, item in document["paths"].items():
        if "get" in item:
            case = schema[path]["GET"].Case(path_parameters={"name": "tiny.onnx-fp32", "version": "1"})
            case.call_and_validate(checks=[schemathesis.checks.response_schema_conformance])
