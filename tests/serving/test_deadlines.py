"""What a request is promised, and what becomes of one that cannot be answered in time."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.deadlines import CHARS_BEYOND, CHARS_PER_TOKEN, PROMISE_FACTOR, TEXT_WORK, Forecast, work_of
from serving.errors import Overloaded
from serving.http import Endpoint
from serving.limits import Limits
from serving.metrics import Metrics


def test_work_by_hand() -> None:
    assert work_of(["abcd"], max_tokens=8) == 4 + TEXT_WORK
    most = CHARS_PER_TOKEN * 8
    assert work_of(["a" * most, ""], max_tokens=8) == most + 2 * TEXT_WORK
    # What is cut off is tokenised all the same.
    assert work_of(["a" * (most + 10 * CHARS_BEYOND), ""], max_tokens=8) == most + 10 + 2 * TEXT_WORK


def test_a_forecast_learns_by_a_fifth() -> None:
    forecast = Forecast()
    assert forecast.in_reach(10**9, 0.001)  # nothing is known, so nothing is refused
    forecast.learn(work=100, seconds=0.1)
    assert forecast.seconds(200) == pytest.approx(0.2)
    forecast.learn(work=100, seconds=0.2)
    assert forecast.seconds_per_unit == pytest.approx(0.0012)
    assert forecast.in_reach(100, 0.1201 * PROMISE_FACTOR)
    assert not forecast.in_reach(100, 0.12)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 10)), min_size=1), st.integers(0, 10**6))
def test_a_forecast_stays_within_what_was_seen_and_grows_with_the_work(seen: Any, work: int) -> None:
    forecast = Forecast()
    for batch, seconds in seen:
        forecast.learn(batch, seconds)
    rates = [seconds / batch for batch, seconds in seen]
    assert min(rates) * 0.999 <= forecast.seconds_per_unit <= max(rates) * 1.001
    assert forecast.seconds(work) <= forecast.seconds(work + 1)


def learnt(endpoint: Endpoint, seconds_per_unit: float) -> None:
    """Have the endpoint believe that a unit of work takes so long."""
    endpoint._batcher._forecast.seconds_per_unit = seconds_per_unit


def test_a_deadline_out_of_reach_is_refused_at_once_and_a_free_engine_refuses_nobody(braked: Any, served: Any) -> None:
    classifier, engine = braked
    endpoint = Endpoint(classifier)

    async def scenario() -> None:
        async with served(endpoint) as client:
            learnt(endpoint, 1.0)  # "red" is 27 s of work, by this belief
            hasty = {"x-deadline-ms": "100"}
            first = await client.post("/predict", json={"text": "red"}, headers=hasty)
            assert first.status_code == 200  # nothing was queued: only by computing is the belief corrected
            await until(lambda: endpoint._batcher._forecast.seconds_per_unit < 1)  # which may be after the answer
            learnt(endpoint, 1.0)
            engine.released.clear()
            running = asyncio.create_task(client.post("/predict", json={"text": "red"}))
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            start_s = time.perf_counter()
            refused = await client.post("/predict", json={"text": "blue"}, headers=hasty)
            assert time.perf_counter() - start_s < 5
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) == 27  # 27 s are queued, 0.1 s was given
            assert "ms of work stand before the answer, 100 ms are left" in refused.json()["error"]
            assert (await client.post("/predict", json={"text": "blue"})).status_code == 503  # the default: 1,000 ms
            engine.released.set()
            assert (await running).status_code == 200

    asyncio.run(scenario())
    assert engine.batches == [1, 1]


def test_what_is_too_late_is_never_computed(braked: Any, served: Any) -> None:
    classifier, engine = braked
    endpoint = Endpoint(classifier)

    async def scenario() -> None:
        async with served(endpoint) as client:
            engine.released.clear()
            running = asyncio.create_task(client.post("/predict", json={"text": "red"}))
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            late = client.post("/predict", json={"text": "blue"}, headers={"x-deadline-ms": "50"})
            waiting = asyncio.create_task(late)
            await asyncio.sleep(0.2)
            engine.released.set()
            assert (await running).status_code == 200
            answer = await waiting
            assert answer.status_code == 503
            assert "the deadline passed while the request waited" in answer.json()["error"]
            assert (await client.post("/predict", json={"text": "green"})).json()["label"] == "green"
            counted = (await client.get("/metrics")).text
            assert 'serving_errors_total{reason="deadline"} 1.0' in counted

    asyncio.run(scenario())
    assert engine.batches == [1, 1]


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "soon", "60001", "9" * 5000, "²"])
def test_a_deadline_that_is_none(classifier: Any, served_aside: Any, value: str) -> None:
    with served_aside(Endpoint(classifier)) as client:
        answer = client.post("/predict", json={"text": "red"}, headers={"x-deadline-ms": value.encode()})
        assert answer.status_code == 400
        assert "X-Deadline-Ms is not a whole number of milliseconds from 1 to 60000" in answer.json()["error"]


def test_a_client_that_leaves_is_not_computed_for(braked: Any, served: Any) -> None:
    classifier, engine = braked
    endpoint = Endpoint(classifier)

    async def scenario() -> None:
        async with served(endpoint) as client:
            engine.released.clear()
            running = asyncio.create_task(client.post("/predict", json={"text": "red"}))
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            body = b'{"texts": ["blue", "blue", "blue"]}'
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            await until(lambda: endpoint._batcher.queued_texts == 4)
            writer.close()
            await until(lambda: endpoint._batcher.queued_texts == 1)
            engine.released.set()
            assert (await running).status_code == 200
            counted = (await client.get("/metrics")).text
            assert 'serving_requests_total{code="499",route="/predict"} 1.0' in counted
            assert "serving_requests_in_flight 1.0" in counted  # the one that asks

    asyncio.run(scenario())
    assert engine.batches == [1]


async def until(condition: Any) -> None:
    """Return once the condition holds; the test's own time limit is the deadline."""
    while not condition():
        await asyncio.sleep(0.005)


