"""What `/metrics` tells, in Prometheus's text format.

Each process counts for itself. With several workers the client library keeps the counts in files of one folder, which
`PROMETHEUS_MULTIPROC_DIR` names and the supervisor owns, so that whichever worker is asked answers for all of them.
"""

import os
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from serving.errors import ConfigurationError
from serving.jobs import Batch

MULTIPROCESS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
# A client that left before it was answered is counted under the code that web servers' logs use for it.
CLIENT_LEFT: Final = 499
# Label of requests that came to no route.
NO_ROUTE: Final = "none"
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_TEXTS: Final = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one endpoint, in a registry of its own.

    Raises `ConfigurationError` where the environment names a folder for them that cannot be used.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        # With a folder the metrics write to it, and a collector over the folder is what is registered.
        self._shared = MULTIPROCESS_FOLDER in os.environ
        if self._shared:
            _require_folder(os.environ[MULTIPROCESS_FOLDER])
            multiprocess.MultiProcessCollector(registry)
        home = None if self._shared else registry
        self._requests = Counter(
            "serving_requests", "Requests answered, by route and status code.", ("route", "code"), registry=home
        )
        self._refusals = Counter(
            "serving_errors", "Requests that got no prediction, by what was in the way.", ("reason",), registry=home
        )
        self.in_flight = Gauge(
            "serving_requests_in_flight",
            "Requests that are read and not yet answered.",
            registry=home,
            multiprocess_mode="livesum",
        )
        self._queue = Histogram(
            "serving_queue_seconds", "How long a text waited to be computed.", buckets=_SECONDS, registry=home
        )
        self._compute = Histogram(
            "serving_compute_seconds",
            "How long the engine's thread took for a batch, tokenising included.",
            buckets=_SECONDS,
            registry=home,
        )
        self._batch = Histogram("serving_batch_texts", "Texts computed together.", buckets=_TEXTS, registry=home)
        self._tokens = Counter("serving_tokens", "Tokens of the texts computed, special ones included.", registry=home)
        self._padding = Counter("serving_padding_tokens", "Tokens computed only to fill a batch.", registry=home)
        # Looking a labelled counter up costs more than counting.
        self._by_answer: dict[tuple[str, int], Counter] = {}

    def answered(self, route: str, status: int) -> None:
        """Count one answer."""
        counter = self._by_answer.get((route, status))
        if counter is None:
            counter = self._by_answer[route, status] = self._requests.labels(route, str(status))
        counter.inc()

    def error(self, reason: str) -> None:
        """Count a request that got no prediction through no fault of its own."""
        self._refusals.labels(reason).inc()

    def batch_done(self, batch: Batch) -> None:
        """Take in what the engine's thread did."""
        self._compute.observe(batch.compute_s)
        self._batch.observe(batch.texts)
        self._tokens.inc(batch.tokens)
        if batch.padded_tokens > batch.tokens:
            self._padding.inc(batch.padded_tokens - batch.tokens)
        for waited_s in batch.queue_s:
            self._queue.observe(waited_s)

    def text(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self._registry)


def _require_folder(name: str) -> None:
    if not (os.access(name, os.W_OK | os.X_OK) and Path(name).is_dir()):
        raise ConfigurationError(
            f"{MULTIPROCESS_FOLDER} is {name!r}, which is no folder that can be written to; unset it, or name one"
        )
