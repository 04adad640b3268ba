"""Bad input of every kind, by hand and by fuzzers: it is answered or refused, and the endpoint goes on as before.

For longer: `pytest tests/serving/test_fuzzing.py --hypothesis-profile=long`.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.classifier import Classifier
from serving.http import Endpoint
from serving.limits import Limits

JSON = {"content-type": "application/json"}
PATHS = ("/predict", "/v2/models/tiny.onnx-fp32/infer")
LIMITS = Limits(max_body_bytes=1 << 20, max_texts=3, max_text_chars=100_000, deadline_ms=30_000)
LONG = settings.get_current_profile_name() == "long"
BODY = b'{"text": "red"}'
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
CHUNKED = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, LIMITS)) as client:
        yield client


@pytest.fixture(autouse=True)
def unharmed(client: httpx.Client) -> Iterator[None]:
    """Whatever a test sends, the endpoint answers as before when it is over."""
    yield
    answer = httpx.post(f"{client.base_url}/predict", json={"texts": ["blue", "red red"]}, trust_env=False)
    assert [prediction["label"] for prediction in answer.json()["predictions"]] == ["blue", "red"]


NESTED = 50_000
BODIES = [
    b"",
    b"null",
    b"NaN",
    b'{"text": NaN}',
    b'{"text": Infinity}',
    b'{"text": "red", "top_k": NaN}',
    b'{"text": "red", "top_k": -Infinity}',
    b'{"text": "red", "top_k": 1e999}',
    b'{"text": "red", "top_k": 1' + b"0" * 400 + b"}",
    b'{"text": "red", "top_k": ' + b"9" * 100_000 + b"}",
    b'{"text": "red", "top_k": 0.1e-999}',
    b'{"text": ' + b"[" * NESTED + b"]" * NESTED + b"}",
    b'{"texts": ' + b"[" * NESTED,
    b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    b'{"text": "\\ud800"}',
    b'{"text": "\\udc00\\ud800"}',
    b'{"text": "\xff\xfe"}',
    b'{"text": "\xed\xa0\x80"}',  # half a surrogate pair, as UTF-8 must not have it
    b'{"text": "\xc0\x80"}',  # NUL in two bytes
    b'\xef\xbb\xbf{"text": "red"}',  # a byte order mark
    '{"text": "red"}'.encode("utf-16"),
    b'{"text": "red"}\x00',
    b'{"text": "a\x00b"}',  # a bare control character
    b'{"text": "red", "text": "blue", "texts": ["red"]}',
    b'{"texts": [' + b'"a",' * 5000 + b'"a"]}',
    b'{"texts": ["a", null]}',
    b'{"text": {"a": "b"}}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [9223372036854775808], "data": ["red"]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [4294967296, 4294967296], "data": ["red"]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1], "data": ["red"]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1e400], "data": ["red"]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [0], "data": []}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [NaN]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [[["red"]]]}]}',
    b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [""]}], "parameters": {"timeout": 0}}',
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_nothing_is_refused_with_a_sentence(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 413, 422), answer.text
    assert list(answer.json()) == ["error"]
    assert len(answer.json()["error"]) < 400


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("\x00", 200),
        ("red\x00blue", 200),
        ("\x7f\x1b[31m\x08", 200),
        ("a" * 100_000, 200),
        ("red " * 25_000, 200),
        ("\u0301" * 5000, 200),  # accents upon nothing
        ("\u202ered\u2066", 200),  # turns the direction of what is read
        ("👨‍👩‍👧‍👦" * 500, 200),
        ("\ufffe\uffff\U0010ffff", 200),
        ("ﷺ" * 3000, 200),  # one letter that becomes eighteen when it is normalised
        ("a" * 100_001, 413),
        ("a" * 1_000_000, 413),
        ("a" * 1_048_577, 413),
        ("", 422),
        ("\u2003\x1f\x85", 422),
    ],
    ids=range(15),
)
def test_a_strange_text_is_a_text(client: httpx.Client, text: str, status: int) -> None:
    answer = client.post("/predict", json={"text": text})
    assert answer.status_code == status, answer.text[:300]
    if status == 200:
        assert sum(answer.json()["scores"].values()) == pytest.approx(1)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300))
def test_any_text_is_what_it_was_when_it_arrives(client: httpx.Client, classifier: Classifier, text: str) -> None:
    written, escaped = (
        client.post("/predict", content=json.dumps({"text": text}, ensure_ascii=ascii_only).encode(), headers=JSON)
        for ascii_only in (False, True)
    )
    if text.isspace():
        assert (written.status_code, escaped.status_code) == (422, 422)
        return
    (known,) = classifier.predict([text])
    assert written.json() == escaped.json()
    assert (written.json()["label"], written.json()["tokens"]) == (known.label, known.tokens)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ("text", "texts", "top_k", "logits", "inputs", "outputs", "parameters", "id")


@settings(deadline=None)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(_FIELDS), _ANY_JSON, max_size=4) | _ANY_JSON)
def test_any_json_is_answered_or_refused(client: httpx.Client, path: str, body: Any) -> None:
    answer = client.post(path, content=json.dumps(body).encode(), headers=JSON)
    assert answer.status_code in (200, 400, 413, 422), answer.text


def head(*lines: bytes, first: bytes = b"POST /predict HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: x", *lines)) + b"\r\n\r\n"


# A front that reads where such a request ends otherwise than we do would take the rest for the next one's.
@pytest.mark.parametrize(
    "request_",
    [
        head(b"Content-Length: 15", b"Content-Length: 15") + BODY,
        head(b"Content-Length: 15", b"Content-Length: 5") + BODY,
        head(b"Content-Length: 15, 15") + BODY,
        head(b"Content-Length: +15") + BODY,
        head(b"Content-Length: 0xf") + BODY,
        head(b"Content-Length : 15") + BODY,
        head(b"Content-Length: ") + BODY,
        head(b"Content-Length: 15", b"Transfer-Encoding: chunked") + CHUNKED,
        head(b"Transfer-Encoding: chunked", b"Content-Length: 15") + CHUNKED,
        head(b"Transfer-Encoding: xchunked") + CHUNKED,
        head(b"Transfer-Encoding: identity") + BODY,
        head(b"Transfer-Encoding: chunked, identity") + CHUNKED,
        head(b"Transfer-Encoding: identity, chunked") + CHUNKED,
        head(b"Transfer-Encoding: gzip, chunked") + CHUNKED,
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + CHUNKED,
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + CHUNKED,
        head(b"Transfer-Encoding: \x0bchunked") + CHUNKED,
        head(b"Transfer-Encoding:\r\n chunked") + CHUNKED,
        head(b"X: folded\r\n over lines", b"Content-Length: 15") + BODY,
        head(b"X: a\rContent-Length: 15") + BODY,
        head(b"X: a\x00b", b"Content-Length: 15") + BODY,
        head(b"Content-Length: 15").replace(b"\r\n", b"\n") + BODY,
        head(b"Transfer-Encoding: chunked") + b"0x" + CHUNKED,
        head(b"Transfer-Encoding: chunked") + b"+" + CHUNKED,
        head(b"Transfer-Encoding: chunked") + b"f" * 17 + CHUNKED,
        head(b"Transfer-Encoding: chunked") + CHUNKED.replace(b"}\r\n", b"}XX"),
        head(b"Transfer-Encoding: chunked") + CHUNKED.replace(b"f\r\n", b"f;\n"),
        head(b"Transfer-Encoding: chunked") + CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n",
    ],
    ids=range(28),
)
def test_where_a_request_ends_is_told_once_or_it_is_refused(client: httpx.Client, request_: bytes) -> None:
    answers = sent(client, request_ + head(first=b"GET /healthz HTTP/1.1"))
    assert STATUS.findall(answers) == [b"400"]
    assert b"connection: close" in answers


def test_what_follows_a_body_does_not_pass_for_its_head(client: httpx.Client) -> None:
    trailers = b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"X-Deadline-Ms: never\r\n\r\n"
    answers = sent(client, head(b"Transfer-Encoding: chunked", b"Connection: close") + CHUNKED[:-2] + trailers)
    assert answers.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("target", "status"), [(b"http://x/healthz", 200), (b"HTTP://x/healthz?a=/b", 200), (b"http://x", 404), (b"*", 404)]
)
def test_a_whole_address_in_the_first_line(client: httpx.Client, target: bytes, status: int) -> None:
    answers = sent(client, head(b"Connection: close", first=b"GET %b HTTP/1.1" % target))
    assert answers.startswith(b"HTTP/1.1 %d " % status)


def sent(client: httpx.Client, request_: bytes, and_left: bool = False) -> bytes:
    """What comes back until the connection is closed; `and_left` tells the endpoint that no more will come."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as wire:
        wire.sendall(request_)
        try:
            if and_left:
                wire.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: wire.recv(65536), b""))
        except OSError:  # it was closed before all was read
            return b""


