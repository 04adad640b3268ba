"""Does reading a regional offer file of AWS stay small, however large the file? Run: python -m benchmarks.refresh."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST_PEAK_BYTES = 300_000_000
_BLOCK_RECORDS = 500
_PLAIN_LINUX = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}

# What a reader of prices runs, in a process of its own so that its peak is its own.
_CHILD = """
    import datetime, json, sys, time
    from pathlib import Path
    from pricing.book import load_book
    from pricing.offer_rows import read_machines
    from pricing.refreshing.aws import fetch_aws
    from pricing.refreshing.fetch import Fetcher
    from pricing.refreshing.fetched import Known

    known = Known.of(load_book().offers, "aws")
    started = time.perf_counter()
    with Fetcher(Path(sys.argv[2])) as fetcher:
        fetched = fetch_aws(fetcher, "us-east-1", sys.argv[1], known, read_machines(), datetime.date.today(), {})
    seconds = time.perf_counter() - started
    # The high-water mark of this program alone: `ru_maxrss` would remember the process that started it.
    status = Path("/proc/self/status").read_text().splitlines()
    peak_bytes = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print(json.dumps([len(fetched.offers), seconds, peak_bytes]))
"""


@dataclass(frozen=True)
class Measured:
    """Rows that were found, seconds it took (the server makes the file meanwhile), peak resident bytes."""

    rows: int
    seconds: float
    peak_bytes: int


def measure(file_bytes: int) -> Measured:
    """Reads a file of so many bytes over HTTP in a process of its own."""
    with _served(file_bytes) as url, tempfile.TemporaryDirectory() as folder:
        child = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_CHILD), url, folder], capture_output=True, text=True, check=False
        )
    if child.returncode:
        raise RuntimeError(child.stderr)
    return Measured(*json.loads(child.stdout))


def pieces(file_bytes: int) -> Iterator[bytes]:
    """An offer file with one machine that is wanted among hundreds of megabytes of others, made as it is sent."""
    attributes = {"instanceType": "x9.large", "regionCode": "us-east-1", "vcpu": "2", "memory": "16 GiB"} | _PLAIN_LINUX
    attributes |= {f"attribute{number}": "not of interest" for number in range(30)}
    wanted = {"products": {"A": {"attributes": attributes | {"instanceType": "c7i.large"}}}}
    dimension = {"unit": "Hrs", "description": "of no interest" * 10, "pricePerUnit": {"USD": "0.1000000000"}}
    term = {"A.1": {"priceDimensions": {"A.1.H": dimension}, "termAttributes": {}, "effectiveDate": "2026-11-01"}}
    yield b'{"products": {'
    yield from _repeated(json.dumps({"productFamily": "Compute Instance", "attributes": attributes}), file_bytes // 2)
    yield json.dumps(wanted["products"]).encode()[1:] + b', "terms": {"OnDemand": {'
    yield from _repeated(json.dumps(term), file_bytes // 2)
    yield json.dumps({"A": term}).encode()[1:] + b', "Reserved": {}}}'


def _repeated(record: str, total_bytes: int) -> Iterator[bytes]:
    block = "".join(f'"%08d{number:03d}": {record},' for number in range(_BLOCK_RECORDS))
    sent = 0
    for count in itertools.count():
        piece = block.replace("%08d", f"{count:08d}").encode()
        yield piece
        sent += len(piece)
        if sent >= total_bytes:
            return


@contextmanager
def _served(file_bytes: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for piece in pieces(file_bytes):
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.json"
    finally:
        server.shutdown()
        server.server_close()


def main() -> int:
    """Prints the table; exit code 1 when the largest file took too much memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 30, 300])
    sizes: list[int] = parser.parse_args().megabytes
    print(f"{'file MB':>8} {'rows':>5} {'s':>6} {'MB/s':>6} {'peak MB':>8}")
    worst = 0
    for size in sizes:
        measured = measure(size * 1_000_000)
        worst = max(worst, measured.peak_bytes)
        speed = size / measured.seconds
        print(f"{size:8} {measured.rows:5} {measured.seconds:6.1f} {speed:6.0f} {measured.peak_bytes / 1e6:8.0f}")
    return 1 if worst > MOST_PEAK_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
