"""The queue between the event loop and the engine: one thread computes, the loop never waits for it.

When the engine becomes free it takes the text that has waited longest, and with it those of like length among the next.
A text that comes alone goes straight through: a window applies only where there is company already. Counters live on
the event loop and work lives on the thread; what passes between them is a job on its way in and a report on its way
out, so nothing is locked.
"""

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from serving.classifier import Classifier, company_of
from serving.deadlines import Forecast, work_of
from serving.errors import EngineError, Overloaded
from serving.jobs import Asker, Batch, Failure, Item, Job, Observer, Outcome, Report
from serving.predictions import AnyPrediction

logger = logging.getLogger(__name__)

# Company is sought among so many batches' worth of those that have waited longest. Enough to find it; the whole of a
# long queue would let the young overtake the old until these miss their deadlines.
_BATCHES_IN_SIGHT: Final = 4


class Batcher:
    """Feeds a classifier from one event loop.

    `max_batch` is the most texts computed together, `max_queue` the most that wait, those being computed included,
    `window_s` how long a batch that is not full waits for more where it holds texts of two requests already.
    """

    def __init__(
        self,
        classifier: Classifier,
        max_batch: int,
        max_queue: int,
        window_s: float = 0.0,
        observer: Observer | None = None,
    ) -> None:
        self._classifier = classifier
        self._max_tokens = classifier.bundle.manifest.max_tokens
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._window_s = window_s
        self._observer = observer
        self._forecast = Forecast()
        self._queued_texts = 0
        self._queued_work = 0
        self._accepting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A daemon, so that a process that is told twice to stop does stop.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        # Of the thread alone: what waits, in the order it came, and the report that is being written.
        self._pending: list[Item] = []
        self._report = Report()
        self._turn_began_s = 0.0
        self._stopping = False

    def start(self) -> None:
        """Begin to take texts on the running event loop; to be called once."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._accepting = True

    @property
    def ready(self) -> bool:
        """Whether texts are taken and the engine's thread lives."""
        return self._accepting and self._thread.is_alive()

    @property
    def queued_texts(self) -> int:
        """Texts that wait or are computed."""
        return self._queued_texts

    def refuse_hopeless(self, left_s: float) -> None:
        """`Overloaded` where not even an empty text could be answered within `left_s` seconds, before it is read."""
        self._refuse_late(0, left_s)

    def enqueue(self, texts: Sequence[str], asker: Asker, left_s: float | None, patience_s: float) -> Job:
        """Have `texts` computed within `left_s` seconds and `asker` told what came of it.

        Without a deadline of its own a request may wait `patience_s` for its turn and be computed for as long as that
        takes. Raises `Overloaded` at once where the texts do not fit into the queue, where the deadline is out of
        reach, or where the endpoint is stopping.
        """
        if not self.ready:
            raise Overloaded("the endpoint is starting or stopping", "stopping")
        if self._queued_texts + len(texts) > self._max_queue:
            retry_after_s = 1 + int(self._forecast.seconds(self._queued_work))
            waiting = f"{self._queued_texts} of {self._max_queue} texts are waiting"
            raise Overloaded(f"the queue is full: {waiting}", "queue_full", retry_after_s)
        work, is_patient = work_of(texts, self._max_tokens), left_s is None
        if left_s is None:
            self._refuse_late(0, patience_s)
            left_s = patience_s
        else:
            self._refuse_late(work, left_s)
        now_s = time.perf_counter()
        job = Job(texts, work, now_s, now_s + left_s, is_patient, asker)
        self._queued_texts += len(texts)
        self._queued_work += work
        self._inbox.put(job)
        return job

    def abandon(self, job: Job) -> None:
        """Nobody waits for `job` any more: what is not computed yet will not be, and its places are free."""
        self._release(job)

    async def submit(self, texts: Sequence[str], left_s: float | None = None) -> list[AnyPrediction]:
        """One prediction per text, in order; `enqueue` for a caller that can wait.

        Raises `Overloaded` as `enqueue` does, and `EngineError` where the model fails on one of the texts.
        """
        waiter = _Waiter()
        job = self.enqueue(texts, waiter, left_s, patience_s=float("inf"))
        try:
            return [outcome.prediction for outcome in await waiter.answer]
        finally:
            self.abandon(job)

    async def stop(self) -> None:
        """Take no more texts, answer those that wait, and end the thread."""
        self._accepting = False
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # its last report is delivered

    def _refuse_late(self, work: int, left_s: float) -> None:
        """`Overloaded` where `work`, behind what is queued, is out of reach.

        An empty queue refuses nobody: only by computing does the forecast learn that a slow spell is over.
        """
        if self._queued_work and not self._forecast.in_reach(self._queued_work + work, left_s):
            expected_s = self._forecast.seconds(self._queued_work + work)
            raise Overloaded(
                f"about {expected_s * 1000:.0f} ms of work stand before the answer, {left_s * 1000:.0f} ms are left",
                "deadline",
                1 + int(max(0.0, expected_s - left_s)),
            )

    # On the event loop, called by the thread.

    def _deliver(self, report: Report) -> None:
        """Answer the jobs that a report ended; what no client waits for is left to the next turn of the event loop."""
        for job in report.jobs:
            if self._release(job):
                job.asker.done(job.failure or job.in_order())
        if report.batch:
            assert self._loop is not None  # noqa: S101 - set before the thread is started
            self._loop.call_soon(self._learn, report)

    def _learn(self, report: Report) -> None:
        """Take in what a batch took."""
        lengths = [len(item.encoded.token_ids) for item in report.batch]
        batch = Batch(
            texts=len(lengths),
            tokens=sum(lengths),
            padded_tokens=self._classifier.computed_tokens(lengths),
            work=sum([work_of((item.job.texts[item.position],), self._max_tokens) for item in report.batch]),
            compute_s=report.compute_s,
            queue_s=[report.start_s - item.job.arrived_s for item in report.batch],
        )
        self._forecast.learn(batch.work, batch.compute_s)
        if self._observer is not None:
            self._observer.batch_done(batch)

    def _release(self, job: Job) -> bool:
        """Give a job's places in the queue back, once; whether this was the time."""
        if job.over:
            return False
        job.over = True
        self._queued_texts -= len(job.texts)
        self._queued_work -= job.work
        return True

    # On the thread.

    def _work(self) -> None:
        """Batch after batch until told to stop and nothing waits."""
        while self._pending or not self._stopping:
            self._take_in()
            if self._pending:
                self._compute(self._choose())
            self._send_report()

    def _take_in(self) -> None:
        """Tokenise what has come in; wait for it where there is nothing else to do, or where company is expected."""
        if not self._pending and not self._stopping:
            job = self._inbox.get()
            self._turn_began_s = time.perf_counter()
            self._admit(job)
        while not self._inbox.empty():
            self._admit(self._inbox.get())
        if self._window_s:
            self._wait_for_company()
        now_s = time.perf_counter()
        self._pending = [item for item in self._pending if not self._is_over(item.job, now_s)]

    def _admit(self, job: Job | None) -> None:
        """Tokenise the texts of a job that somebody still waits for; `None` ends the work."""
        if job is None:
            self._stopping = True
            return
        start_s = time.perf_counter()
        if self._is_over(job, start_s):
            return
        try:
            for position, text in enumerate(job.texts):
                self._pending.append(Item(job, position, self._classifier.encode(text)))
        except BaseException as error:  # noqa: BLE001 - libraries raise what they like, and a dead thread answers nobody
            self._fail([job], error)
        if job.is_patient:
            job.deadline_s += time.perf_counter() - start_s

    def _wait_for_company(self) -> None:
        """Let the window of the oldest text run, unless it is alone or the batch is full."""
        while 1 < len(self._pending) < self._max_batch and not self._stopping:
            oldest_s = self._pending[0].job.arrived_s
            if all(item.job is self._pending[0].job for item in self._pending):
                return
            wait_began_s = time.perf_counter()
            try:
                job = self._inbox.get(timeout=max(0.0, oldest_s + self._window_s - wait_began_s))
            except queue.Empty:
                return
            finally:
                self._turn_began_s += time.perf_counter() - wait_began_s
            self._admit(job)

    def _is_over(self, job: Job, now_s: float) -> bool:
        """Whether a job needs no computing: nobody waits for it, it failed, or its deadline has passed."""
        if job.over or job.reported:
            return True
        if now_s > job.deadline_s:
            self._end(job, Overloaded("the deadline passed while the request waited", "deadline"))
            return True
        return False

    def _choose(self) -> list[Item]:
        """Take the text that has waited longest, and those of like length within sight, out of `_pending`."""
        if len(self._pending) == 1:
            batch, self._pending = self._pending, []
            return batch
        sight = min(_BATCHES_IN_SIGHT * self._max_batch, len(self._pending))
        while sight < len(self._pending) and self._pending[sight].job is self._pending[sight - 1].job:
            sight += 1  # texts of one request came together: none of them is the younger
        in_sight = self._pending[:sight]
        by_length = sorted(range(len(in_sight)), key=lambda place: len(in_sight[place].encoded.token_ids))
        lengths = [len(in_sight[place].encoded.token_ids) for place in by_length]
        first, end = company_of(lengths, by_length.index(0), self._max_batch)
        chosen = set(by_length[first:end])
        self._pending = [item for place, item in enumerate(self._pending) if place not in chosen]
        return [in_sight[place] for place in by_length[first:end]]

    def _compute(self, batch: list[Item]) -> None:
        """Run one batch and end the jobs that it completes."""
        start_s = time.perf_counter()
        for item in batch:
            if item.job.is_patient:
                item.job.deadline_s = math.inf
        encoded = [item.encoded for item in batch]
        try:
            logits = self._classifier.batch_logits(encoded)
            predictions = self._classifier.describe(encoded, logits)
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail([item.job for item in batch], error)
            return
        for item, prediction, row in zip(batch, predictions, logits, strict=True):
            job = item.job
            job.outcomes[item.position] = Outcome(prediction, row)
            if len(job.outcomes) == len(job.texts):
                self._end(job, None)
        self._report.batch, self._report.start_s = batch, start_s

    def _fail(self, jobs: list[Job], error: BaseException) -> None:
        """End `jobs`, and no others, with a failure."""
        # An unknown error could quote the text, so only its type is told.
        told = str(error) if isinstance(error, EngineError) else type(error).__name__
        logger.error("the engine failed on %d texts: %s", len(jobs), told)
        for job in jobs:
            self._end(job, EngineError(told))

    def _end(self, job: Job, failure: Failure | None) -> None:
        """Put a job into the report, once."""
        if not job.reported:
            job.reported = True
            job.failure = failure
            self._report.jobs.append(job)

    def _send_report(self) -> None:
        """Tell the event loop what was done, if anything."""
        report = self._report
        if not (report.jobs or report.batch):
            return
        self._report = Report()
        now_s = time.perf_counter()
        report.compute_s, self._turn_began_s = now_s - self._turn_began_s, now_s
        if len(report.jobs) == 1 and not self._pending and self._inbox.empty():
            self._tell_early(report.jobs[0])
        with suppress(RuntimeError):  # the loop is closed: the process was told twice to stop, and nobody waits
            assert self._loop is not None  # noqa: S101 - set before the thread is started
            self._loop.call_soon_threadsafe(self._deliver, report)

    def _tell_early(self, job: Job) -> None:
        """Let the one who waits have the outcomes before the event loop does."""
        if job.failure is not None or job.over:
            return
        try:
            job.asker.nearly_done(job.in_order())
        except Exception as error:  # noqa: BLE001 - as above; the event loop is told the same, and answers
            logger.error("an answer could not be sent early: %s", type(error).__name__)


class _Waiter:
    """A coroutine that waits for a job."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def done(self, result: list[Outcome] | Failure) -> None:
        """See `Asker.done`."""
        if isinstance(result, list):
            self.answer.set_result(result)
        else:
            self.answer.set_exception(result)

    def nearly_done(self, outcomes: list[Outcome]) -> None:
        """See `Asker.nearly_done`: a coroutine goes on where its event loop runs."""
