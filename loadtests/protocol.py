"""Whole requests, made before there is load, and what makes an answer a good one, for each protocol that we speak."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.plan import ProbePlan
from loadtests.recorder import Answer
from loadtests.workload import Material, text_groups


@dataclass(frozen=True)
class Exchange:
    """Requests as bytes, the number of the first text in each, and the judge of status and body of an answer."""

    method: str
    path: str
    requests: list[bytes]
    first_texts: list[int]
    judge: Callable[[int, bytes], Answer]


@dataclass(frozen=True)
class Address:
    """Where a base URL points."""

    host: str
    port: int
    secure: bool
    path: str

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def address_of(url: str) -> Address:
    """The address that a base URL names.

    Raises:
        ValueError: it is not an http or https URL.
    """
    expected = f"{url!r} is not a URL of an endpoint; expected something like http://127.0.0.1:8000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ValueError(expected)
    secure = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/"))


def exchange_of(plan: ProbePlan, material: Material, address: Address) -> Exchange:
    """All requests that a probe may send to an address."""
    groups = text_groups(len(material.texts), plan.texts_per_request, plan.seed)
    method, path, headers = "POST", "/predict", {}
    if material.template is not None:
        method, path, headers = material.template.method, material.template.path, material.template.headers
    elif plan.protocol == "open-inference":
        path = f"/v2/models/{plan.model}/infer"
    path = address.path + path
    head = {"Host": address.authority, "Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
    start = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
    bodies = (_body(plan, material, [material.texts[index] for index in group]) for group in groups)
    requests = [b"%bContent-Length: %d\r\n\r\n%b" % (start.encode(), len(body), body) for body in bodies]
    return Exchange(method, path, requests, [group[0] for group in groups], _judge(plan, material))


def _body(plan: ProbePlan, material: Material, texts: Sequence[str]) -> bytes:
    if material.template is not None:
        return material.template.filled(texts)
    if plan.protocol == "open-inference":
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
        return json.dumps({"inputs": [tensor]}).encode()
    return json.dumps({"text": texts[0]} if plan.texts_per_request == 1 else {"texts": texts}).encode()


def _judge(plan: ProbePlan, material: Material) -> Callable[[int, bytes], Answer]:
    find = _label
    if material.template is not None:
        find = material.template.judge
    elif plan.protocol == "open-inference":
        find = _output
    elif plan.texts_per_request > 1:
        find = _first_label

    def judge(status: int, body: bytes) -> Answer:
        """The label of an answer, or what is wrong with it in a few words that many answers share."""
        if not 200 <= status < 300:
            return Answer(error=f"HTTP {status}")
        try:
            content = json.loads(body)
        except ValueError:
            return Answer(error="not JSON")
        return Answer(*find(content))

    return judge


def _label(content: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
    """A label; several, or none, joined by `|`; or a number."""
    match content:
        case {"label": str(label)}:
            return label, ""
        case {"labels": [*labels]} if all(isinstance(label, str) for label in labels):
            return "|".join(labels), ""
        case {"value": float(value)}:
            return repr(value), ""
    return "", "no label"


def _first_label(content: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
    predictions = content.get("predictions") if isinstance(content, dict) else None
    return _label(predictions[0]) if isinstance(predictions, list) and predictions else ("", "no predictions")


def _output(content: Any) -> tuple[str, str]:  # noqa: ANN401 - JSON
    """The first element of the output `labels`, or of the first one where none is called so."""
    outputs = content.get("outputs") if isinstance(content, dict) else None
    tensors = [each for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []
    named = [each for each in tensors if each.get("name") == "labels"] or tensors
    data = named[0].get("data") if named else None
    if not isinstance(data, list) or not data:
        return "", "no output"
    return data[0] if isinstance(data[0], str) else json.dumps(data[0]), ""
