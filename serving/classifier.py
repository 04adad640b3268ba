"""Texts in, labelled scores out: the tokenizer and the engine of one bundle, joined without any framework."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serving.bundle import Bundle, open_bundle
from serving.engines import ENGINES
from serving.errors import BundleError, EngineError
from serving.limits import DEFAULT_BATCH
from serving.predictions import AnyPrediction, EncodedText, describe

# On a core a padding token costs as much as any other, and a batch saves little: measured on a 6-layer int8 encoder and
# real news texts, waves of 8 padded freely ran at 0.7 of the rate of one text at a time, and at 1.03 with this limit.
MAX_PADDING_RATIO: Final = 0.1
# Half a surrogate pair: legal in a Python string, no character, and refused by the tokenizer.
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# Two lengths in one batch, so that a model exported with a fixed size is refused at load and not by the first user.
_PROBE_TEXTS: Final = ("", "warm up")
# Tables of positions end at 512 or 1,024 as a rule, which this finds. Attention takes memory by the square of the
# length, and engines keep what they once had: what is longer would cost a server more than its texts may ever do.
_LONGEST_PROBE: Final = 1025


class Classifier:
    """One bundle, loaded and tried. Safe to call from several threads.

    `threads` is the number of cores that the engine may use. Raises `BundleError` where the bundle is damaged or its
    parts do not fit together (labels and the model's width, the tokenizer and `max_tokens`).

    A dynamically quantised (int8) model scales its activations over the whole batch, so its scores depend slightly on
    what else is in the batch; other models give the same scores alone and in company, up to rounding.
    """

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
        self.threads = threads
        self._tokenizer = _load_tokenizer(self.bundle)
        self._engine = ENGINES[self.bundle.manifest.engine](self.bundle, threads)
        self._try_out()

    def predict(self, texts: Sequence[str], batch_size: int = DEFAULT_BATCH) -> list[AnyPrediction]:
        """One prediction per text, in the order of `texts`. Raises `EngineError` where the model fails."""
        encoded = [self.encode(text) for text in texts]
        return self.describe(encoded, self._logits_in_batches(encoded, batch_size))

    def logits(self, texts: Sequence[str], batch_size: int = DEFAULT_BATCH) -> NDArray[np.float32]:
        """Scores before any softmax or sigmoid, [texts, labels], in the order of `texts`. Raises `EngineError`."""
        return self._logits_in_batches([self.encode(text) for text in texts], batch_size)

    def encode(self, text: str) -> EncodedText:
        """Token ids of `text`, at most `max_tokens`; lone surrogates count as U+FFFD, the replacement character."""
        if not text.isascii():
            text = _LONE_SURROGATE.sub("\ufffd", text)
        # The batch call with one text: it lets other threads run meanwhile (`encode` does not), and one text is not
        # spread over hidden threads (several would be).
        (encoding,) = self._tokenizer.encode_batch_fast([text])
        return EncodedText(encoding.ids, bool(encoding.overflowing))

    def batch_logits(self, encoded: Sequence[EncodedText]) -> NDArray[np.float32]:
        """Scores before any softmax or sigmoid, [texts, labels], for one batch, padded to its longest text or the
        bucket above.
        """
        shape = (len(encoded), self.padded_tokens(max(len(text.token_ids) for text in encoded)))
        input_ids = np.full(shape, self.bundle.manifest.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(encoded):
            input_ids[row, : len(text.token_ids)] = text.token_ids
            attention_mask[row, : len(text.token_ids)] = 1
        logits = self._engine.logits(input_ids, attention_mask)
        if not np.isfinite(logits).all():
            raise EngineError("the model answered with a score that is not a finite number")
        return logits

    def padded_tokens(self, tokens: int) -> int:
        """How many tokens are computed for the longest text of a batch, which has `tokens`."""
        return next((bucket for bucket in self.bundle.manifest.token_buckets if bucket >= tokens), tokens)

    def computed_tokens(self, lengths: Sequence[int]) -> int:
        """How many tokens are computed for a batch of texts of these lengths, padding included.

        An engine with buckets computes each text in its own; another pads all to the longest.
        """
        if self.bundle.manifest.token_buckets:
            return sum(map(self.padded_tokens, lengths))
        return len(lengths) * max(lengths)

    def describe(self, encoded: Sequence[EncodedText], logits: NDArray[np.float32]) -> list[AnyPrediction]:
        """The predictions that `logits` [texts, labels] stand for."""
        return describe(self.bundle.manifest, encoded, logits)

    def _logits_in_batches(self, encoded: Sequence[EncodedText], batch_size: int) -> NDArray[np.float32]:
        logits = np.empty((len(encoded), len(self.bundle.manifest.labels)), dtype=np.float32)
        for group in length_groups([self.padded_tokens(len(text.token_ids)) for text in encoded], batch_size):
            logits[group] = self.batch_logits([encoded[index] for index in group])
        return logits

    def _try_out(self) -> None:
        """Run the model on short texts and on a text as long as can be, in each bucket where there are some.

        `BundleError` where it fails on one, or where its width is not the number of labels.
        """
        short = [self.encode(text) for text in _PROBE_TEXTS]
        if not short[0].token_ids:
            raise BundleError(
                f"{self.bundle.tokenizer_path} adds no special tokens: an empty text would be no input at all"
            )
        self._probe(short, "two short texts")
        ids, manifest = short[-1].token_ids, self.bundle.manifest
        for tokens in sorted({min(each, _LONGEST_PROBE) for each in manifest.token_buckets or (manifest.max_tokens,)}):
            long = EncodedText((ids * tokens)[:tokens], truncated=False)
            self._probe([long], f"a text of {tokens} tokens", "; build it with a smaller --max-tokens")

    def _probe(self, encoded: Sequence[EncodedText], told: str, advice: str = "") -> None:
        model, labels = self.bundle.model_path, self.bundle.manifest.labels
        try:
            shape = self.batch_logits(encoded).shape
        except EngineError as error:
            raise BundleError(f"{model} fails on {told}: {error}{advice}") from None
        expected = (len(encoded), len(labels))
        if shape != expected:
            raise BundleError(
                f"{model} does not fit its labels: expected logits of shape {expected} for {len(encoded)} texts and "
                f"{len(labels)} labels, got {shape}"
            )


def length_groups(lengths: Sequence[int], max_batch: int) -> Iterator[list[int]]:
    """Positions in `lengths`, shortest first, in groups that are worth computing together.

    A group holds at most `max_batch` positions and pads at most `MAX_PADDING_RATIO` of its own tokens.
    """
    group: list[int] = []
    tokens = 0
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        longest = lengths[position]
        padded, own = longest * (len(group) + 1), tokens + longest
        if group and (len(group) == max_batch or padded > (1 + MAX_PADDING_RATIO) * own):
            yield group
            group, tokens = [], 0
        group.append(position)
        tokens += longest
    if group:
        yield group


def company_of(lengths: Sequence[int], position: int, max_batch: int) -> tuple[int, int]:
    """The run of `lengths`, which ascend, around `position` that is worth computing together: first, end.

    It grows by the nearer neighbour, to at most `max_batch`, and pads at most `MAX_PADDING_RATIO` of its own tokens.
    """
    first, end, tokens = position, position + 1, lengths[position]
    while end - first < max_batch and (first > 0 or end < len(lengths)):
        below = lengths[end - 1] - lengths[first - 1] if first > 0 else None
        above = lengths[end] - lengths[end - 1] if end < len(lengths) else None
        downwards = above is None or (below is not None and below <= above)
        longest = lengths[end - 1] if downwards else lengths[end]
        tokens += lengths[first - 1] if downwards else lengths[end]
        if longest * (end - first + 1) > (1 + MAX_PADDING_RATIO) * tokens:
            break
        first, end = (first - 1, end) if downwards else (first, end + 1)
    return first, end


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, cutting at `max_tokens` and never padding, whatever its file says."""
    max_tokens = bundle.manifest.max_tokens
    try:
        tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more specific
        raise BundleError(f"{bundle.tokenizer_path} is not a tokenizer: {str(error)[:200]}") from None
    special_tokens = tokenizer.num_special_tokens_to_add(is_pair=False)
    if special_tokens >= max_tokens:
        raise BundleError(
            f"max_tokens {max_tokens} leaves no room for text: {bundle.tokenizer_path} adds {special_tokens} tokens"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
