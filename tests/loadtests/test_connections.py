"""The HTTP client against sockets that answer in every way a server may, or as none should."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from loadtests.connections import BadAnswer, Connections
from loadtests.protocol import address_of

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
Serve = Callable[..., Connections]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers each connection with the chunks given, one for each request that comes; None closes it."""
    with ExitStack() as stack:

        def start(*connections: list[bytes | None]) -> Connections:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def run() -> None:
                for answers in connections:
                    connection, _ = server.accept()
                    with connection:
                        for answer in answers:
                            if not connection.recv(4096) or answer is None:
                                break
                            connection.sendall(answer)

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            return Connections(address_of(f"http://127.0.0.1:{server.getsockname()[1]}"))

        yield start


def answer(body: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), head, body)


def test_a_connection_is_used_again(serve: Serve) -> None:
    client = serve([answer(b"one"), answer(b"two")])
    assert [client.exchange(REQUEST), client.exchange(REQUEST)] == [(200, b"one"), (200, b"two")]
    client.close()


def test_a_connection_that_is_to_close_or_did_is_not(serve: Serve) -> None:
    client = serve([answer(b"one", b"Connection: close\r\n")], [answer(b"two")], [answer(b"three")])
    assert [client.exchange(REQUEST)[1] for _ in range(2)] == [b"one", b"two"]
    # The server closed it meanwhile, which is not an error of the next request.
    threading.Event().wait(0.1)
    assert client.exchange(REQUEST)[1] == b"three"
    client.close()


def test_chunks_and_interim_answers(serve: Serve) -> None:
    chunked = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4;x=y\r\ntwo!\r\n0\r\n\r\n"
    client = serve([b"HTTP/1.1 100 Continue\r\n\r\n" + chunked, answer(b"next")])
    assert client.exchange(REQUEST) == (201, b"onetwo!")
    assert client.exchange(REQUEST) == (200, b"next")
    client.close()


def test_a_body_that_ends_with_the_connection(serve: Serve) -> None:
    assert serve([b"HTTP/1.0 200 OK\r\n\r\nall"]).exchange(REQUEST) == (200, b"all")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"SSH-2.0-server\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ConnectionResetError),
        (None, ConnectionResetError),
    ],
)
def test_what_is_no_whole_answer_is_an_error(serve: Serve, sent: bytes | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        serve([sent]).exchange(REQUEST)


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "127.0.0.1:8000", "http://h:99999", "http://h/?q=1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL of an endpoint"):
        address_of(url)
