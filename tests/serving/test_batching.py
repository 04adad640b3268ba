import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.batching import Batcher, _Waiter
from serving.bundle import Bundle
from serving.classifier import Classifier
from serving.errors import EngineError, Overloaded
from serving.jobs import Batch


@asynccontextmanager
async def batching(classifier: Any, max_batch: int = 4, max_queue: int = 8) -> AsyncIterator[Batcher]:
    """A started batcher, stopped in the end."""
    batcher = Batcher(classifier, max_batch, max_queue)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def entered(engine: Any) -> None:
    """Return when the engine has begun another batch."""
    assert await asyncio.to_thread(engine.entered.acquire, timeout=30)


def submit(batcher: Batcher, *texts: str) -> asyncio.Task[Any]:
    return asyncio.create_task(batcher.submit(texts))


def labels(predictions: Any) -> list[str]:
    return [prediction.label for prediction in predictions]


def test_a_lone_request_goes_straight_through_and_a_crowd_is_grouped(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier) as batcher:
            engine.released.clear()
            first = submit(batcher, "red")
            await entered(engine)  # computed at once, alone
            crowd = [submit(batcher, word) for word in ("green", "blue", "red", "green", "blue", "red")]
            await asyncio.sleep(0)  # let each of them queue up
            engine.released.set()
            assert labels(await first) == ["red"]
            answers = await asyncio.gather(*crowd)
            assert [answer[0].label for answer in answers] == ["green", "blue", "red", "green", "blue", "red"]

    asyncio.run(scenario())
    assert engine.batches == [1, 4, 2]


def test_one_request_over_several_batches_keeps_its_order(braked: Any) -> None:
    classifier, engine = braked
    texts = ["red red blue red", "blue", "green green", "red", "green", "blue blue blue"]

    async def scenario() -> None:
        async with batching(classifier, max_batch=2) as batcher:
            answer = await batcher.submit(texts)
            assert labels(answer) == ["red", "blue", "green", "red", "green", "blue"]
            assert [prediction.tokens for prediction in answer] == [6, 3, 4, 3, 3, 5]

    asyncio.run(scenario())
    assert sum(engine.batches) == 6


@pytest.mark.parametrize(("together", "second"), [(False, 1), (True, 2)])
def test_the_young_of_other_requests_do_not_overtake(braked: Any, together: bool, second: int) -> None:
    classifier, engine = braked
    # Two long ones with so many short ones between them that the second is out of sight of batches of 2.
    texts = ["red red red red", *["blue"] * 7, "green green green green"]

    async def scenario() -> None:
        async with batching(classifier, max_batch=2, max_queue=10) as batcher:
            engine.released.clear()
            first = submit(batcher, "red")
            await entered(engine)
            crowd = [submit(batcher, *texts)] if together else [submit(batcher, text) for text in texts]
            await asyncio.sleep(0)
            engine.released.set()
            answers = await asyncio.gather(first, *crowd)
            assert [label for answer in answers for label in labels(answer)] == ["red", "red", *["blue"] * 7, "green"]

    asyncio.run(scenario())
    assert engine.batches[:2] == [1, second]
    assert sum(engine.batches) == 10


def test_waiting_for_company_is_not_taken_for_work(braked: Any) -> None:
    classifier, engine = braked
    done: list[Batch] = []

    class Notes:
        def batch_done(self, batch: Batch) -> None:
            done.append(batch)

    async def scenario() -> None:
        batcher = Batcher(classifier, max_batch=8, max_queue=8, window_s=0.5, observer=Notes())
        batcher.start()
        engine.released.clear()
        first = submit(batcher, "red")
        await entered(engine)
        crowd = [submit(batcher, "green"), submit(batcher, "blue")]
        await asyncio.sleep(0.1)
        engine.released.set()
        await asyncio.gather(first, *crowd)
        await batcher.stop()

    asyncio.run(scenario())
    assert [batch.texts for batch in done] == [1, 2]
    assert done[0].compute_s >= 0.1  # the brake is the engine's time
    assert done[1].compute_s < 0.2
    assert min(done[1].queue_s) > 0.4


def test_a_full_queue_refuses_and_recovers(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier, max_queue=3) as batcher:
            engine.released.clear()
            waiting = submit(batcher, "red", "green")
            await entered(engine)
            with pytest.raises(Overloaded, match="the queue is full: 2 of 3 texts"):
                await batcher.submit(["blue", "blue"])
            last = submit(batcher, "blue")
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await batcher.submit(["blue"])
            engine.released.set()
            assert labels(await waiting) + labels(await last) == ["red", "green", "blue"]
            assert labels(await batcher.submit(["red"] * 3)) == ["red"] * 3

    asyncio.run(scenario())


