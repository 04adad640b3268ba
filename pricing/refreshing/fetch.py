"""Fetching over HTTP with patience: retries with back-off, answers that have not changed, files that break off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from pricing.atomic import write_atomically
from pricing.errors import PriceError

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = (10.0, 60.0)
# Of a busy service (429) and a broken one (5xx); what a service asks to wait is waited, up to two minutes.
_RETRIED_STATUS = (429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 120
_BODY_ATTEMPTS = 3
_VALIDATORS = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))

# Called with what is fetched, bytes so far, and bytes in all where the service says.
Progress = Callable[[str, int, int | None], None]

__all__ = ["Fetcher", "Progress"]


class Fetcher:
    """One session with a price service. Use it as a context manager: it holds connections.

    `cache_folder` keeps small answers with their validators (ETag, Last-Modified): what the service says has not
    changed is not fetched again.
    """

    def __init__(
        self,
        cache_folder: Path,
        progress: Progress = lambda _what, _done, _total: None,
        *,
        headers: Mapping[str, str] | None = None,
        retries: int = 5,
        backoff_s: float = 0.5,
    ) -> None:
        self._cache_folder = cache_folder
        self._progress = progress
        self._session = requests.Session()
        self._session.headers.update({"Accept": "application/json", **(headers or {})})
        retry = Retry(
            total=retries,
            backoff_factor=backoff_s,
            status_forcelist=_RETRIED_STATUS,
            allowed_methods=("GET",),
            raise_on_status=False,
            retry_after_max=_LONGEST_WAIT_S,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def json(self, url: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON document
        """The JSON document at a URL, its fractions as `Decimal`; from the cache where it has not changed.

        Raises:
            PriceError: the service cannot be reached, refuses, or answers with another thing than JSON.
        """
        cache = self._cache_folder / f"{_digest(url, params)}.json"
        kept = _read_json(cache)
        for attempt in range(1, _BODY_ATTEMPTS + 1):
            try:
                with self._open(url, params, kept or {}) as response:
                    if response.status_code == HTTPStatus.NOT_MODIFIED and kept:
                        return kept["body"]
                    body = json.loads(response.content, parse_float=Decimal)
                    if validators := _validators(response):
                        write_atomically(cache, json.dumps({**validators, "body": body}, default=str).encode())
                    return body
            except requests.RequestException as error:
                if attempt == _BODY_ATTEMPTS:
                    raise _broke_off(url, error) from None
            except ValueError:
                raise PriceError(f"{_place(url)} did not answer with JSON: is it a price service?") from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextmanager
    def file(self, what: str, url: str, validators: Mapping[str, str]) -> Iterator[FileDownload]:
        """A large file, to be read in pieces; with the validators of the copy that one has, if any.

        Raises:
            PriceError: the service cannot be reached or refuses; while reading, the file breaks off.
        """
        try:
            with self._open(url, None, validators) as response:
                yield FileDownload(what, url, response, self._progress)
        except requests.RequestException as error:
            raise _broke_off(url, error) from None

    @contextmanager
    def _open(
        self, url: str, params: Mapping[str, str] | None, validators: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        asked = {request: validators[answer] for answer, request in _VALIDATORS if answer in validators}
        with self._session.get(url, params=params, headers=asked, stream=True, timeout=_TIMEOUT_S) as response:
            if response.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
                raise PriceError(
                    f"{_place(url)} answered {response.status_code} {response.reason}; nothing was changed"
                )
            yield response


class FileDownload:
    """A file on its way: its pieces, decompressed, and what to ask with next time."""

    def __init__(self, what: str, url: str, response: requests.Response, progress: Progress) -> None:
        self._what, self._url, self._response, self._progress = what, url, response, progress
        self.is_unchanged = response.status_code == HTTPStatus.NOT_MODIFIED
        self.validators = _validators(response)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file, a megabyte at a time.

        Raises:
            PriceError: the file broke off.
        """
        # Of a compressed file the length is that on the wire, which says nothing of the bytes that come out.
        length = self._response.headers.get("Content-Length")
        total = int(length) if length and "Content-Encoding" not in self._response.headers else None
        done = 0
        for chunk in self._response.iter_content(_CHUNK_BYTES):
            done += len(chunk)
            self._progress(self._what, done, total)
            yield chunk


def _validators(response: requests.Response) -> dict[str, str]:
    return {answer: response.headers[answer] for answer, _ in _VALIDATORS if answer in response.headers}


def _digest(url: str, params: Mapping[str, str] | None) -> str:
    return hashlib.sha256(json.dumps([url, sorted((params or {}).items())]).encode()).hexdigest()[:32]


def _read_json(path: Path) -> dict[str, Any] | None:
    """What was kept, or None: a damaged cache is no cache."""
    try:
        kept = json.loads(path.read_bytes(), parse_float=Decimal)
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and "body" in kept else None


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _broke_off(url: str, error: requests.RequestException) -> PriceError:
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return PriceError(f"{_place(url)} broke off half-way; nothing was changed, try again")
    return PriceError(f"cannot reach {_place(url)} ({type(error).__name__}); nothing was changed")
