"""Clients that dawdle, break off, flood or speak badly, on a socket of this process."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.classifier import Classifier
from serving.http import Endpoint
from serving.limits import Limits

IMPATIENT = Limits(
    request_timeout_s=0.5, keep_alive_s=1.5, write_timeout_s=1, max_head_bytes=2000, max_body_bytes=1000, max_texts=3
)
BODY = b'{"text": "red"}'
WHOLE = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n" + BODY


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, IMPATIENT)) as client:
        yield client


@pytest.fixture
def wire(client: httpx.Client) -> Iterator[socket.socket]:
    """A connection of one's own; in the end the endpoint must still answer others.

    They come on fresh connections: one from `client`'s pool may have been idle for too long at that very moment.
    """
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as wire:
        yield wire
    assert httpx.post(f"{client.base_url}/predict", json={"text": "blue"}).json()["label"] == "blue"


def until_closed(wire: socket.socket) -> bytes:
    return b"".join(iter(lambda: wire.recv(65536), b""))


def one_answer(wire: socket.socket) -> bytes:
    """One whole answer; answers here are short enough to come in one piece."""
    return wire.recv(65536)


@pytest.mark.parametrize(
    "part",
    [b"P", b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-", WHOLE[:-1], WHOLE.split(b"\r\n\r\n")[0] + b"\r\n\r\n"],
)
def test_a_request_that_never_ends_is_408(wire: socket.socket, part: bytes) -> None:
    start_s = time.perf_counter()
    wire.sendall(part)
    answer = until_closed(wire)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'{"error":"the request was not complete within 0.5 s"}' in answer
    assert 0.4 < time.perf_counter() - start_s < 5


def test_dripping_buys_no_time(wire: socket.socket) -> None:
    stop = threading.Event()

    def drip() -> None:
        for byte in WHOLE:
            try:
                wire.sendall(bytes([byte]))
            except OSError:
                return
            if stop.wait(0.1):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    assert wire.recv(65536).startswith(b"HTTP/1.1 408")
    stop.set()
    thread.join()


def test_an_idle_connection_is_closed_and_says_nothing(wire: socket.socket) -> None:
    wire.sendall(WHOLE)
    assert one_answer(wire).startswith(b"HTTP/1.1 200")
    start_s = time.perf_counter()
    assert until_closed(wire) == b""
    assert 1 < time.perf_counter() - start_s < 8


def test_one_request_in_many_pieces(wire: socket.socket) -> None:
    for byte in WHOLE:
        wire.sendall(bytes([byte]))
    assert b'"label":"red"' in one_answer(wire)


def test_many_requests_in_one_piece_are_answered_in_order(wire: socket.socket) -> None:
    words = [b"red", b"blue", b"green", b"blue"] * 20
    bodies = [b'{"text": "%b"}' % word for word in words]
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    wire.sendall(
        b"".join(head % len(body) + body for body in bodies) + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    answers = until_closed(wire).split(b"HTTP/1.1 ")[1:]
    assert [answer.partition(b'"label":"')[2].partition(b'"')[0] for answer in answers[:-1]] == words
    assert b"alive" in answers[-1]
    assert b"connection: close" in answers[-1]


@pytest.mark.parametrize(
    "bad", [b"\x00\x01 nonsense\r\n\r\n", b"POST /predict HTTP/1.1\r\nContent-Length: 1001\r\n\r\n"]
)
def test_good_requests_are_answered_before_a_bad_one_ends_the_connection(wire: socket.socket, bad: bytes) -> None:
    wire.sendall(WHOLE * 3 + bad + WHOLE)
    *good, last = re.findall(rb"HTTP/1.1 (\d+) ", until_closed(wire))
    assert good == [b"200"] * 3
    assert last in (b"400", b"413")


def test_many_small_requests_are_no_long_head(wire: socket.socket) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.sendall(ask * 200 + ask[:20])  # more than a head may have, and its end is within one
    wire.sendall(ask[20:-2] + b"Connection: close\r\n\r\n")
    assert until_closed(wire).count(b"HTTP/1.1 200") == 201


def test_offers_without_end(wire: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    offer = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    wire.sendall(offer * 3000 + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert until_closed(wire).count(b"HTTP/1.1 200") == 3001
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("part", [b"1\r\n{\r\n0\r\nX: ", b"1;"])
def test_a_trailer_and_a_chunk_s_head_have_an_end(wire: socket.socket, part: bytes) -> None:
    wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + part + b"a" * 5000)
    assert wire.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nBad Header : 1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 3000, 431),
        (b"GET /healthz HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_what_no_client_should_send(wire: socket.socket, request_: bytes, status: int) -> None:
    wire.sendall(request_)
    answer = until_closed(wire)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b'{"error":"' in answer
    assert b"connection: close" in answer


def test_http_1_0_is_answered_and_closed(wire: socket.socket) -> None:
    wire.sendall(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b'"label":"red"' in until_closed(wire)


def test_an_offer_of_another_protocol_is_ignored(wire: socket.socket) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length"
    wire.sendall(WHOLE.replace(b"Content-Length", offer))
    assert b'"label":"red"' in one_answer(wire)
    wire.sendall(b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + WHOLE)
    both = one_answer(wire)
    while b"label" not in both:
        both += one_answer(wire)
    assert b"alive" in both


def test_head_has_no_body(client: httpx.Client) -> None:
    answer = client.head("/healthz")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "18")


def test_a_chunked_body_that_stops_half_way(wire: socket.socket) -> None:
    wire.sendall(b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{")
    wire.shutdown(socket.SHUT_WR)
    assert until_closed(wire) == b""


def test_who_waits_to_be_asked_for_the_body_is_refused_before_sending_it(wire: socket.socket) -> None:
    wire.sendall(b"POST /nowhere HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n")
    assert until_closed(wire).startswith(b"HTTP/1.1 404")


def test_who_reads_no_answers_is_cut_off(wire: socket.socket) -> None:
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.settimeout(0.5)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with pytest.raises(ConnectionError):
        ask_on(wire, ask * 100, until_s=time.perf_counter() + 20)


def ask_on(wire: socket.socket, requests: bytes, until_s: float) -> None:
    """Send requests and read nothing, until the other side closes."""
    while time.perf_counter() < until_s:
        try:
            wire.sendall(requests)
        except TimeoutError:
            time.sleep(0.2)


def test_who_reads_no_answers_gets_no_more_of_them(classifier: Classifier, served_aside: Any) -> None:
    with served_aside(Endpoint(classifier, Limits(max_head_bytes=1 << 20))) as client:
        answer = client.get("/openapi.json")
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=0.5) as wire:
            with pytest.raises(TimeoutError):
                wire.sendall(ask * 1_000_000)
            wire.settimeout(10)
            told = client.get("/metrics").text
            asked = float(told.partition('code="200",route="/openapi.json"} ')[2].partition("\n")[0])
            # What the systems of both sides hold, and no more of them.
            assert asked < 32 * 2**20 / len(answer.content)
            read = 0
            while read < 64 * 2**20:  # it goes on when they are read
                read += len(wire.recv(1 << 20))


def test_connections_are_counted(classifier: Classifier, served_aside: Any) -> None:
    with served_aside(Endpoint(classifier, Limits(max_connections=2))) as client:
        address = client.base_url.host, client.base_url.port
        with socket.create_connection(address) as first, socket.create_connection(address) as second:
            first.sendall(WHOLE)
            assert one_answer(first).startswith(b"HTTP/1.1 200")
            second.sendall(WHOLE)
            assert one_answer(second).startswith(b"HTTP/1.1 200")
            with socket.create_connection(address) as third:
                for piece in WHOLE[:40], WHOLE[40:]:  # sent after it was refused: the refusal must not be lost with it
                    time.sleep(0.1)
                    third.sendall(piece)
                answer = until_closed(third)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in answer
        assert client.post("/predict", json={"text": "red"}).status_code == 200
