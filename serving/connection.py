"""One client's connection: bytes in, whole requests to the application, answers out in the order of the requests.

Parsing is httptools' (llhttp, strict). An ASGI server and framework between the socket and the application would cost
twice to three times the processor time per request, which is what a refusal costs: an endpoint at five times its
capacity that has to share its core with its refusals keeps that much less of it.

Nothing here waits: a connection only notes since when it is idle, half-read or unread, and `HttpServer` closes those
that have been so for too long.
"""

import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import httptools

from serving.messages import STATUS_LINES, Answer, Refusal, Reply, Request, refused, whole_number
from serving.wire import Wire, wire_of

if TYPE_CHECKING:
    import asyncio

    from serving.server import HttpServer

# After an answer that ends the connection the client may still be sending: closing at once would reset the connection,
# and the client's system would throw the answer away unread.
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 4 << 20


class Cancellable(Protocol):
    """Work on a request that is under way."""

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        ...


class Application(Protocol):
    """What answers requests."""

    def examine(self, request: Request) -> Answer | None:
        """The refusal that the head of a request earns, before its body is read; none as a rule."""
        ...

    def handle(self, request: Request, reply: Reply) -> Cancellable | None:
        """Answer a whole request through `reply`, at once or later; what is returned can be cancelled until then."""
        ...

    def misread(self, answer: Answer) -> None:
        """A request that was never whole was answered by the connection itself."""
        ...


class _Waiting(NamedTuple):
    """A whole request that waits for its turn, and whether the connection outlives it."""

    request: Request
    refusal: Answer | None
    keep_alive: bool


# In place of a request that is not read to its end.
_UNREAD: Final = Request("", "", {})


