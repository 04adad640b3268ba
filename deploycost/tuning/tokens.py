"""Token ids, made once and kept: every method of a run, and every run beside it, reads the same texts.

A cache file is a safetensors file of all ids in one row, the length of each text and how many tokens were cut off all
of them, named by what decides its content: the tokenizer, the texts, and how many tokens of each are kept. A file that
cannot be used is made anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerFast

from deploycost.dataset import LabelledTexts
from deploycost.models.encoding import EncodedTexts, encode
from deploycost.workspace import fingerprint

# Raised when encoding changes what it makes of the same texts.
_RULES = 2


@dataclass(frozen=True)
class TokenCache:
    """Token ids kept under `folder`; without one, nothing is kept."""

    folder: Path | None
    tokenizer: PreTrainedTokenizerFast
    dataset_fingerprint: str

    def encode(self, rows: LabelledTexts, split: str, max_tokens: int) -> EncodedTexts:
        """The rows of a split as token ids, at most `max_tokens` of each: read where they were made before."""
        if self.folder is None:
            return encode(self.tokenizer, rows.texts, rows.labels, max_tokens)
        mark = fingerprint(_RULES, self._tokenizer_digest(), self.dataset_fingerprint, split, max_tokens)
        path = self.folder / f"{mark}.safetensors"
        kept = _read(path, len(rows))
        if kept is not None:
            pad = self.tokenizer.pad_token_id
            input_ids, cut_tokens = kept
            return EncodedTexts(input_ids, rows.labels, pad if isinstance(pad, int) else 0, cut_tokens)
        encoded = encode(self.tokenizer, rows.texts, rows.labels, max_tokens)
        _write(encoded, path)
        return encoded

    def _tokenizer_digest(self) -> str:
        # Truncation and padding are left in it by the last call, and are no property of the tokenizer.
        pristine = type(self.tokenizer.backend_tokenizer).from_str(self.tokenizer.backend_tokenizer.to_str())
        pristine.no_truncation()
        pristine.no_padding()
        return hashlib.sha256(pristine.to_str().encode()).hexdigest()


def _write(encoded: EncodedTexts, path: Path) -> None:
    """Puts the file in its place whole: runs beside this one may read and write the same."""
    lengths = np.array([len(ids) for ids in encoded.input_ids], dtype=np.int32)
    ids = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in encoded.input_ids])
    cut = np.array([encoded.cut_tokens], dtype=np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as staging:
        whole = Path(staging) / path.name
        save_file({"ids": ids, "lengths": lengths, "cut_tokens": cut, "digest": _digest(ids, lengths, cut)}, whole)
        whole.replace(path)


def _read(path: Path, rows: int) -> tuple[tuple[list[int], ...], int] | None:
    """The ids of each text and how many were cut off, or None where there is no such file or it is damaged."""
    try:
        content = load_file(path)
        ids, lengths, cut, digest = (content[name] for name in ("ids", "lengths", "cut_tokens", "digest"))
    except (OSError, KeyError, SafetensorError):
        return None
    if len(lengths) != rows or not np.array_equal(digest, _digest(ids, lengths, cut)):
        return None
    return tuple(piece.tolist() for piece in np.split(ids, np.cumsum(lengths)[:-1])), int(cut[0])


def _digest(*parts: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest(), dtype=np.uint8)
