"""The endpoint's HTTP face: what it accepts, what it answers, and how it says no.

Every refusal is a 4xx or a 503 with `{"error": "one sentence"}`. What a user sends is never logged.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.batching import Batcher
from serving.classifier import Classifier, Prediction
from serving.errors import EngineError, Overloaded
from serving.limits import Limits

RETRY_AFTER_S: Final = 1
_EXPECTED: Final = 'expected {"text": "..."} or {"texts": ["...", ...]}'


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /predict`: one of the two."""

    text: str | msgspec.UnsetType = msgspec.UNSET
    texts: list[str] | msgspec.UnsetType = msgspec.UNSET


class PredictResponse(msgspec.Struct, frozen=True):
    """Answer to `{"texts": [...]}`, in the order of the texts; `{"text": ...}` is answered by a bare `Prediction`."""

    predictions: list[Prediction]


class Metadata(msgspec.Struct, frozen=True):
    """Answer of `GET /metadata`: which model this process serves, and how."""

    variant: str
    labels: tuple[str, ...]
    engine: str
    precision: str
    max_tokens: int
    format_version: int
    bundle_digest: str
    threads: int
    pid: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PredictRequest).decode


def create_app(classifier: Classifier, limits: Limits | None = None) -> Starlette:
    """The ASGI application that serves `classifier`; its lifespan starts and drains the engine's thread."""
    endpoint = _Endpoint(classifier, limits or Limits())
    return Starlette(
        routes=[
            Route("/predict", endpoint.predict, methods=["POST"]),
            Route("/healthz", endpoint.healthz, methods=["GET"]),
            Route("/readyz", endpoint.readyz, methods=["GET"]),
            Route("/metadata", endpoint.metadata, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused, Overloaded: _overloaded, EngineError: _failed, Exception: _failed},
        lifespan=endpoint.lifespan,
    )


class _Endpoint:
    """The routes of one application and what they share."""

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self._limits = limits
        self._batcher = Batcher(classifier, limits.max_batch, limits.max_queue)
        manifest = classifier.bundle.manifest
        self._metadata = Metadata(
            variant=manifest.variant,
            labels=manifest.labels,
            engine=manifest.engine,
            precision=manifest.precision,
            max_tokens=manifest.max_tokens,
            format_version=manifest.format_version,
            bundle_digest=classifier.bundle.digest,
            threads=classifier.threads,
            pid=os.getpid(),
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Work while the application runs; drain when it ends."""
        self._batcher.start()
        try:
            yield
        finally:
            await self._batcher.stop()

    async def predict(self, request: Request) -> Response:
        """Classify one text or several."""
        try:
            body = await _read_body(request, self._limits.max_body_bytes)
        except ClientDisconnect:
            return Response(status_code=400)  # the body stopped half-way, and nobody reads this
        asked = _parse(body)
        if isinstance(asked.text, str):
            _refuse_blank(asked.text, "text")
            (prediction,) = await self._batcher.submit([asked.text])
            return _json(prediction)
        if isinstance(asked.texts, list):
            self._refuse_unfit(asked.texts)
            return _json(PredictResponse(await self._batcher.submit(asked.texts)))
        raise HTTPException(422, f"the body names neither text nor texts; {_EXPECTED}")

    async def healthz(self, _: Request) -> Response:
        """The process is alive."""
        return _json({"status": "alive"})

    async def readyz(self, _: Request) -> Response:
        """The model is loaded, was tried, and takes texts."""
        if not self._batcher.ready:
            raise Overloaded("the endpoint is starting or stopping")
        return _json({"status": "ready"})

    async def metadata(self, _: Request) -> Response:
        """Which model this is."""
        return _json(self._metadata)

    def _refuse_unfit(self, texts: list[str]) -> None:
        """`HTTPException` where a list of texts is empty, too long or holds a blank one."""
        if not texts:
            raise HTTPException(422, "texts is empty; send at least one text")
        if len(texts) > self._limits.max_texts:
            raise HTTPException(413, f"{len(texts)} texts are too many; send at most {self._limits.max_texts} at once")
        for position, text in enumerate(texts):
            _refuse_blank(text, f"texts[{position}]")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body; `HTTPException` before more than `max_bytes` of it are held."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, f"content type {media_type[:100]!r} is not understood; send application/json")
    too_large = HTTPException(
        413, f"the body is larger than {max_bytes} bytes; send fewer or shorter texts", {"connection": "close"}
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > max_bytes:
            raise too_large
        body += chunk
    return bytes(body)


def _parse(body: bytes) -> PredictRequest:
    """The request in a body; `HTTPException` where it is not JSON (400) or asks for something else (422)."""
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise HTTPException(422, f"{str(error)[:200]}; {_EXPECTED}") from None
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8; send JSON in UTF-8") from None
    except msgspec.DecodeError as error:
        raise HTTPException(400, f"the body is not valid JSON: {str(error)[:200]}; {_EXPECTED}") from None
    if asked.text is not msgspec.UNSET and asked.texts is not msgspec.UNSET:
        raise HTTPException(422, f"the body names both text and texts; {_EXPECTED}")
    return asked


def _refuse_blank(text: str, name: str) -> None:
    """`HTTPException` where there is nothing to classify."""
    if not text or text.isspace():
        raise HTTPException(422, f"{name} is empty or only white space; send a text to classify")


def _json(answer: object, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(answer), status_code, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    """A request that was wrong, of our own finding or of the router's (404, 405)."""
    refusal = cast("HTTPException", error)  # registered for this class alone
    headers = dict(refusal.headers or {})
    sentence = refusal.detail
    if refusal.status_code == 404:
        sentence = "there is nothing at this path; expected POST /predict or GET /healthz, /readyz or /metadata"
    elif refusal.status_code == 405:
        allowed = " or ".join(sorted(headers.get("Allow", "").split(", ")))
        sentence = f"{request.method[:20]} is not answered at this path; use {allowed}"
    return _json({"error": sentence}, refusal.status_code, headers)


async def _overloaded(_: Request, error: Exception) -> Response:
    """A right request at the wrong time."""
    return _json({"error": f"{error}; try again shortly"}, 503, {"retry-after": str(RETRY_AFTER_S)})


async def _failed(_: Request, __: Exception) -> Response:
    """Our own fault; what happened is in the log and not in the answer."""
    return _json({"error": "the endpoint failed to answer this request; its log says more"}, 500)
