"""The unit that servers are measured in: the model in a loop, with no server around it.

    python -m benchmarks.raw_loop BUNDLE TEXTS

For each line on stdin it runs every text of the file once, one at a time, and answers with a line of JSON: how long
each took, in seconds, in the order of the file. A process of its own, so that it has a server's core and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.peers.onnx_model import OnnxModel
from loadtests.workload import read_texts


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    model, texts = OnnxModel(Path(arguments[0])), read_texts(arguments[1])
    for _ in sys.stdin:
        times_s = []
        for text in texts:
            start_s = perf_counter()
            model.predict(text)
            times_s.append(perf_counter() - start_s)
        print(json.dumps({"times_s": times_s}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
