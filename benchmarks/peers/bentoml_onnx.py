"""BentoML in front of onnxruntime: starts its command on one of the services of `bentoml_services`."""

from __future__ import annotations

import os
import sys

from benchmarks.peers.options import HOST, read_options


def main() -> None:
    """Become `bentoml serve`."""
    options = read_options()
    os.environ |= {"PEER_MODEL": str(options.model), "PEER_BATCH": str(options.batch), "BENTOML_DO_NOT_TRACK": "True"}
    service = "Batched" if options.batch > 1 else "Plain"
    target = f"benchmarks.peers.bentoml_services:{service}"
    command = ["-m", "bentoml", "serve", target, "--host", HOST, "--port", str(options.port), "--quiet"]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