def test_a_window_waits_only_where_there_is_company(braked: Any, served: Any) -> None:
    classifier, engine = braked
    endpoint = Endpoint(classifier, Limits(batch_window_ms=1000, deadline_ms=30_000))

    async def scenario() -> None:
        async with served(endpoint) as client:
            start_s = time.perf_counter()
            for _ in range(3):
                assert (await client.post("/predict", json={"text": "red"})).status_code == 200
            assert (await client.post("/predict", json={"texts": ["red", "blue"]})).status_code == 200
            assert time.perf_counter() - start_s < 1  # one client, however many texts it sends, never waits
            engine.released.clear()
            first = asyncio.create_task(client.post("/predict", json={"text": "red"}))
            await until(lambda: endpoint._batcher.queued_texts == 1)
            crowd = [asyncio.create_task(client.post("/predict", json={"text": word})) for word in ("red", "blue")]
            await until(lambda: endpoint._batcher.queued_texts == 3)
            engine.released.set()
            await first
            await asyncio.sleep(0.1)  # well within the window of the two that wait
            crowd.append(asyncio.create_task(client.post("/predict", json={"text": "green"})))
            assert [(await answer).json()["label"] for answer in crowd] == ["red", "blue", "green"]

    asyncio.run(scenario())
    assert engine.batches == [1, 1, 1, 2, 1, 3]


def test_a_full_batch_waits_for_no_window(braked: Any, served: Any) -> None:
    classifier, engine = braked
    endpoint = Endpoint(classifier, Limits(batch_window_ms=60_000, max_batch=2))

    async def scenario() -> None:
        async with served(endpoint) as client:
            engine.released.clear()
            first = asyncio.create_task(client.post("/predict", json={"text": "red"}))
            await until(lambda: endpoint._batcher.queued_texts == 1)
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            crowd = [asyncio.create_task(client.post("/predict", json={"text": word})) for word in ("red", "blue")]
            await until(lambda: endpoint._batcher.queued_texts == 3)
            engine.released.set()
            answers = await asyncio.gather(first, *crowd)
            assert [answer.status_code for answer in answers] == [200, 200, 200]

    asyncio.run(scenario())
    assert engine.batches == [1, 2]


def test_an_overloaded_endpoint_says_so_in_one_line() -> None:
    error = Overloaded("full", "queue_full", 3)
    assert (str(error), error.reason, error.retry_after_s) == ("full", "queue_full", 3)


def test_metrics_by_hand() -> None:
    from serving.jobs import Batch

    counted = Metrics()
    counted.answered("/predict", 200)
    counted.answered("/predict", 200)
    counted.batch_done(Batch(texts=2, tokens=10, padded_tokens=12, work=90, compute_s=0.004, queue_s=[0.0001, 0.3]))
    lines = counted.text().decode().splitlines()
    assert 'serving_requests_total{code="200",route="/predict"} 2.0' in lines
    assert "serving_tokens_total 10.0" in lines
    assert "serving_padding_tokens_total 2.0" in lines
    assert 'serving_batch_texts_bucket{le="2.0"} 1.0' in lines
    assert 'serving_compute_seconds_bucket{le="0.002"} 0.0' in lines
    assert 'serving_compute_seconds_bucket{le="0.005"} 1.0' in lines
    assert 'serving_queue_seconds_bucket{le="0.2"} 1.0' in lines
    assert "serving_queue_seconds_count 2.0" in lines
    assert "serving_queue_seconds_sum 0.3001" in lines
