"""The queue between the event loop and the engine: one thread computes, the loop never waits for it.

When the engine becomes free it takes whatever has queued up. There is no window: a request that comes alone goes
straight through, and a crowd, which has waited anyway, is grouped by length. Counters live on the event loop and work
lives on the thread, so nothing is shared and nothing is locked.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from serving.classifier import Classifier, EncodedText, Prediction, length_groups
from serving.errors import EngineError, Overloaded

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request:
    """Texts that were asked together, and their predictions as they come in; `settled` once it was answered."""

    texts: Sequence[str]
    answer: asyncio.Future[list[Prediction]]
    predictions: dict[int, Prediction] = field(default_factory=dict)
    settled: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """One text of a request, ready for the engine."""

    request: _Request
    position: int
    encoded: EncodedText


class Batcher:
    """Feeds a classifier from one event loop.

    `max_batch` is the most texts computed together, `max_queue` the most that wait, those being computed included.
    """

    def __init__(self, classifier: Classifier, max_batch: int, max_queue: int) -> None:
        self._classifier = classifier
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queued_texts = 0
        self._accepting = False
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        # A daemon, so that a process that is told twice to stop does stop.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to take texts; to be called once."""
        self._thread.start()
        self._accepting = True

    @property
    def ready(self) -> bool:
        """Whether texts are taken and the engine's thread lives."""
        return self._accepting and self._thread.is_alive()

    async def submit(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction per text, in order.

        Raises `Overloaded` where the texts do not fit into the queue or the endpoint is stopping, and `EngineError`
        where the model fails on one of them.
        """
        if not self.ready:
            raise Overloaded("the endpoint is starting or stopping")
        if self._queued_texts + len(texts) > self._max_queue:
            raise Overloaded(f"the queue is full: {self._queued_texts} of {self._max_queue} texts are waiting")
        self._queued_texts += len(texts)
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self._inbox.put(request)
        return await request.answer

    async def stop(self) -> None:
        """Take no more texts, answer those that wait, and end the thread."""
        self._accepting = False
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """The engine's thread: wave after wave until told to stop."""
        stopping = False
        while not stopping:
            wave = [self._inbox.get()]
            while not self._inbox.empty():
                wave.append(self._inbox.get())
            stopping = None in wave
            self._answer([request for request in wave if request is not None])

    def _answer(self, wave: list[_Request]) -> None:
        """Compute a wave; each request is answered as soon as its last text is done."""
        items: list[_Item] = []
        for request in wave:
            if request.answer.cancelled():  # nobody waits for it any more
                self._settle(request)
                continue
            with self._failures_answered([request]):
                encoded = [self._classifier.encode(text) for text in request.texts]
                items += [_Item(request, position, text) for position, text in enumerate(encoded)]
        for group in length_groups([len(item.encoded.token_ids) for item in items], self._max_batch):
            batch = [items[index] for index in group if not items[index].request.settled]
            with self._failures_answered([item.request for item in batch]):
                self._compute(batch)

    def _compute(self, batch: list[_Item]) -> None:
        """Run one batch and answer the requests that it completes."""
        if not batch:
            return
        encoded = [item.encoded for item in batch]
        predictions = self._classifier.describe(encoded, self._classifier.batch_logits(encoded))
        for item, prediction in zip(batch, predictions, strict=True):
            request = item.request
            request.predictions[item.position] = prediction
            if len(request.predictions) == len(request.texts):
                self._settle(request)

    @contextmanager
    def _failures_answered(self, requests: list[_Request]) -> Iterator[None]:
        """Turn a failure inside into the answer of `requests`, and of no others."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - libraries raise what they like, and a dead thread answers nobody
            # An unknown error could quote the text, so only its type is told.
            told = str(error) if isinstance(error, EngineError) else type(error).__name__
            logger.error("the engine failed on %d texts: %s", len(requests), told)
            for request in requests:
                self._settle(request, EngineError(told))

    def _settle(self, request: _Request, error: EngineError | None = None) -> None:
        """Answer a request, once, on its event loop."""
        if request.settled:
            return
        request.settled = True
        with suppress(RuntimeError):  # the loop is closed: the process was told twice to stop, and nobody waits
            request.answer.get_loop().call_soon_threadsafe(self._resolve, request, error)

    def _resolve(self, request: _Request, error: EngineError | None) -> None:
        """On the event loop: give the request's places in the queue back and wake whoever waits."""
        self._queued_texts -= len(request.texts)
        if request.answer.done():  # cancelled meanwhile
            return
        if error is not None:
            request.answer.set_exception(error)
        else:
            request.answer.set_result([request.predictions[position] for position in range(len(request.texts))])
