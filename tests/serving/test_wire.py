"""Answers that the engine's thread sends itself. A test that reads without awaiting holds the event loop meanwhile."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from serving.http import Endpoint
from serving.limits import Limits
from serving.messages import Answer, Reply, Request
from serving.server import HttpServer
from serving.wire import Wire, wire_of

ASK = b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{"text": "red"}'
LARGE = Answer(200, b"x" * 20_000_000)


@asynccontextmanager
async def asked(braked: Any, served: Any, requests: bytes) -> AsyncIterator[tuple[socket.socket, httpx.AsyncClient]]:
    """A connection on which `requests` were sent, and the engine at work on them, about to be done."""
    classifier, engine = braked
    async with served(Endpoint(classifier)) as client:
        engine.released.clear()
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as wire:
            wire.sendall(requests)
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            engine.released.set()
            yield wire, client


async def counted(client: httpx.AsyncClient, line: str) -> None:
    """Returns when the metrics have a line: answers are counted after they are sent."""
    for _ in range(100):
        if line in (await client.get("/metrics")).text:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(line)


def test_a_lone_answer_does_not_wait_for_the_event_loop(braked: Any, served: Any) -> None:
    async def scenario() -> None:
        async with asked(braked, served, ASK) as (wire, client):
            assert b'"label":"red"' in wire.recv(65536)
            wire.sendall(ASK)  # the next is read before the event loop knows of the last
            answer = await asyncio.to_thread(wire.recv, 65536)
            assert answer.count(b"HTTP/1.1 200 OK") == 1
            assert b'"label":"red"' in answer
            await counted(client, 'serving_requests_total{code="200",route="/predict"} 2.0')

    asyncio.run(scenario())


def test_who_leaves_with_the_answer_was_answered(braked: Any, served: Any) -> None:
    async def scenario() -> None:
        async with asked(braked, served, ASK) as (wire, client):
            assert wire.recv(65536)
            wire.close()
            await counted(client, 'serving_requests_total{code="200",route="/predict"} 1.0')
            assert 'code="499"' not in (await client.get("/metrics")).text

    asyncio.run(scenario())


@pytest.mark.parametrize("more", [ASK, ASK[:20], b"GET /healthz HTTP/1.1\r\n\r\n"])
def test_who_does_not_wait_for_answers_gets_them_from_the_event_loop(braked: Any, served: Any, more: bytes) -> None:
    async def scenario() -> None:
        async with asked(braked, served, ASK + more) as (wire, _):
            wire.settimeout(0.2)
            with pytest.raises(TimeoutError):
                wire.recv(65536)
            wire.settimeout(10)
            assert (await asyncio.to_thread(wire.recv, 65536)).startswith(b"HTTP/1.1 200 OK")

    asyncio.run(scenario())


class Hasty:
    """Answers every request with a large body, early, and tells the event loop later."""

    def examine(self, request: Request) -> Answer | None:
        """Nothing is refused."""

    def handle(self, request: Request, reply: Reply) -> None:
        """From another thread."""
        loop = asyncio.get_running_loop()

        def answer() -> None:
            reply.send_early(LARGE)
            loop.call_soon_threadsafe(reply.send, LARGE)

        threading.Thread(target=answer).start()

    def misread(self, answer: Answer) -> None:
        """Never."""


def test_what_the_connection_does_not_take_at_once_follows() -> None:
    async def scenario() -> None:
        server, listener = HttpServer(Hasty(), Limits()), socket.create_server(("127.0.0.1", 0))
        await server.start(listener)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            for _ in range(3):
                assert (await client.get("/")).content == LARGE.body
        await server.stop()

    asyncio.run(scenario())


def test_a_wire_takes_what_there_is_room_for_and_nothing_once_it_is_cut() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        wire = Wire(ours.fileno())
        wire.write(LARGE.body)
        early = wire.take_early()
        assert early is not None
        assert 0 < early.written < len(LARGE.body)
        wire.write(b"more")  # it is full
        assert wire.take_early() is None
        assert not wire.cut()
        theirs.recv(1 << 20)
        wire.write(b"more")
        assert wire.take_early() is None


def test_nothing_passes_tls_by() -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return {"socket": ours, "sslcontext": object()}.get(name, default)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert wire_of(Transport()) is None


def test_the_last_answer_of_a_drained_connection_says_so(braked: Any) -> None:
    async def scenario() -> None:
        classifier, engine = braked
        endpoint, listener = Endpoint(classifier), socket.create_server(("127.0.0.1", 0))
        server = HttpServer(endpoint, endpoint.limits)
        endpoint.start()
        await server.start(listener)
        engine.released.clear()
        with socket.create_connection(listener.getsockname(), timeout=10) as wire:
            wire.sendall(ASK)
            assert await asyncio.to_thread(engine.entered.acquire, timeout=30)
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            engine.released.set()
            assert b"connection: close" in await asyncio.to_thread(wire.recv, 65536)
            await stopping
        await endpoint.stop()

    asyncio.run(scenario())
