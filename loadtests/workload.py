"""What requests say: texts from a file, in a seeded order, as the bodies that the endpoint takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

# For a plain `locust -f` without a file: any endpoint of ours answers it.
SAMPLE_TEXT = "Shares rose after the company raised its forecast for the year."


def read_texts(path: str) -> list[str]:
    """The `text` of each line of a JSONL file; one sample text where no path is given.

    Raises:
        ValueError: the file cannot be read, has no texts, or a line is not an object with a `text` string.
    """
    if not path:
        return [SAMPLE_TEXT]
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the texts in {path}: {error}") from None
    texts = [_text(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise ValueError(f"{path} holds no texts: expected one {{'text': ...}} per line")
    return texts


def request_bodies(texts: list[str]) -> list[bytes]:
    """Each text as the JSON body of a request, made ahead so that encoding takes no time under load."""
    return [json.dumps({"text": text}).encode() for text in texts]


def seeded_order(number: int, seed: int) -> Iterator[int]:
    """Indices below `number` without end: all of them shuffled, then all of them shuffled again."""
    source = Random(seed)
    while True:
        yield from source.sample(range(number), number)


def _text(line: str, place: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError(f"{place}: expected an object with a 'text' string")
    return row["text"]
