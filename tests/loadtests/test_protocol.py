"""Requests as they go over the wire, for each protocol, and what is made of the answers."""

import json
from typing import Any

import pytest

from loadtests.plan import ProbePlan
from loadtests.protocol import address_of, exchange_of
from loadtests.recorder import Answer
from loadtests.template import Template
from loadtests.workload import Material

TEXTS = ["one text", "zwölf", "three"]
ADDRESS = address_of("http://127.0.0.1:9000/base/")


def body_of(request: bytes) -> Any:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Host: 127.0.0.1:9000\r\n" in head
    return json.loads(body)


def test_our_own_protocol() -> None:
    exchange = exchange_of(ProbePlan(), Material(TEXTS, [], None), ADDRESS)
    assert exchange.requests[0].startswith(b"POST /base/predict HTTP/1.1\r\n")
    assert [body_of(request) for request in exchange.requests] == [{"text": text} for text in TEXTS]
    assert exchange.judge(200, b'{"label": "World"}') == Answer(label="World")
    assert exchange.judge(503, b"") == Answer(error="HTTP 503")
    assert exchange.judge(200, b"<html>") == Answer(error="not JSON")
    assert exchange.judge(200, b'{"label": 3}') == exchange.judge(200, b"[]") == Answer(error="no label")


def test_several_texts_go_in_one_request() -> None:
    exchange = exchange_of(ProbePlan(texts_per_request=2, seed=1), Material(TEXTS, [], None), ADDRESS)
    groups = [body_of(request)["texts"] for request in exchange.requests]
    # Three texts in twos: the last request is filled up with the first text of the order.
    assert [len(group) for group in groups] == [2, 2]
    assert {text for group in groups for text in group} == set(TEXTS)
    assert [TEXTS[first] for first in exchange.first_texts] == [group[0] for group in groups]
    assert exchange.judge(200, b'{"predictions": [{"label": "a"}, {"label": "b"}]}') == Answer(label="a")
    assert exchange.judge(200, b'{"predictions": []}') == Answer(error="no predictions")


def test_the_open_inference_protocol() -> None:
    plan = ProbePlan(protocol="open-inference", model="news", texts_per_request=3)
    exchange = exchange_of(plan, Material(TEXTS, [], None), ADDRESS)
    assert exchange.path == "/base/v2/models/news/infer"
    tensor = body_of(exchange.requests[0])["inputs"][0]
    assert (tensor["shape"], tensor["datatype"], sorted(tensor["data"])) == ([3], "BYTES", sorted(TEXTS))
    told = {"outputs": [{"name": "scores", "data": [0.5]}, {"name": "labels", "data": ["World"]}]}
    assert exchange.judge(200, json.dumps(told).encode()) == Answer(label="World")
    assert exchange.judge(200, b'{"outputs": [{"name": "y", "data": [0.5]}]}') == Answer(label="0.5")
    assert exchange.judge(200, b'{"outputs": []}') == Answer(error="no output")


def test_a_template() -> None:
    template = Template("/x", {"q": "{{text}}"}, "/y", method="PUT", headers={"X-Key": "k"})
    exchange = exchange_of(ProbePlan(protocol="template", template="file"), Material(TEXTS, [], template), ADDRESS)
    assert exchange.requests[1].startswith(b"PUT /base/x HTTP/1.1\r\n")
    assert b"\r\nX-Key: k\r\n" in exchange.requests[1]
    assert body_of(exchange.requests[1]) == {"q": "zwölf"}
    assert exchange.judge(200, b'{"y": "found"}') == Answer(label="found")


def test_an_address_of_version_six_keeps_its_brackets() -> None:
    assert address_of("http://[::1]:80/").authority == "[::1]"
    assert address_of("https://host:8443").authority == "host:8443"


def test_options_that_belong_together_are_asked_for_together() -> None:
    with pytest.raises(ValueError, match=r"arrivals=trace needs trace=FILE.*protocol=template needs template=FILE"):
        ProbePlan(arrivals="trace", template="x.yaml")
