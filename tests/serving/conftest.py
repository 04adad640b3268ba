"""A real bundle small enough to check by hand, the real server process, and an engine with a hand on its brake.

The model: each known word is a point (4 on its own axis, else 0), special tokens and unknown words are the origin;
the logits are the mean over all tokens that are not padding. `red` is fed as [CLS] red [SEP], so its logits are
(4/3, 0, 0).
"""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

import serving.engines
from serving.bundle import Bundle, Manifest, seal_bundle
from serving.classifier import Classifier
from serving.engines import OnnxRuntimeEngine
from serving.http import Endpoint
from serving.server import HttpServer

# `pytest --hypothesis-profile=long`: fuzzing for an hour rather than for seconds.
settings.register_profile("long", max_examples=5000, deadline=None, print_blob=True)

LABELS = ("red", "green", "blue")
MAX_TOKENS = 8
REPOSITORY = Path(serving.engines.__file__).parents[1]
_VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "red": 4, "green": 5, "blue": 6}


def _write_model(path: Path, width: int = 3, sizes: tuple[int | str, int | str] = ("batch", "tokens")) -> None:
    """The model of this module's docstring with `width` labels; `sizes` are free where they are names."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    points = np.zeros((len(_VOCABULARY), width), dtype=np.float32)
    for axis, word in enumerate(("red", "green", "blue")[:width]):
        points[_VOCABULARY[word], axis] = 4.0
    nodes = [
        helper.make_node("Gather", ["points", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["embedded", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "points",
        [helper.make_tensor_value_info(name, TensorProto.INT64, sizes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [sizes[0], width])],
        [
            numpy_helper.from_array(points, "points"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens_axis"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _write_tokenizer(path: Path, special_tokens: bool = True) -> None:
    """Words by white space, fed as [CLS] ... [SEP]; a padding is left in the file, which the endpoint must ignore."""
    tokenizer = Tokenizer(WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if special_tokens:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(path))


def _manifest(**changes: object) -> Manifest:
    """The manifest of the tiny bundle, changed as told."""
    fields: dict[str, object] = {
        "variant": "tiny.onnx-fp32",
        "labels": LABELS,
        "engine": "onnxruntime",
        "precision": "fp32",
        "max_tokens": MAX_TOKENS,
        "pad_token_id": 0,
        "provenance": {"method": "by hand"},
    }
    return Manifest(**(fields | changes))  # pyright: ignore[reportArgumentType]


def _make_bundle(folder: Path, **changes: object) -> Bundle:
    """The tiny bundle, sealed in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(folder / "model.onnx")
    _write_tokenizer(folder / "tokenizer.json")
    return seal_bundle(folder, _manifest(**changes))


@pytest.fixture(scope="session")
def write_model() -> Callable[..., None]:
    """Writes the tiny model: (path, width=3, sizes=(batch, tokens))."""
    return _write_model


@pytest.fixture(scope="session")
def write_tokenizer() -> Callable[..., None]:
    """Writes the tiny tokenizer: (path, special_tokens=True)."""
    return _write_tokenizer


@pytest.fixture(scope="session")
def manifest() -> Callable[..., Manifest]:
    """Makes the tiny bundle's manifest: (**changes)."""
    return _manifest


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """Makes the tiny bundle: (folder, **changes of its manifest)."""
    return _make_bundle


@pytest.fixture(scope="session")
def start_server() -> Callable[..., AbstractContextManager["RunningServer"]]:
    """Starts `python -m serving` on a free port for the length of a block: (folder, *arguments)."""
    return _running_server


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of one's own, to be spoiled at will."""
    return _make_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that no test changes."""
    return _make_bundle(tmp_path_factory.mktemp("shared") / "bundle")


@pytest.fixture(scope="session")
def classifier(shared_bundle: Bundle) -> Classifier:
    """The tiny model, loaded."""
    return Classifier(shared_bundle)


@dataclass(frozen=True)
class RunningServer:
    """A real server process and what it announced."""

    process: subprocess.Popen[str]
    announced: Mapping[str, object]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.announced['host']}:{self.announced['port']}"


@contextmanager
def _running_server(folder: Path, *arguments: str) -> Iterator[RunningServer]:
    """`python -m serving` on a free port, killed in the end if it still runs."""
    command = [sys.executable, "-m", "serving", "--bundle", str(folder), "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield RunningServer(process, json.loads(line))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def server(shared_bundle: Bundle) -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was."""
    with _running_server(shared_bundle.folder) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


@asynccontextmanager
async def _served(endpoint: Endpoint) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint on a socket of this process and this event loop, and a client of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(endpoint, endpoint.limits)
    endpoint.start()
    await server.start(listener)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as client:
            yield client
    finally:
        await server.stop()
        await endpoint.stop()


@contextmanager
def _served_aside(endpoint: Endpoint) -> Iterator[httpx.Client]:
    """The endpoint on a thread of this process, and a client of it."""
    ready, done = threading.Event(), asyncio.Event()
    place: list[tuple[asyncio.AbstractEventLoop, httpx.URL]] = []

    async def serve() -> None:
        async with _served(endpoint) as client:
            place.append((asyncio.get_running_loop(), client.base_url))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    loop, url = place[0]
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


@pytest.fixture(scope="session")
def served() -> Callable[..., Any]:
    """Serves an endpoint on the running event loop for the length of a block; gives an `httpx.AsyncClient`."""
    return _served


@pytest.fixture(scope="session")
def served_aside() -> Callable[..., AbstractContextManager[httpx.Client]]:
    """Serves an endpoint beside the test for the length of a block; gives an `httpx.Client`."""
    return _served_aside


class BrakedEngine:
    """The real engine, which waits while `released` is clear and fails while `broken` is set."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._engine = OnnxRuntimeEngine(bundle.model_path, threads)
        self.released = threading.Event()
        self.released.set()
        self.entered = threading.Semaphore(0)
        self.broken: Exception | None = None
        self.batches: list[int] = []

    def logits(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """The real logits, sooner or later."""
        self.batches.append(len(input_ids))
        self.entered.release()
        assert self.released.wait(timeout=30)
        if self.broken is not None:
            raise self.broken
        return self._engine.logits(input_ids, attention_mask)


@pytest.fixture
def braked(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> tuple[Classifier, BrakedEngine]:
    """A classifier and the brake of its engine, whose count of batches starts at zero."""
    engines: list[BrakedEngine] = []

    def load(bundle: Bundle, threads: int) -> BrakedEngine:
        engines.append(BrakedEngine(bundle, threads))
        return engines[-1]

    monkeypatch.setitem(serving.engines.ENGINES, "onnxruntime", load)  # pyright: ignore[reportArgumentType]
    classifier = Classifier(shared_bundle)
    engines[0].batches.clear()
    engines[0].entered = threading.Semaphore(0)
    return classifier, engines[0]
