"""Just enough of an HTTP/1.1 client, in greenlets: kept connections, bytes out, status and body in.

Locust's own clients take several times as long over a request as a server that does nothing: what they parse, encode
and keep of each is of no use here, and the core they run on sets the ceiling of what a process can offer.
"""

from __future__ import annotations

import re
import socket as sockets
from collections.abc import Callable

from gevent import socket, ssl

from loadtests.protocol import Address

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_RECEIVE_BYTES = 65_536
_MOST_HEAD_BYTES = 65_536
_NO_BODY = (204, 304)


class BadAnswer(Exception):  # noqa: N818 - what came is no HTTP answer
    """The bytes that came are not an answer that this client understands."""


class Connections:
    """Connections to one address: the one that was used last is used next, a new one where none is free."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._free: list[socket.socket] = []
        self._context = ssl.create_default_context() if address.secure else None

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request.

        Raises:
            OSError: no connection could be made, or it broke.
            BadAnswer: what came is not HTTP.
        """
        connection = self._connection()
        try:
            connection.sendall(request)
            status, body, keep = _received(connection.recv)
        except BaseException:
            connection.close()
            raise
        if keep:
            self._free.append(connection)
        else:
            connection.close()
        return status, body

    def close(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop().close()

    def _connection(self) -> socket.socket:
        while self._free:
            connection = self._free.pop()
            if self._context is not None or _is_quiet(connection):
                return connection
            connection.close()
        connection = socket.create_connection((self._address.host, self._address.port))
        connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_hostname=self._address.host)


def _is_quiet(connection: socket.socket) -> bool:
    """Whether nothing has come on an idle connection: what comes there is its end."""
    try:
        # Past gevent, which would wait.
        connection._sock.recv(1, sockets.MSG_PEEK)  # type: ignore[attr-defined]
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _received(receive: Callable[[int], bytes]) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection can be used again."""
    data = _more(receive)
    while True:
        end = data.find(_HEAD_END)
        while end < 0:
            if len(data) > _MOST_HEAD_BYTES:
                raise BadAnswer("not HTTP")
            data += _more(receive)
            end = data.find(_HEAD_END)
        if data[:7] != b"HTTP/1." or not data[9:12].isdigit():
            raise BadAnswer("not HTTP")
        status = int(data[9:12])
        head, data = data[: end + 2], data[end + 4 :]
        if status >= 200:
            break
    keep = _is_kept(head)
    if (length := _LENGTH.search(head)) is not None:
        size = int(length[1])
        while len(data) < size:
            data += _more(receive)
        return status, data[:size], keep and len(data) == size
    if _CHUNKED.search(head):
        body, rest = _dechunked(data, receive)
        return status, body, keep and not rest
    if status in _NO_BODY:
        return status, b"", keep
    return status, _to_the_end(data, receive), False


def _is_kept(head: bytes) -> bool:
    """Whether a connection stays open after an answer with this head."""
    return head[:8] == b"HTTP/1.1" and not _CLOSE.search(head)


def _dechunked(data: bytes, receive: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    parts: list[bytes] = []
    while True:
        while (end := data.find(b"\r\n")) < 0:
            data += _more(receive)
        try:
            size = int(data[:end].split(b";")[0], 16)
        except ValueError:
            raise BadAnswer("not HTTP") from None
        need = end + 2 + size + 2
        while len(data) < need:
            data += _more(receive)
        if size == 0:
            # Trailers are not expected: what is left over costs the connection.
            return b"".join(parts), data[need:]
        parts.append(data[end + 2 : end + 2 + size])
        data = data[need:]


def _to_the_end(data: bytes, receive: Callable[[int], bytes]) -> bytes:
    while more := receive(_RECEIVE_BYTES):
        data += more
    return data


def _more(receive: Callable[[int], bytes]) -> bytes:
    if not (data := receive(_RECEIVE_BYTES)):
        raise ConnectionResetError("closed before the answer was whole")
    return data