class Connection:
    """An `asyncio.Protocol`, what httptools calls back, and the `Reply` to the request that is being answered."""

    def __init__(self, server: "HttpServer") -> None:
        self._server = server
        self._limits = server.limits
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        # The request that is being read.
        self._reading = False
        self._in_head = False
        self._raw_bytes = 0
        self._url: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._head = _UNREAD
        self._body = bytearray()
        self._refusal: Answer | None = None
        self._messages_read = 0
        # Requests that are whole, and the one that is being answered.
        self._waiting: deque[_Waiting] = deque()
        self._answering: _Waiting | None = None
        self._work: Cancellable | None = None
        # The way past the transport. It is for clients that wait for one answer before they send more: only of those it
        # is certain that the transport holds nothing back which must go first.
        self._wire: Wire | None = None
        self._in_step = True
        # Everything received from here on is thrown away; and, when it is closing, nothing more is answered.
        self._deaf = False
        self._closing = False
        self._thrown_away = 0
        self._since_s = time.monotonic()
        self._unread_since_s = 0.0

    # What asyncio calls.

    def connection_made(self, transport: "asyncio.BaseTransport") -> None:
        """A client has come."""
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] - a TCP server makes no other
        self._wire = wire_of(transport)
        self._server.connections.add(self)
        if len(self._server.connections) > self._limits.max_connections:
            # It is about to send, and would lose the answer if it were closed on at once; a flood that does not read
            # it is not waited for.
            self._reading = len(self._server.connections) <= 2 * self._limits.max_connections
            self._cut(Refusal(503, "too many connections; try again shortly", ((b"retry-after", b"1"),)))

    def data_received(self, data: bytes) -> None:
        """Read on; requests that become whole are answered one after the other."""
        if self._deaf:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self.abort()
            return
        if self._answering is not None and not (self._wire and self._wire.answered):
            self._in_step = False
        messages_read = self._messages_read
        self._parse(data)
        if self._reading and not self._deaf and self._messages_read == messages_read:  # else it was not all of this one
            self._raw_bytes += len(data)
            self._refuse_endless()
        self._in_step = self._in_step and len(self._waiting) + self._reading <= 1
        self._answer_next()

    def _parse(self, data: bytes) -> None:
        """Have the parser call what is below for all of `data`."""
        pieces = [memoryview(data)]
        while pieces and not self._deaf:
            piece = pieces.pop()
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as offer:
                pieces += (piece[offer.args[0] :], memoryview(self._without_offer()))
            except httptools.HttpParserError:
                if not self._deaf:
                    self._cut(Refusal(400, "this is not an HTTP/1.1 request"))

    def _refuse_endless(self) -> None:
        """Cut a request off whose head, or whose chunks and trailers, have no end."""
        if self._in_head:
            if self._raw_bytes > self._limits.max_head_bytes:
                self._cut(self._too_long_a_head())
        elif self._raw_bytes > self._limits.max_head_bytes + 2 * self._limits.max_body_bytes:
            self._cut(self._too_large())

    def eof_received(self) -> None:
        """The client sends no more: it has left. The transport closes itself."""

    def connection_lost(self, _: Exception | None) -> None:
        """The client has gone; what it still waits for is not to be computed."""
        answered = self._wire is not None and self._wire.cut()
        self._deaf = self._closing = True
        self._transport = None
        self._server.forget(self)
        self._waiting.clear()
        if self._work is not None and not answered:
            self._work.cancel()
            self._work = None

    def pause_writing(self) -> None:
        """The client does not read its answers: it gets no more of them meanwhile."""
        self._unread_since_s = time.monotonic()
        self._read_on(False)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread_since_s = 0.0
        self._since_s = time.monotonic()
        self._answer_next()

    # What the server calls.

    def close_if_late(self, now_s: float) -> None:
        """Close a connection that has been idle, half-read or unread for too long."""
        limits, waited_s = self._limits, now_s - self._since_s
        if self._unread_since_s and now_s - self._unread_since_s > limits.write_timeout_s:
            self.abort()
        elif self._closing:
            if waited_s > LINGER_S:
                self.abort()
        elif self._answering is not None:
            pass
        elif self._reading:
            # Where answers are not read, it is this side that stopped reading.
            if waited_s > limits.request_timeout_s and not (self._deaf or self._unread_since_s):
                self._cut(Refusal(408, f"the request was not complete within {limits.request_timeout_s:g} s"))
        elif waited_s > limits.keep_alive_s:
            self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close a connection that nothing is under way on."""
        if self._answering is None and not (self._reading or self._waiting) and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # What the application calls.

    def send(self, answer: Answer) -> None:
        """Write the answer to the request that is being answered, or what is left of it."""
        answered, later = self._answering, self._work is not None
        early = self._wire.take_early() if self._wire is not None else None
        self._answering = self._work = None
        if answered is None or self._transport is None:
            return
        close = answer.close or not answered.keep_alive or self._server.draining
        if early is None:
            self._write(answer, close, head_only=answered.request.method == "HEAD")
        elif early.written < len(early.content):
            self._transport.write(early.content[early.written :])
        self._since_s = time.monotonic()
        if close:
            self._end()
        elif later and self._waiting:
            self._answer_next()

    def send_early(self, answer: Answer) -> None:
        """See `Reply.send_early`. An answer that ends the connection is left to the event loop, as it must close it."""
        answered, wire, draining = self._answering, self._wire, self._server.draining
        if answered is None or wire is None or not self._in_step:
            return
        if draining or answer.close or not answered.keep_alive:
            return
        wire.write(self._content(answer, close=False, head_only=answered.request.method == "HEAD"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = self._in_head = True
        self._raw_bytes = 0
        self._url, self._headers, self._body = [], {}, bytearray()
        self._refusal = None
        if self._answering is None:
            self._since_s = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        self._url.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header; what follows the body under that name is not one, and must not pass for one."""
        if self._in_head:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole: refuse what can be refused already, and ask for the body where the client waits to be."""
        self._in_head = False
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                self._cut(Refusal(405, "CONNECT is not answered here"))
            return  # see `_without_offer`
        head_bytes = sum([len(name) + len(value) for name, value in self._headers.items()], sum(map(len, self._url)))
        if head_bytes > self._limits.max_head_bytes:
            self._cut(self._too_long_a_head())
            return
        self._head = Request(self._parser.get_method().decode("latin-1"), _path(b"".join(self._url)), self._headers)
        if self._headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._cut(Refusal(400, "of transfer encodings only chunked is understood"))
            return
        declared = whole_number(self._headers.get(b"content-length", b"0"))
        if declared is None or declared > self._limits.max_body_bytes:
            self._cut(self._too_large())
            return
        self._refusal = self._server.application.examine(self._head)
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._deaf:
            if self._refusal is not None:
                self._cut_with(self._refusal)
            elif self._transport is not None:
                self._in_step = False  # the client may not wait for this
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._deaf or self._refusal is not None:
            return
        self._body += body
        if len(self._body) > self._limits.max_body_bytes:
            self._cut(self._too_large())

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._deaf:
            return
        self._reading = False
        self._messages_read += 1
        if not self._parser.should_upgrade():
            # A client of HTTP/1.0 would have to be told that it may keep its connection; it is closed instead.
            keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0"
            method, path, headers, _ = self._head
            request = Request(method, path, headers, bytes(self._body))
            self._body = bytearray()
            self._waiting.append(_Waiting(request, self._refusal, keep_alive))

    # Answering.

    def _answer_next(self) -> None:
        """Begin with the next request, if one is whole and the client reads what it is told."""
        while self._waiting and self._answering is None and not self._closing and not self._unread_since_s:
            self._answering = waiting = self._waiting.popleft()
            if waiting.refusal is not None:
                self.send(waiting.refusal)
                continue
            self._in_step = (
                self._in_step and self._transport is not None and not self._transport.get_write_buffer_size()
            )
            work = self._server.application.handle(waiting.request, self)
            if self._answering is waiting:
                self._work = work
        # A client that does not wait for answers gets no more room than this.
        self._read_on(not (self._waiting or self._unread_since_s))

    def _read_on(self, wanted: bool) -> None:
        """Read what the client sends, or leave it where it is."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() == wanted:
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _cut(self, refusal: Refusal) -> None:
        """Refuse the request that is being read, and all that follows it."""
        answer = refused(refusal, close=True)
        self._server.application.misread(answer)
        self._cut_with(answer)

    def _cut_with(self, answer: Answer) -> None:
        """Answer in its turn, after earlier requests, and then no more."""
        self._deaf = True
        self._waiting.append(_Waiting(_UNREAD, answer._replace(close=True), keep_alive=False))
        if self._answering is None:
            self._answer_next()

    def _end(self) -> None:
        """Say no more, and close once the client has had time to read what was said."""
        self._deaf = self._closing = True
        self._since_s = time.monotonic()
        self._waiting.clear()
        if self._transport is None:
            return
        if self._reading and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _write(self, answer: Answer, close: bool, head_only: bool = False) -> None:
        """One answer in one piece."""
        if self._transport is not None:
            self._transport.write(self._content(answer, close, head_only))

    def _content(self, answer: Answer, close: bool, head_only: bool) -> bytes:
        """The bytes of an answer."""
        status, body, content_type, headers, _ = answer
        parts = [STATUS_LINES[status], self._server.date_line, b"content-type: ", content_type]
        for name, value in headers:
            parts += (b"\r\n", name, b": ", value)
        if close:
            parts.append(b"\r\nconnection: close")
        parts.append(b"\r\ncontent-length: %d\r\n\r\n" % len(body))
        if not head_only:
            parts.append(body)
        return b"".join(parts)

    def _without_offer(self) -> bytes:
        """The head that was just read, without its offer to change to another protocol, for a parser of its own.

        Java's client and `curl --http2` offer HTTP/2 with every first request, a body included. An offer may be
        ignored, but the parser stops at it.
        """
        dropped = (b"upgrade", b"http2-settings", b"connection")
        kept = [b"%b: %b\r\n" % (name, value) for name, value in self._headers.items() if name not in dropped]
        line = b"%b %b HTTP/1.1\r\n" % (self._parser.get_method(), b"".join(self._url))
        self._parser = httptools.HttpRequestParser(self)
        return b"".join((line, *kept, b"\r\n"))

    def _too_long_a_head(self) -> Refusal:
        return Refusal(431, f"path and headers are larger than {self._limits.max_head_bytes} bytes")

    def _too_large(self) -> Refusal:
        sentence = f"the body is larger than {self._limits.max_body_bytes} bytes; send fewer or shorter texts"
        return Refusal(413, sentence)


def _path(target: bytes) -> str:
    """The path of what a request line names: a path, or as proxies have it a whole address."""
    path = target.partition(b"?")[0]
    if path.lower().startswith((b"http://", b"https://")):
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") > 2 else b"/"
    return path.decode("latin-1")
