"""A local server that answers as the clouds' price services do, and as they do on a bad day."""

import datetime
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pricing.refreshing.refresh import Refreshed, Services, refresh

TODAY = datetime.date(2026, 11, 28)


@dataclass
class Answer:
    """What the server says: a status, headers and a body of which it may send only a part."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent_ratio: float = 1.0
    compressed: bool = False

    def content(self) -> bytes:
        plain = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return gzip.compress(plain) if self.compressed else plain


class PriceService:
    """Answers by path, in turn: the last answer of a path is given for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                service.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def on(self, path: str, *answers: Answer | dict[str, Any]) -> None:
        self.answers[path] = [each if isinstance(each, Answer) else Answer(each) for each in answers]

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.asked.append((parts.path, parse_qs(parts.query), dict(handler.headers)))
        turns = self.answers.get(parts.path, [Answer(status=404)])
        answer = turns.pop(0) if len(turns) > 1 else turns[0]
        etag = answer.headers.get("ETag")
        if etag and handler.headers.get("If-None-Match") == etag:
            answer = Answer(status=304, headers={"ETag": etag})
        content = answer.content()
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.compressed:
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: int(len(content) * answer.sent_ratio)])
        if answer.sent_ratio < 1:
            handler.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[PriceService]:
    running = PriceService()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's empty price folder, without credentials of any cloud."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DEPLOYCOST_PRICES_DIR", str(tmp_path / "prices"))
    return tmp_path / "prices"


@pytest.fixture
def fetch(service: PriceService, folder: Path) -> Callable[..., list[Refreshed]]:
    """Refreshes regions of a cloud from the local server, without waiting between tries."""

    def run(cloud: str, *regions: str, today: datetime.date = TODAY, retries: int = 3) -> list[Refreshed]:
        services = Services(service.url, gcp_key="a-key", retries=retries, backoff_s=0)
        return list(refresh(cloud, regions, folder, services, today))

    return run
