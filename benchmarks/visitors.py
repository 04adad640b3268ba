"""What comes to an endpoint that stands in the open: good requests, bad ones, and clients that break off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Answered as told; or the client closes the connection when it has sent all, or when it has sent half of it.
Manner = Literal["waits", "leaves", "leaves half-way"]


@dataclass(frozen=True)
class Visit:
    """One request as bytes, the statuses that answer it rightly, and how long the client stays."""

    kind: str
    request: bytes
    statuses: frozenset[int]
    manner: Manner = "waits"


def visits_of(texts: Sequence[str], model: str) -> list[Visit]:
    """One of each kind, several of the good ones, for a model of this name."""
    infer = f"/v2/models/{model}/infer"
    good = [Visit("predict", _post("/predict", {"text": text}), frozenset((200, 503))) for text in texts]
    crowd = {"texts": list(texts[:3]), "top_k": 1, "logits": True}
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": list(texts[:2])}
    whole = good[0].request
    told = [
        ("predict several", _post("/predict", crowd), 200),
        ("infer", _post(infer, {"inputs": [tensor]}), 200),
        ("a long text", _post("/predict", {"text": " ".join(texts)[:20_000]}), 200),
        ("half a surrogate", _raw("/predict", b'{"text": "\\ud800"}'), 400),
        ("one letter, a megabyte", _post("/predict", {"text": "a" * 1_000_000}), 413),
        ("a body beyond the limit", _raw("/predict", b"a" * (1 << 20) + b"a"), 413),
        ("deep nesting", _raw("/predict", b"[" * 20_000), 422),
        ("deep nesting, ignored", _raw(infer, b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"), 400),
        ("not a number", _raw("/predict", b'{"text": "a", "top_k": NaN}'), 400),
        ("not UTF-8", _raw("/predict", b'{"text": "\xff"}'), 400),
        ("a wrong type", _post("/predict", {"text": 1}), 422),
        ("no text", _post("/predict", {"text": ""}), 422),
        ("a wrong tensor", _post(infer, {"inputs": [tensor | {"shape": [3]}]}), 400),
        ("a wrong content type", whole.replace(b"application/json", b"text/plain"), 415),
        ("a wrong path", whole.replace(b"/predict", b"/nowhere"), 404),
        ("two lengths", whole.replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: 1\r\n"), 400),
        ("a length and chunks", whole.replace(b"Host: x\r\n", b"Host: x\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("no HTTP", b"\x16\x03\x01\x00\x00 hello\r\n\r\n", 400),
        ("metrics", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ]
    answered = [Visit(kind, request, frozenset((status, 503))) for kind, request, status in told]
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + b"a" * 0xFF
    broken_off = [
        Visit("left before the answer", whole, frozenset(), "leaves"),
        Visit("left half-way", whole, frozenset(), "leaves half-way"),
        Visit("chunks that stop half-way", chunked, frozenset(), "leaves half-way"),
    ]
    return [*good, *answered, *broken_off]


def _post(path: str, body: object) -> bytes:
    return _raw(path, json.dumps(body).encode())


def _raw(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
