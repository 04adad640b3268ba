"""An encoder of DistilBERT's shape with random weights, where the model hub is out of reach.

    python -m benchmarks.random_encoder FOLDER

As fast and as large as the real one, and it knows nothing. It reads texts with the packaged encoder's tokenizer, whose
vocabulary is as long.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertModel

from deploycost.models.base import find_base, load_tokenizer

_SEED = 1


def main(arguments: list[str]) -> None:
    """Write weights, configuration and tokenizer; the folder gets its name when all of it is there."""
    whole = Path(arguments[0])
    folder = whole.with_name(f"{whole.name}.part")
    torch.manual_seed(_SEED)
    tokenizer = load_tokenizer(find_base("minilm"))
    tokenizer.save_pretrained(folder)
    DistilBertModel(DistilBertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    folder.rename(whole)


if __name__ == "__main__":
    main(sys.argv[1:])
