"""`python -m serving --bundle DIR`: one bundle, one process, one port.

Prints one JSON line on stdout when it listens; everything else goes to stderr. Exit 0 after SIGTERM or Ctrl-C, once the
requests in hand are answered; exit 2 with one line where the bundle or the address cannot be used.
"""

import argparse
import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from serving.limits import DEFAULT_BATCH, Limits

if TYPE_CHECKING:
    import uvicorn

BACKLOG: Final = 2048
# Longer than clients idle between two requests of a slow load test: a connection closed under them is an error to them.
KEEP_ALIVE_S: Final = 75
# A client that never finishes its request may hold up the end for so long.
DRAIN_TIMEOUT_S: Final = 20


class _Stop:
    """What SIGTERM and SIGINT do: leave at once while loading, drain once there is a server."""

    server: "uvicorn.Server | None" = None

    def __call__(self, _: int, __: FrameType | None) -> None:
        if self.server is None:
            sys.exit(0)
        self.server.should_exit = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    options = _parser().parse_args(arguments)
    stop = _Stop()
    # uvicorn hands a signal on to the handler it found, once it has drained: this one then does nothing.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        listener = _bind(options.host, options.port)
    except OSError as error:
        return _refuse(_why_unbound(options.host, options.port, error))
    with listener:
        return _serve(listener, options, stop)


def _serve(listener: socket.socket, options: argparse.Namespace, stop: _Stop) -> int:
    """Load the bundle, listen, say so, and answer until stopped."""
    import uvicorn  # here and below: a wrong argument or a taken port is told before anything heavy is imported

    from serving.classifier import Classifier
    from serving.errors import BundleError
    from serving.http import create_app

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        classifier = Classifier(options.bundle, threads=options.threads)
    except BundleError as error:
        return _refuse(str(error))
    config = uvicorn.Config(
        create_app(classifier, Limits(max_batch=options.max_batch)),
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
    )
    stop.server = uvicorn.Server(config)
    try:
        listener.listen(BACKLOG)  # not earlier: until the model is loaded a client is refused, not kept waiting
    except OSError as error:
        return _refuse(_why_unbound(options.host, options.port, error))
    host, port = listener.getsockname()[:2]
    variant = classifier.bundle.manifest.variant
    line = {"event": "listening", "host": host, "port": port, "pid": os.getpid(), "variant": variant}
    print(json.dumps(line), flush=True)
    stop.server.run(sockets=[listener])
    return 0


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
        description="Serve one bundle over HTTP: POST /predict, GET /healthz, /readyz, /metadata.",
        epilog='When it listens, it prints one line: {"event": "listening", "host", "port", "pid", "variant"}.',
    )
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="folder that holds bundle.json")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="cores the engine may use (default: %(default)s)"
    )
    parser.add_argument(
        "--max-batch",
        type=_count,
        default=DEFAULT_BATCH,
        metavar="N",
        help="most texts computed together (default: %(default)s)",
    )
    return parser


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {value!r}")
    return int(value)


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {value!r}")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
