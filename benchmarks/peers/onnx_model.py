"""A bundle's model as a careful user runs it by hand: tokenise, run, softmax. Every peer with ONNX serves this one.

It reads `bundle.json` and imports nothing of this project, so that it runs where only the peers are installed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class OnnxModel:
    """Tokenizer and session of a bundle, on one core."""

    def __init__(self, bundle: Path) -> None:
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        self._labels: list[str] = manifest["labels"]
        self._tokenizer = Tokenizer.from_file(str(bundle / manifest["tokenizer_file"]))
        self._tokenizer.enable_truncation(manifest["max_tokens"])
        self._tokenizer.no_padding()
        self._pad_token_id: int = manifest["pad_token_id"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            bundle / manifest["model_file"], options, providers=["CPUExecutionProvider"]
        )

    def predict(self, text: str) -> dict[str, Any]:
        """Label and score of one text."""
        token_ids = self._tokenizer.encode(text).ids
        return self._answers(np.array([token_ids], dtype=np.int64), np.ones((1, len(token_ids)), dtype=np.int64))[0]

    def predict_batch(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Label and score of each text, padded to the longest of them."""
        rows = [self._tokenizer.encode(text).ids for text in texts]
        shape = (len(rows), max(map(len, rows)))
        input_ids, mask = np.full(shape, self._pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            input_ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return self._answers(input_ids, mask)

    def _answers(self, input_ids: Any, mask: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - arrays of int64
        (logits,) = self._session.run(["logits"], {"input_ids": input_ids, "attention_mask": mask})
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
        best = scores.argmax(axis=-1).tolist()
        return [
            {"label": self._labels[label], "score": float(row[label])} for label, row in zip(best, scores, strict=True)
        ]