def test_a_request_given_up_is_not_computed_and_gives_its_place_back(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier, max_queue=3) as batcher:
            engine.released.clear()
            running, queued = submit(batcher, "red"), None
            await entered(engine)
            queued = submit(batcher, "green", "blue")
            await asyncio.sleep(0)
            queued.cancel()
            running.cancel()  # too late for the engine, in time for the one who waits
            await asyncio.gather(queued, running, return_exceptions=True)
            engine.released.set()
            while batcher._queued_texts:
                await asyncio.sleep(0.001)
            assert labels(await batcher.submit(["blue"] * 3)) == ["blue"] * 3

    asyncio.run(scenario())
    assert engine.batches == [1, 3]


@pytest.mark.parametrize(("buckets", "padded"), [((), 7 + 7), ((4, 8), 8 + 8), ((6, 7, 8), 6 + 7)])
def test_padding_is_counted_as_the_engine_pads(
    make_bundle: Callable[..., Bundle], tmp_path: Path, buckets: tuple[int, ...], padded: int
) -> None:
    done: list[Batch] = []

    class Noted:
        def batch_done(self, batch: Batch) -> None:
            done.append(batch)

    async def scenario() -> None:
        classifier = Classifier(make_bundle(tmp_path / "bundle", token_buckets=buckets))
        batcher = Batcher(classifier, max_batch=4, max_queue=8, observer=Noted())
        batcher.start()
        await batcher.submit(["red red blue red", "red red blue red red"])  # 6 and 7 tokens, near enough for a batch
        await batcher.stop()

    asyncio.run(scenario())
    assert [batch.texts for batch in done] == [2]
    assert sum(batch.tokens for batch in done) == 6 + 7
    assert sum(batch.padded_tokens for batch in done) == padded


@pytest.mark.parametrize(
    ("fault", "told"), [(EngineError("out of memory"), "out of memory"), (KeyError("SECRET"), "KeyError")]
)
def test_a_failure_reaches_who_waits_and_no_text_reaches_the_log(
    braked: Any, caplog: pytest.LogCaptureFixture, fault: Exception, told: str
) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier, max_batch=2) as batcher:
            engine.broken = fault
            with pytest.raises(EngineError, match=told):
                await batcher.submit(["SECRET red", "SECRET", "red red red"])
            engine.broken = None
            assert batcher.ready
            assert labels(await batcher.submit(["blue"] * 8)) == ["blue"] * 8

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert "SECRET" not in caplog.text
    assert told in caplog.text


def test_stopping_answers_those_who_wait_and_takes_no_more(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier) as batcher:
            engine.released.clear()
            waiting = [submit(batcher, "red"), submit(batcher, "blue")]
            await entered(engine)
            stopping = asyncio.create_task(batcher.stop())
            await asyncio.sleep(0)
            assert not batcher.ready
            with pytest.raises(Overloaded, match="starting or stopping"):
                await batcher.submit(["green"])
            engine.released.set()
            assert [labels(answer) for answer in await asyncio.gather(*waiting)] == [["red"], ["blue"]]
            await stopping

    asyncio.run(scenario())


def test_the_event_loop_is_free_while_the_engine_works(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier) as batcher:
            engine.released.clear()
            task = submit(batcher, "red")
            await entered(engine)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not task.done()
            engine.released.set()
            await task

    asyncio.run(scenario())


def test_a_large_request_without_a_deadline_takes_as_long_as_it_takes(braked: Any) -> None:
    classifier, engine = braked

    async def scenario() -> None:
        async with batching(classifier, max_batch=2) as batcher:
            engine.released.clear()
            asker = _Waiter()
            job = batcher.enqueue(["red", "blue", "green", "red"], asker, left_s=None, patience_s=0.1)
            await entered(engine)
            await asyncio.sleep(0.2)  # longer than it may wait for its turn
            engine.released.set()
            outcomes = await asker.answer
            assert labels([outcome.prediction for outcome in outcomes]) == ["red", "blue", "green", "red"]
            batcher.abandon(job)

    asyncio.run(scenario())


def test_what_a_library_throws_that_is_no_exception_ends_the_one_request(
    braked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        """As tokenizers' own is."""

    def encode(text: str) -> Any:
        if text == "panic":
            raise Panic
        return classifier_encode(text)

    classifier, _ = braked
    classifier_encode = classifier.encode
    monkeypatch.setattr(classifier, "encode", encode)

    async def scenario() -> None:
        async with batching(classifier) as batcher:
            with pytest.raises(EngineError, match="Panic"):
                await batcher.submit(["panic"])
            assert labels(await batcher.submit(["red"])) == ["red"]

    asyncio.run(scenario())
