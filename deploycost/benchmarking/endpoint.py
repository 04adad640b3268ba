"""The endpoint under test: started as a user would start it, in its own process, ready before it is handed over."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploycost.benchmarking.child import Child
from deploycost.errors import LoadTestFailed

LOOPBACK = "127.0.0.1"
LISTEN_DEADLINE_S = 60.0
READY_DEADLINE_S = 60.0
_POLL_S = 0.02
_POLL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Endpoint:
    """A server that answers: where, and how long it took to get there."""

    child: Child
    host: str
    port: int
    startup_s: float

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.host}:{self.port}"

    def wait_ready(self, deadline_s: float) -> None:
        """Poll `/readyz` until it answers 200.

        Raises:
            LoadTestFailed: the process died, or was not ready within the deadline.
        """
        end_s = time.perf_counter() + deadline_s
        while not self._is_ready():
            if not self.child.alive:
                raise self.child.death()
            if time.perf_counter() > end_s:
                raise LoadTestFailed(f"{self.child.name} did not answer /readyz with 200 within {deadline_s:g} s")
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_POLL_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def endpoint_module(bundle: Path, threads: int) -> tuple[str, ...]:
    """Module and arguments of the endpoint that serves a bundle on a free loopback port."""
    return ("serving", "--bundle", str(bundle), "--host", LOOPBACK, "--port", "0", "--threads", str(threads))


@contextmanager
def running_endpoint(name: str, module: Sequence[str], cores: Sequence[int]) -> Iterator[Endpoint]:
    """A ready endpoint, stopped on the way out; `startup_s` runs from the start of the process to readiness.

    Raises:
        LoadTestFailed: it died, or did not listen or was not ready in time.
    """
    start_s = time.perf_counter()
    with Child(name, module, cores) as child:
        line = child.read(LISTEN_DEADLINE_S)
        while line.get("event") != "listening":
            line = child.read(LISTEN_DEADLINE_S)
        waiting = Endpoint(child, str(line["host"]), int(line["port"]), 0.0)
        waiting.wait_ready(READY_DEADLINE_S)
        yield Endpoint(child, waiting.host, waiting.port, time.perf_counter() - start_s)
