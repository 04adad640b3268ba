"""One request and one answer, as everything above the socket sees them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import msgspec

from serving.errors import Overloaded

JSON: Final = b"application/json"
_encode = msgspec.json.Encoder().encode


class Request(NamedTuple):
    """A whole request, or one whose body is still to come. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""


class Answer(NamedTuple):
    """What goes back. `close` ends the connection after it."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is not answered as asked: what is wrong with it, in one sentence."""

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class ErrorBody(msgspec.Struct, frozen=True):
    """Body of every answer that is not a 200: one sentence that says what was wrong and what to do."""

    error: str


class Reply(Protocol):
    """The way back to whoever sent one request."""

    def send(self, answer: Answer) -> None:
        """Answer, once, on the event loop."""
        ...

    def send_early(self, answer: Answer) -> None:
        """On another thread, just before the event loop is told to `send` the same: save the way there if possible."""
        ...


def json_answer(body: object) -> Answer:
    """A 200 with `body` as JSON."""
    return Answer(200, _encode(body))


def refused(refusal: Refusal, close: bool = False) -> Answer:
    """The answer that a refusal stands for."""
    return Answer(refusal.status, _encode(ErrorBody(str(refusal))), headers=refusal.headers, close=close)


def overloaded(error: Overloaded) -> Answer:
    """The answer to a right request at the wrong time."""
    retry_after = (b"retry-after", b"%d" % error.retry_after_s)
    return Answer(503, _encode(ErrorBody(f"{error}; try again shortly")), headers=(retry_after,))


def failed() -> Answer:
    """The answer to a fault of our own; what happened is in the log and not in the answer."""
    return Answer(500, _encode(ErrorBody("the endpoint failed to answer this request; its log says more")))


def whole_number(value: bytes) -> int | None:
    """The number that a header holds, or `None`; more than 12 digits are of no use, and 5,000 are refused by Python."""
    return int(value) if value.isdigit() and len(value) <= 12 else None


STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
