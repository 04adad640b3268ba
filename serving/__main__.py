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
from serving.process import StopSignal

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
    stop = StopSignal()
    try:
        listener = (
            _bind(options.host, options.port) if options.listen_fd is None else socket.socket(fileno=options.listen_fd)
        )
    except OSError as error:
        return _refuse(_why_unbound(options.host, options.port, error))
    with listener:
        if options.workers == 1 or options.listen_fd is not None:
            return _serve(listener, options, stop)
        from serving.workers import Supervisor

        return Supervisor(listener, arguments, options.workers, options.threads).run(stop)


def _serve(listener: socket.socket, options: argparse.Namespace, stop: StopSignal) -> int:
    """Load the bundle, listen, say so, and answer until stopped."""
    # Here, and not above: a wrong argument or a taken port is told before anything heavy is imported.
    from serving.classifier import Classifier
    from serving.http import Endpoint
    from serving.process import run
    from serving.security import read_keys, tls_context

    try:
        limits = _limits(options)
        tls = tls_context(options.tls_cert, options.tls_key)
        keys = read_keys(options.api_key_file) if options.api_key_file else None
        classifier = Classifier(options.bundle, threads=options.threads)
    except (BundleError, ConfigurationError) as error:
        return _refuse(str(error))
    host, port = listener.getsockname()[:2]
    variant = classifier.bundle.manifest.variant
    line = {"event": "listening", "host": host, "port": port, "pid": os.getpid(), "variant": variant}
    try:
        run(Endpoint(classifier, limits, keys), listener, tls, stop, lambda: print(json.dumps(line), flush=True))
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


def _why_unbound(host: str, port: int, error: OSError) -> str:
    """The line for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or take a free port with --port 0"
    return f"cannot listen on {host} port {port}: {error.strerror}; expected an address of this machine and a free port"


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
    add("--listen-fd", type=int, help=argparse.SUPPRESS)  # a worker's: the socket that its supervisor bound
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
