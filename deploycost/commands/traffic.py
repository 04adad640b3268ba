"""Flags of `deploycost loadtest` alone: what requests look like, who sends them, and which service gets them."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deploycost.errors import UserError, nearest

if TYPE_CHECKING:
    from deploycost.benchmarking.client import Client

ARRIVALS = ("poisson", "constant", "trace")
PROTOCOLS = ("deploycost", "open-inference", "template")
# It becomes part of a file's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@Parameter(name="*")
@dataclass(frozen=True)
class TrafficFlags:
    """What requests look like, when they arrive, and who sends them."""

    texts: Annotated[
        Path | None,
        Parameter(help="File of texts: .txt (one a line), .jsonl, .csv, .parquet. Default: the test split."),
    ] = None
    text_column: Annotated[str, Parameter(help="Column of the texts in that file.")] = "text"
    texts_per_request: Annotated[int, Parameter(help="Texts in each request; rates count requests.")] = 1
    arrivals: Annotated[str, Parameter(help="poisson, constant, or trace: the gaps between requests.")] = "poisson"
    trace: Annotated[
        Path | None,
        Parameter(help="Of --arrivals trace: seconds or ISO times, one a line; replayed at each rate tried."),
    ] = None
    workers: Annotated[int, Parameter(help="Processes that send, beside one that leads. Default: one does it all.")] = 0
    expect_workers: Annotated[int, Parameter(help="Workers on other machines to wait for; how to start is told.")] = 0
    bind: Annotated[str, Parameter(help="Of --expect-workers: the address of this machine that they connect to.")] = (
        "127.0.0.1"
    )
    bind_port: Annotated[int, Parameter(help="Of --expect-workers: the port. Default: any free one.")] = 0


@Parameter(name="*")
@dataclass(frozen=True)
class ServiceFlags:
    """A service that is running already."""

    url: Annotated[str | None, Parameter(help="Test what runs there, as http://127.0.0.1:9000, not a variant.")] = None
    name: Annotated[str | None, Parameter(help="Of --url: what to call the service. Default: its host and port.")] = (
        None
    )
    pid: Annotated[int | None, Parameter(help="Of --url: its process here, for memory and CPU.")] = None
    protocol: Annotated[str, Parameter(help="Of --url: deploycost, open-inference, or template.")] = "deploycost"
    model_name: Annotated[str, Parameter(help="Of --protocol open-inference: the model's name in the path.")] = (
        "classifier"
    )
    template: Annotated[
        Path | None, Parameter(help="Of --protocol template: YAML or JSON with path, body, pointer, method, headers.")
    ] = None
    out: Annotated[Path | None, Parameter(help="Of --url: file for the record. Default: NAME.load.json here.")] = None
    i_own_this_host: Annotated[
        bool, Parameter(negative="", help="Of --url: load a host that is not this machine, which may harm it.")
    ] = False


def client_of(traffic: TrafficFlags, service: ServiceFlags) -> Client:
    """Who sends what to whom.

    Raises:
        UserError: all that contradicts itself, in one line; or a file that cannot be used.
    """
    from deploycost.benchmarking.client import Client
    from deploycost.benchmarking.endpoint import Target
    from deploycost.benchmarking.generator import Crew, Traffic
    from loadtests.plan import ProbePlan
    from loadtests.workload import read_material

    _require_sense(traffic, service)
    asked = Traffic(
        arrivals=traffic.arrivals,
        trace=str(traffic.trace or ""),
        texts_per_request=traffic.texts_per_request,
        protocol="template" if service.template else service.protocol,
        model=service.model_name,
        template=str(service.template or ""),
    )
    try:
        read_material(asked.applied(ProbePlan(), to_endpoint=True))
    except ValueError as error:
        raise UserError(str(error)) from None
    crew = Crew(traffic.workers, traffic.expect_workers, traffic.bind, traffic.bind_port)
    return Client(asked, crew, Target(service.url, service.pid) if service.url else None)


def own_texts(traffic: TrafficFlags) -> list[str] | None:
    """The texts of the file that was given, None where none was.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    from loadtests.workload import read_texts

    if traffic.texts is None:
        return None
    try:
        return read_texts(str(traffic.texts), traffic.text_column)
    except ValueError as error:
        raise UserError(str(error)) from None


def _require_sense(traffic: TrafficFlags, service: ServiceFlags) -> None:
    mistakes = [
        f"unknown {kind} {value!r}{nearest(value, known)}; known: {', '.join(known)}"
        for kind, value, known in (
            ("--arrivals", traffic.arrivals, ARRIVALS),
            ("--protocol", service.protocol, PROTOCOLS),
        )
        if value not in known
    ]
    mistakes += [
        f"{flag} must be {least} or more, got {value}"
        for flag, value, least in (
            ("--texts-per-request", traffic.texts_per_request, 1),
            ("--workers", traffic.workers, 0),
            ("--expect-workers", traffic.expect_workers, 0),
        )
        if value < least
    ]
    if (traffic.arrivals == "trace") != (traffic.trace is not None):
        mistakes.append("--arrivals trace and --trace FILE go together")
    if service.protocol == "template" and service.template is None:
        mistakes.append("--protocol template needs --template FILE")
    if service.name is not None and not _NAME.fullmatch(service.name):
        mistakes.append(f"--name must be letters, digits, '.', '_' and '-', 64 at most, got {service.name!r}")
    if service.url is None:
        given = [f"--{name.replace('_', '-')}" for name in ("name", "pid", "out") if getattr(service, name) is not None]
        given += ["--protocol"] * (service.protocol != "deploycost") + ["--template"] * (service.template is not None)
        if given:
            mistakes.append(f"{', '.join(given)} belong to a service that is running: give its --url")
    elif wrong := _wrong_address(service):
        mistakes.append(wrong)
    if mistakes:
        raise UserError("; ".join(mistakes))


def _wrong_address(service: ServiceFlags) -> str:
    import psutil

    from loadtests.protocol import address_of

    try:
        host = address_of(service.url or "").host
    except ValueError as error:
        return str(error)
    if service.pid is not None and not psutil.pid_exists(service.pid):
        return f"there is no process {service.pid} here; --pid is the process id of the service"
    if service.i_own_this_host or _is_here(host):
        return ""
    return f"{host} is not this machine: a load test may harm it; add --i-own-this-host if it is yours to load"


def _is_here(host: str) -> bool:
    """Whether a host is a loopback address, or a name of nothing but such."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ip_address(each.split("%")[0]).is_loopback for each in found)
