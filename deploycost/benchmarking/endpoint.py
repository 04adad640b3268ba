"""The endpoint under test: started as a user would start it, in its own process, ready before it is handed over."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil

from deploycost.benchmarking.child import Child
from deploycost.errors import LoadTestFailed
from loadtests.protocol import address_of

LOOPBACK = "127.0.0.1"
LISTEN_DEADLINE_S = 60.0
READY_DEADLINE_S = 60.0
# A service that is said to be running has no reason to be longer silent.
REACH_DEADLINE_S = 5.0
_POLL_S = 0.02
_POLL_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Target:
    """A service that was running already: its base URL, and the process behind it, if it is one of this machine's."""

    url: str
    pid: int | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether neither its process nor its address is of this machine; False where that cannot be told."""
        if self.pid is not None:
            return False
        own = {each.address.split("%")[0] for listed in psutil.net_if_addrs().values() for each in listed}
        try:
            found = {str(info[4][0]).split("%")[0] for info in socket.getaddrinfo(address_of(self.url).host, None)}
        except OSError:
            return False
        return bool(found) and not any(
            each in own or ip_address(each).is_loopback or ip_address(each).is_unspecified for each in found
        )


@dataclass(frozen=True)
class Service:
    """What stands for the process of a service that somebody else started, and that is not ours to stop."""

    name: str
    pid: int | None

    @property
    def alive(self) -> bool:
        """Whether it is there, as far as can be told; one that has ended may wait for its parent to hear of it."""
        if self.pid is None:
            return True
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def death(self) -> LoadTestFailed:
        """The error that tells that it is gone."""
        return LoadTestFailed(f"{self.name} died: there is no process {self.pid} any more")

    def stop(self) -> None:
        """Leave it as it is."""


@dataclass(frozen=True)
class Endpoint:
    """A server that answers: where, and how long it took to get there, None where it was there already."""

    child: Child | Service
    host: str
    port: int
    startup_s: float | None
    service_url: str = ""

    @property
    def url(self) -> str:
        """The base URL."""
        return self.service_url or f"http://{self.host}:{self.port}"

    def wait_ready(self, deadline_s: float) -> None:
        """Poll `/readyz` until it answers 200; of a service that is not ours, until it answers anything over HTTP.

        Raises:
            LoadTestFailed: the process died, or was not ready within the deadline.
        """
        end_s = time.perf_counter() + deadline_s
        while not self._is_ready():
            if not self.child.alive:
                raise self.child.death()
            if time.perf_counter() > end_s:
                asked = self.url if self.service_url else "/readyz with 200"
                raise LoadTestFailed(f"{self.child.name} did not answer {asked} within {deadline_s:g} s")
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        kind = http.client.HTTPSConnection if self.service_url.startswith("https:") else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=_POLL_TIMEOUT_S)
        try:
            connection.request("GET", "/" if self.service_url else "/readyz")
            status = connection.getresponse().status
            return status == 200 or bool(self.service_url)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def endpoint_module(bundle: Path, threads: int) -> tuple[str, ...]:
    """Module and arguments of the endpoint that serves a bundle on a free loopback port."""
    return ("serving", "--bundle", str(bundle), "--host", LOOPBACK, "--port", "0", "--threads", str(threads))


def existing_endpoint(name: str, target: Target) -> Endpoint:
    """The endpoint that a target names, once it answers.

    Raises:
        LoadTestFailed: it did not, or its process is not there.
    """
    address = address_of(target.url)
    endpoint = Endpoint(Service(name, target.pid), address.host, address.port, None, target.url)
    endpoint.wait_ready(REACH_DEADLINE_S)
    return endpoint


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
