"""What every peer is told: the folder of its model, the port to listen on, how many texts to batch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
BATCH_WAIT_S = 0.005


@dataclass(frozen=True)
class Options:
    """`batch` is the most texts computed together; with 1 the peer's batching is off."""

    model: Path
    port: int
    batch: int


def read_options() -> Options:
    """The options on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    asked = parser.parse_args()
    return Options(model=asked.model.resolve(), port=asked.port, batch=asked.batch)
