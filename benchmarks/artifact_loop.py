"""One artifact in a loop, in a process of its own: what `benchmarks.artifacts` measures.

    python -m benchmarks.artifact_loop BUNDLE TEXTS

For each line on stdin, a task in JSON, it answers with a line of JSON. `{"batch": B}` runs all texts of the file as a
server would, `B` together at most; `{"batch": B, "tokens": L, "turns": N}` runs `N` batches of `B` texts of `L` tokens
each, without tokenising. The answer holds seconds, and texts or turns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from loadtests.workload import read_texts
from serving.classifier import Classifier, EncodedText


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    classifier, texts = Classifier(Path(arguments[0]), threads=1), read_texts(arguments[1])
    print(json.dumps({"loaded": classifier.bundle.manifest.variant}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        told = _of_length(classifier, task) if "tokens" in task else _of_texts(classifier, texts, task["batch"])
        print(json.dumps(told), flush=True)


def _of_texts(classifier: Classifier, texts: list[str], batch: int) -> dict[str, Any]:
    start_s = perf_counter()
    if batch == 1:
        for text in texts:
            classifier.predict([text])
    else:
        classifier.predict(texts, batch_size=batch)
    return {"seconds": perf_counter() - start_s, "texts": len(texts)}


def _of_length(classifier: Classifier, task: dict[str, Any]) -> dict[str, Any]:
    (word,) = classifier.encode("the").token_ids[1:2]
    first, *_, last = classifier.encode("the").token_ids
    row = EncodedText([first, *[word] * (task["tokens"] - 2), last], False)
    batch = [row] * task["batch"]
    classifier.batch_logits(batch)  # kernels for this size are made once
    start_s = perf_counter()
    for _ in range(task["turns"]):
        classifier.batch_logits(batch)
    return {"seconds": perf_counter() - start_s, "texts": task["turns"] * task["batch"]}


if __name__ == "__main__":
    main(sys.argv[1:])
