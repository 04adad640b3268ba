"""The endpoint's routes: what is asked of which path, who may ask, and how the endpoint says no.

Every refusal is a 4xx or a 503 with `{"error": "one sentence"}`. What a user sends is never logged.
"""

import logging
import os
from collections.abc import Callable
from importlib import metadata
from typing import Final
from urllib.parse import unquote

import msgspec

from serving import metrics, open_inference, predicting
from serving.batching import Batcher
from serving.bundle import Task
from serving.classifier import Classifier
from serving.connection import Cancellable
from serving.errors import EngineError, Overloaded
from serving.jobs import Failure, Job, Outcome
from serving.limits import Limits
from serving.messages import Answer, Refusal, Reply, Request, failed, json_answer, overloaded, refused
from serving.metrics import CLIENT_LEFT, NO_ROUTE, Metrics
from serving.openapi import Operation, document
from serving.predicting import ANSWERS, DEADLINE_HEADER, PredictRequest
from serving.security import KeyRing

logger = logging.getLogger(__name__)

_SERVER: Final = "deploycost"
_PATHS: Final = "expected POST /predict or GET /healthz, /readyz or /metadata; /openapi.json lists all"
_WITHOUT_KEY: Final = (b"www-authenticate", b'Bearer realm="deploycost"')
_MODEL: Final = "/v2/models/{name}"
_MODEL_VERSION: Final = _MODEL + "/versions/{version}"


class Status(msgspec.Struct, frozen=True):
    """Answer of `GET /healthz` and `GET /readyz`."""

    status: str


class Metadata(msgspec.Struct, frozen=True):
    """Answer of `GET /metadata`: which model this process serves, and how."""

    variant: str
    task: Task
    labels: tuple[str, ...]
    threshold: float | None
    engine: str
    precision: str
    max_tokens: int
    format_version: int
    bundle_digest: str
    threads: int
    pid: int


# What is answered with the outcomes of a request.
_Render = Callable[[list[Outcome]], Answer]


class _Counted:
    """A reply to a request of one route that is counted once it is sent."""

    __slots__ = ("_metrics", "_reply", "_route", "send_early")

    def __init__(self, reply: Reply, metrics: Metrics, route: str) -> None:
        self._reply = reply
        self._metrics = metrics
        self._route = route
        self.send_early = reply.send_early

    def send(self, answer: Answer) -> None:
        """Answer first: the client waits for that, and for no count."""
        self._reply.send(answer)
        self._metrics.in_flight.dec()
        self._metrics.answered(self._route, answer.status)


class _Submitted:
    """A request whose texts are queued; cancelled when its client leaves."""

    __slots__ = ("_answer", "_endpoint", "_metrics", "_render", "_reply", "_route", "job")

    def __init__(self, endpoint: "Endpoint", metrics: Metrics, route: str, reply: Reply, render: _Render) -> None:
        self._endpoint = endpoint
        self._metrics = metrics
        self._route = route
        self._reply = reply
        self._render = render
        self._answer: Answer | None = None
        self.job: Job | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self.job is not None:
            self._endpoint.left(self._route, self.job)

    def nearly_done(self, outcomes: list[Outcome]) -> None:
        """Send the answer from the engine's thread: waking the event loop first takes a lone client's time."""
        self._answer = self._render(outcomes)
        self._reply.send_early(self._answer)

    def done(self, result: list[Outcome] | Failure) -> None:
        """Answer with the outcomes or with what went wrong."""
        if isinstance(result, list):
            self._reply.send(self._answer or self._render(result))
        elif isinstance(result, EngineError):
            self._metrics.error("engine")
            self._reply.send(failed())
        else:
            self._metrics.error(result.reason)
            self._reply.send(overloaded(result))


# Answers at once, or hands the request on and says how to cancel it.
_Handler = Callable[["_Route", Request, Reply], Cancellable | None]


class _Route(msgspec.Struct, frozen=True):
    """One operation, what answers it, and whether it does so without a key."""

    operation: Operation
    handler: _Handler
    open: bool = False


