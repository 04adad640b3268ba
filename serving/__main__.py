"""`python -m serving --bundle DIR`: one bundle, one port, one process or several.

Prints one JSON line on stdout when it listens; everything else goes to stderr. Exit 0 after SIGTERM or Ctrl-C, once the
requests in hand are answered; exit 2 with one line where the bundle, the address or a file cannot be used; exit 1 where
workers died again and again.
"""

import argparse
import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from serving.errors import BundleError, ConfigurationError
from serving.limits import LONGEST_DEADLINE_MS, Limits
from serving.process import StopSignal, allow_connections

# Threads that wait for one another only slow a model down; many more than cores can stall the machine.
_MOST_THREADS_PER_CORE: Final = 8
_LONGEST_WINDOW_MS: Final = 1000
# The limits that are counts, and what their options tell of them.
_COUNTS: Final = {
    "max_batch": "most texts computed together",
    "max_queue": "most texts that wait, of all requests together",
    "max_texts": "most texts in one request",
    "max_text_chars": "most characters in one text",
    "max_body_bytes": "most bytes in one request",
    "max_connections": "most connections at a time",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser().parse_args(arguments)
    except argparse.ArgumentError as error:  # one line, without the usage that argparse puts before it
        return _refuse(str(error))
    stop, worker = StopSignal(), options.listen_fd is not None
    try:
        if not worker:
            _check_threads(options.workers, options.threads)
        options.max_connections = _fitting_connections(options.max_connections, silent=worker)
        listener = socket.socket(fileno=options.listen_fd) if worker else _bind(options.host, options.port)
    except ConfigurationError as error:
        return _refuse(str(error))
    except (OSError, UnicodeError) as error:
        return _refuse(_why_unbound(options.host, options.port, error))
    with listener:
        if worker or options.workers == 1:
            return _serve(listener, options, stop)
        return _supervise(listener, arguments, options, stop)


def _check_threads(workers: int, threads: int) -> None:
    """Warn of more threads than cores; `ConfigurationError` where they are far more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked, most = f"--workers {workers} --threads {threads}", _MOST_THREADS_PER_CORE * cores
    if workers * threads > most:
        raise ConfigurationError(f"{asked}: expected at most {most} threads together on {cores} cores")
    if workers * threads > cores:
        _warn(f"{asked}: {workers * threads} threads share {cores} cores; they slow each other")


def _fitting_connections(asked: int, silent: bool) -> int:
    """As many connections as the system allows open files for; said where that is fewer than asked."""
    allowed = allow_connections(asked)
    if allowed < asked and not silent:
        _warn(f"the limit of open files is too low for {asked} connections; {allowed} at a time are taken")
    return allowed


def _supervise(listener: socket.socket, arguments: Sequence[str], options: argparse.Namespace, stop: StopSignal) -> int:
    """Have workers serve the bundle that lies there now, until stopped."""
    from serving.bundle import bundle_digest
    from serving.workers import Supervisor

    try:
        digest = bundle_digest(options.bundle)
    except BundleError as error:
        return _refuse(str(error))
    return Supervisor(listener, arguments, options.workers, digest).run(stop)


def _serve(listener: socket.socket, options: argparse.Namespace, stop: StopSignal) -> int:
    """Load the bundle, listen, say so, and answer until stopped."""
    # Here, and not above: a wrong argument or a taken port is told before anything heavy is imported.
    from serving.bundle import open_bundle
    from serving.classifier import Classifier
    from serving.http import Endpoint
    from serving.process import run
    from serving.security import read_keys, tls_context

    try:
        limits = _limits(options)
        tls = tls_context(options.tls_cert, options.tls_key)
        keys = read_keys(options.api_key_file) if options.api_key_file else None
        bundle = open_bundle(options.bundle)
        if options.bundle_digest not in (None, bundle.digest):
            raise BundleError(f"the bundle in {options.bundle} was rebuilt since the others began; restart to serve it")
        endpoint = Endpoint(Classifier(bundle, threads=options.threads), limits, keys)
    except (BundleError, ConfigurationError) as error:
        return _refuse(str(error))
    host, port = listener.getsockname()[:2]
    line = {"event": "listening", "host": host, "port": port, "pid": os.getpid(), "variant": bundle.manifest.variant}
    try:
        run(endpoint, listener, tls, stop, lambda: print(json.dumps(line), flush=True))
    except OSError as error:
        return _refuse(_why_unbound(options.host, options.port, error))
    return 0


def _limits(options: argparse.Namespace) -> Limits:
    """The limits that were asked for; `ConfigurationError` where they contradict one another."""
    asked = {name: getattr(options, name) for name in (*_COUNTS, "batch_window_ms", "deadline_ms")}
    try:
        return Limits(**asked)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host`, not yet listening; `OSError` where that cannot be."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # a port is free again as soon as its last server has gone
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _why_unbound(host: str, port: int, error: OSError | UnicodeError) -> str:
    """The line for an address that cannot be listened on."""
    if isinstance(error, UnicodeError):  # a label of it is empty, or longer than names may be
        return f"--host {host[:80]!r} is no name of a host; expected an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or take a free port with --port 0"
    return f"cannot listen on {host} port {port}: {error.strerror}; expected an address of this machine and a free port"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        exit_on_error=False,
        description="Serve one bundle over HTTP: POST /predict, the Open Inference Protocol under /v2, GET /healthz, "
        "/readyz, /metadata, /metrics, /openapi.json.",
        epilog='When it listens, it prints one line: {"event": "listening", "host", "port", "pid", "variant"}.',
    )
    parser.error = _raise  # before Python 3.12 `exit_on_error` leaves some mistakes out
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="folder that holds bundle.json")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    add("--port", type=_port, default=8000, help="0 takes a free one (default: %(default)s)")
    add("--threads", type=_count, default=1, metavar="N", help="cores one engine may use (default: %(default)s)")
    add("--workers", type=_workers, default=1, metavar="N", help="processes that answer (default: %(default)s)")
    defaults = Limits()
    for name, told in _COUNTS.items():
        default = getattr(defaults, name)
        add(
            f"--{name.replace('_', '-')}",
            type=_count,
            default=default,
            metavar="N",
            help=f"{told} (default: {default})",
        )
    add(
        "--batch-window-ms",
        type=_window,
        default=defaults.batch_window_ms,
        metavar="MS",
        help="how long texts that have company wait for more of it (default: %(default)g)",
    )
    add(
        "--deadline-ms",
        type=_deadline,
        default=defaults.deadline_ms,
        metavar="MS",
        help="how long a request without X-Deadline-Ms may wait for its turn (default: %(default)s)",
    )
    add("--api-key-file", type=Path, metavar="FILE", help="keys that open the endpoint, one a line (default: none)")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain in PEM; serves HTTPS")
    add("--tls-key", type=Path, metavar="FILE", help="its key in PEM")
    # A worker's: the socket that its supervisor bound, and which bundle the others serve.
    add("--listen-fd", type=int, help=argparse.SUPPRESS)
    add("--bundle-digest", help=argparse.SUPPRESS)
    return parser


def _raise(message: str) -> NoReturn:
    raise argparse.ArgumentError(None, message)


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {value!r}")
    return int(value)


def _workers(value: str) -> int:
    workers = _count(value)
    if workers > 1 and os.name != "posix":
        raise argparse.ArgumentTypeError("several workers share a socket, which this system does not let them")
    return workers


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {value!r}")
    return int(value)


def _window(value: str) -> float:
    try:
        window_ms = float(value)
    except ValueError:
        window_ms = -1.0
    if not 0 <= window_ms <= _LONGEST_WINDOW_MS:
        raise argparse.ArgumentTypeError(f"expected milliseconds from 0 to {_LONGEST_WINDOW_MS}, got {value!r}")
    return window_ms


def _deadline(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= LONGEST_DEADLINE_MS:
        raise argparse.ArgumentTypeError(f"expected whole milliseconds from 1 to {LONGEST_DEADLINE_MS}, got {value!r}")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
