"""The servers that are compared: how each is started, and each running one, which is frozen while others have a turn.

All of them stay alive through the rounds, so that a turn costs no start. Some poll while they idle: whoever has no turn
is stopped by signal, its whole process tree, and takes no time of the core.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from benchmarks.http_channel import HOST, Field
from deploycost.benchmarking.child import Child
from deploycost.benchmarking.sampling import sample_tree
from deploycost.errors import LoadTestFailed

OURS = "deploycost"
START_DEADLINE_S = 120.0
_POLL_S = 0.02
_POLL_TIMEOUT_S = 5.0
_BATCH = ("--batch", "8")


@dataclass(frozen=True)
class Contender:
    """A server under a name: the module to run, and whether it serves the bundle or the same model in torch."""

    name: str
    module: str
    serves: Literal["bundle", "torch"] = "bundle"
    arguments: tuple[str, ...] = ()
    field: Field = "text"


CONTENDERS: tuple[Contender, ...] = (
    Contender(OURS, "serving"),
    Contender("fastapi-transformers", "benchmarks.peers.fastapi_transformers", serves="torch"),
    Contender("fastapi-onnx", "benchmarks.peers.fastapi_onnx"),
    Contender("litserve", "benchmarks.peers.litserve_onnx"),
    Contender("litserve-batched", "benchmarks.peers.litserve_onnx", arguments=_BATCH),
    Contender("bentoml", "benchmarks.peers.bentoml_onnx"),
    Contender("bentoml-batched", "benchmarks.peers.bentoml_onnx", arguments=_BATCH, field="texts"),
)
NEWCOMER = CONTENDERS[1]


@dataclass(frozen=True)
class Stage:
    """What contenders need: the bundle, the same model for torch, the peers' interpreter, the core of the server."""

    bundle: Path
    torch_model: Path
    peers_python: str
    server_cores: tuple[int, ...]

    def start(self, contender: Contender) -> RunningServer:
        """The contender, ready; to be used as a context manager. `LoadTestFailed` where it does not get ready."""
        if contender.name == OURS:
            return self.start_ours(self.bundle)
        model = self.bundle if contender.serves == "bundle" else self.torch_model
        module = (contender.module, "--model", str(model), *contender.arguments)
        return RunningServer(contender, module, self.peers_python, self.server_cores)

    def start_ours(self, bundle: Path) -> RunningServer:
        """Our own server, of any bundle."""
        module = ("serving", "--bundle", str(bundle))
        return RunningServer(CONTENDERS[0], module, sys.executable, self.server_cores)


class RunningServer:
    """A server that answers; `startup_s` runs from the start of its process to its first prediction."""

    def __init__(self, contender: Contender, module: Sequence[str], python: str, cores: Sequence[int]) -> None:
        self.contender = contender
        self.port = _free_port()
        start_s = time.perf_counter()
        self._child = Child(contender.name, (*module, "--port", str(self.port)), cores, python, from_folder=True)
        try:
            self._wait_for_an_answer(start_s + START_DEADLINE_S)
        except BaseException:
            self.stop()
            raise
        self.startup_s = time.perf_counter() - start_s

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the root of its process tree."""
        return self._child.pid

    def memory_bytes(self) -> int:
        """Proportional set size of the whole tree. `LoadTestFailed` where it is gone."""
        sample = sample_tree(self._child.pid)
        if sample is None:
            raise self._child.death()
        return sample.memory_bytes

    def freeze(self) -> None:
        """Take the core away from it."""
        self._signal(self._members(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(self._members(), signal.SIGCONT)

    def stop(self) -> None:
        """End it and all its descendants, those in sessions of their own too."""
        members = self._members()
        self._signal(members, signal.SIGCONT)
        self._child.stop()
        self._signal(members, signal.SIGKILL)

    def _members(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._child.pid)
            return [root, *root.children(recursive=True)]
        return []

    def _signal(self, members: Sequence[psutil.Process], number: signal.Signals) -> None:
        for member in members:
            with suppress(psutil.NoSuchProcess):  # psutil knows a process from another that got its number
                member.send_signal(number)

    def _wait_for_an_answer(self, deadline_s: float) -> None:
        while not self._answers():
            if not self._child.alive:
                raise self._child.death()
            if time.perf_counter() > deadline_s:
                raise LoadTestFailed(f"{self.contender.name} gave no prediction within {START_DEADLINE_S:g} s")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_POLL_TIMEOUT_S)
        text = "Shares rose." if self.contender.field == "text" else ["Shares rose."]
        try:
            body = json.dumps({self.contender.field: text})
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return taken.getsockname()[1]