class Endpoint:
    """One classifier behind its routes: the `Application` of a connection. `start` and `stop` frame its work."""

    def __init__(self, classifier: Classifier, limits: Limits | None = None, keys: KeyRing | None = None) -> None:
        self.limits = limits or Limits()
        self._keys = keys
        self._metrics = Metrics()
        window_s = self.limits.batch_window_ms / 1000
        self._batcher = Batcher(classifier, self.limits.max_batch, self.limits.max_queue, window_s, self._metrics)
        manifest = classifier.bundle.manifest
        self._name = manifest.variant
        self._metadata = Metadata(
            variant=manifest.variant,
            task=manifest.task,
            labels=manifest.labels,
            threshold=manifest.threshold,
            engine=manifest.engine,
            precision=manifest.precision,
            max_tokens=manifest.max_tokens,
            format_version=manifest.format_version,
            bundle_digest=classifier.bundle.digest,
            threads=classifier.threads,
            pid=os.getpid(),
        )
        routes = self._routes()
        self._paths: dict[str, dict[str, _Route]] = {}
        for route in routes:
            path = route.operation.path.replace("{name}", self._name).replace("{version}", open_inference.VERSION)
            self._paths.setdefault(path, {})[route.operation.method] = route
            if route.operation.method == "GET":
                self._paths[path]["HEAD"] = route
        described = [route.operation for route in routes]
        keyless = [route.operation for route in routes if route.open or keys is None]
        self._document = msgspec.json.encode(document(described, keyless, self._name, self.limits, _version()))

    def start(self) -> None:
        """Begin to take texts, on the running event loop."""
        self._batcher.start()

    async def stop(self) -> None:
        """Take no more texts, and answer those that wait."""
        await self._batcher.stop()

    # The application of a connection.

    def examine(self, request: Request) -> Answer | None:
        """The refusal that the head of a request earns: no such route, no key, a body that is not understood."""
        try:
            route = self._find(request)
            if not (self._keys is None or route.open or self._keys.admits(request.headers)):
                raise Refusal(401, "an API key is needed; send it as Authorization: Bearer KEY", (_WITHOUT_KEY,))
            _refuse_media_type(route.operation, request)
        except Refusal as refusal:
            known = self._paths.get(request.path, {}).get(request.method)
            self._metrics.answered(known.operation.path if known else NO_ROUTE, refusal.status)
            return refused(refusal)
        return None

    def handle(self, request: Request, reply: Reply) -> Cancellable | None:
        """Answer a whole request whose head was examined."""
        route = self._find(request)
        self._metrics.in_flight.inc()
        counted = _Counted(reply, self._metrics, route.operation.path)
        try:
            return route.handler(route, request, counted)
        except Refusal as refusal:
            counted.send(refused(refusal))
        except Overloaded as error:
            self._metrics.error(error.reason)
            counted.send(overloaded(error))
        except Exception as error:  # noqa: BLE001 - a fault here is one request's, never the server's
            logger.error("a request failed: %s", type(error).__name__)
            self._metrics.error("fault")
            counted.send(failed())
        return None

    def misread(self, answer: Answer) -> None:
        """Count a request that was never whole."""
        self._metrics.answered(NO_ROUTE, answer.status)

    def left(self, route: str, job: Job) -> None:
        """The client of a queued request has gone."""
        if not job.over:
            self._batcher.abandon(job)
            self._metrics.in_flight.dec()
            self._metrics.error("client_left")
            self._metrics.answered(route, CLIENT_LEFT)

    def _find(self, request: Request) -> _Route:
        """The route of a request; `Refusal` where there is none."""
        methods = self._paths.get(request.path) or self._paths.get(unquote(request.path))
        if methods is None:
            if request.path.startswith("/v2/models/"):
                raise Refusal(404, f"there is no such model or version here; this endpoint serves {self._name!r}")
            raise Refusal(404, f"there is nothing at this path; {_PATHS}")
        route = methods.get(request.method)
        if route is None:
            told = " or ".join(sorted(methods.keys() - {"HEAD"}))
            allowed = ", ".join(sorted(methods)).encode()
            sentence = f"{request.method[:20]} is not answered at this path; use {told}"
            raise Refusal(405, sentence, ((b"allow", allowed),))
        return route

    # The routes.

    def _routes(self) -> list[_Route]:
        """All of them, each described once."""
        refusals = (400, 413, 415, 422, 503)
        v2 = open_inference
        platform = f"{self._metadata.engine}_{self._metadata.precision}"
        model = v2.model_metadata(self._name, platform, self._metadata.labels, self._task)
        server = v2.ServerMetadata(_SERVER, _version(), ["binary_tensor_data"])
        get = lambda path, summary, answer, codes=(): Operation("GET", path, summary, None, (answer,), codes)  # noqa: E731
        infer = ("Classify texts, by the Open Inference Protocol", v2.InferRequest, (v2.InferResponse,), refusals)
        predict = ("Classify one text or several", PredictRequest, ANSWERS[self._task], refusals)
        routes = [
            _Route(Operation("POST", "/predict", *predict), self._predict),
            _Route(get("/healthz", "The process is alive", Status), _at_once(lambda: Status("alive")), open=True),
            _Route(get("/readyz", "Texts are taken", Status, (503,)), _at_once(self._ready), open=True),
            _Route(get("/metadata", "Which model this is", Metadata), _at_once(lambda: self._metadata)),
            _Route(get("/metrics", "Counters for Prometheus", str), self._tell_metrics),
            _Route(get("/openapi.json", "This document", dict), self._tell_document),
            _Route(get("/v2", "Which server this is", v2.ServerMetadata), _at_once(lambda: server), open=True),
            _Route(get("/v2/health/live", "The process is alive", v2.Live), _at_once(lambda: v2.Live(True)), open=True),
            _Route(
                get("/v2/health/ready", "Texts are taken", v2.Ready, (503,)),
                _at_once(lambda: v2.Ready(bool(self._ready()))),
                open=True,
            ),
        ]
        for path in (_MODEL, _MODEL_VERSION):
            routes += [
                _Route(get(path, "Inputs and outputs of the model", v2.ModelMetadata, (404,)), _at_once(lambda: model)),
                _Route(
                    get(f"{path}/ready", "Texts are taken", v2.ModelReady, (404, 503)),
                    _at_once(lambda: v2.ModelReady(self._name, bool(self._ready()))),
                    open=True,
                ),
                _Route(Operation("POST", f"{path}/infer", *infer[:3], (*refusals, 404), binary=True), self._infer),
            ]
        return routes

    @property
    def _task(self) -> Task:
        return self._metadata.task

    def _ready(self) -> Status:
        if not self._batcher.ready:
            raise Overloaded("the endpoint is starting or stopping", "stopping")
        return Status("ready")

    def _tell_metrics(self, _: _Route, __: Request, reply: Reply) -> None:
        reply.send(Answer(200, self._metrics.text(), metrics.CONTENT_TYPE))

    def _tell_document(self, _: _Route, __: Request, reply: Reply) -> None:
        reply.send(Answer(200, self._document))

    def _predict(self, route: _Route, request: Request, reply: Reply) -> Cancellable:
        """Classify one text or several."""
        left_s = self._left_s(request)
        asked = predicting.parse(request.body)
        texts = predicting.texts_of(asked, self.limits)
        return self._submit(
            route, texts, left_s, reply, lambda outcomes: json_answer(predicting.body_of(asked, outcomes, self._task))
        )

    def _infer(self, route: _Route, request: Request, reply: Reply) -> Cancellable:
        """Classify by the Open Inference Protocol."""
        left_s = self._left_s(request)
        asked, texts = open_inference.parse(request.body, request.headers, self._task)
        predicting.refuse_number(texts, self.limits)
        for position, text in enumerate(texts):
            predicting.refuse_unfit(text, f"text[{position}]", self.limits)
        timeout = asked.parameters.get("timeout")
        if left_s is None and timeout is not None:
            left_s = open_inference.timeout_s(timeout)
        return self._submit(
            route, texts, left_s, reply, lambda outcomes: open_inference.answer(asked, self._name, outcomes, self._task)
        )

    def _left_s(self, request: Request) -> float | None:
        """Seconds until the deadline that a request names, if any; `Overloaded` where it is out of reach already."""
        named = request.headers.get(DEADLINE_HEADER)
        left_s = None if named is None else predicting.deadline_s(named)
        # Before the body is parsed: under pressure most requests end here, and what they cost is taken from the rest.
        self._batcher.refuse_hopeless(left_s or self.limits.deadline_ms / 1000)
        return left_s

    def _submit(
        self,
        route: _Route,
        texts: list[str],
        left_s: float | None,
        reply: Reply,
        render: _Render,
    ) -> Cancellable:
        """Queue texts and answer with what `render` makes of them."""
        submitted = _Submitted(self, self._metrics, route.operation.path, reply, render)
        submitted.job = self._batcher.enqueue(texts, submitted, left_s, self.limits.deadline_ms / 1000)
        return submitted


def _at_once(make: Callable[[], object]) -> _Handler:
    """A handler that answers with what `make` returns."""

    def handler(_: _Route, __: Request, reply: Reply) -> None:
        reply.send(json_answer(make()))

    return handler


def _refuse_media_type(operation: Operation, request: Request) -> None:
    """`Refusal` where a body is to come that is not of the kind the operation reads."""
    if operation.request is None:
        return
    media_type = request.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    kinds = (
        (b"application/json",) if operation.path == "/predict" else (b"application/json", b"application/octet-stream")
    )
    if media_type not in kinds:
        told = media_type[:100].decode("latin-1")
        raise Refusal(415, f"content type {told!r} is not understood; send application/json")
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "compressed bodies are not understood; send the body as it is")


def _version() -> str:
    """The installed version of the distribution that this package is part of."""
    try:
        return metadata.version("deploycost")
    except metadata.PackageNotFoundError:  # a copy of the package alone
        return "unknown"