_PIECES = st.sampled_from(
    [
        b"POST /predict HTTP/1.1\r\n",
        b"GET /metrics HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Content-Length: 15\r\n",
        b"Content-Length: 99999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"X-Deadline-Ms: 1\r\n",
        b"\r\n",
        BODY,
        b"f\r\n",
        b"0\r\n\r\n",
        b"\x00",
        b"\xff" * 40,
    ]
)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_PIECES | st.binary(max_size=20), max_size=14), st.integers(0, 400))
def test_any_pieces_of_requests_harm_nobody(client: httpx.Client, pieces: list[bytes], cut: int) -> None:
    answers = sent(client, b"".join(pieces)[: cut or None], and_left=True)
    assert {*STATUS.findall(answers)} <= {
        b"100",
        b"200",
        b"400",
        b"404",
        b"405",
        b"408",
        b"413",
        b"415",
        b"417",
        b"422",
        b"431",
        b"503",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "options"),
    [
        # A header that is not in the document is no violation of it; this phase believes it is.
        ("examples,coverage", ("--exclude-checks", "negative_data_rejection")),
        ("fuzzing", ("--max-examples", "1000" if LONG else "20")),
    ],
)
def test_every_operation_is_as_the_document_says(
    start_server: Any, shared_bundle: Any, tmp_path: Path, phases: str, options: tuple[str, ...]
) -> None:
    pytest.importorskip("schemathesis")
    (tmp_path / "keys").write_text("k\n")
    with start_server(shared_bundle.folder, "--api-key-file", str(tmp_path / "keys")) as running:
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")),
        ]
        asked = ["run", f"{running.url}/openapi.json", "--header", "Authorization: Bearer k", "--phases", phases]
        quiet = ["--no-color", "--generation-database", "none", *options]
        done = subprocess.run([*command, *asked, *quiet], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "14 selected / 14 total" in done.stdout
        answer = httpx.post(f"{running.url}/predict", json={"text": "red"}, headers={"x-api-key": "k"}, trust_env=False)
        assert answer.json()["label"] == "red"
