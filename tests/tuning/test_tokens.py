"""Token ids are made once: read back as they were, made anew where they were spoilt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycost.dataset import Dataset
from deploycost.models.base import find_base, load_tokenizer
from deploycost.tuning import tokens
from deploycost.tuning.tokens import TokenCache


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of the tokenizer was given."""
    counted: list[int] = []
    encode = tokens.encode

    def spy(tokenizer: Any, texts: Any, labels: Any, max_tokens: int) -> Any:
        counted.append(len(texts))
        return encode(tokenizer, texts, labels, max_tokens)

    monkeypatch.setattr(tokens, "encode", spy)
    return counted


@pytest.fixture
def cache(tiny_bases: dict[str, Path], tmp_path: Path) -> Callable[..., TokenCache]:
    def make(family: str = "bert", mark: str = "toy", folder: Path | None = tmp_path / "tokens") -> TokenCache:
        return TokenCache(folder, load_tokenizer(find_base(str(tiny_bases[family]))), mark)

    return make


def test_texts_are_tokenised_once(
    cache: Callable[..., TokenCache], toy_dataset: Dataset, calls: list[int], tmp_path: Path
) -> None:
    first = cache().encode(toy_dataset.train, "train", 16)
    assert calls == [180]
    again = cache().encode(toy_dataset.train, "train", 16)
    assert calls == [180]
    assert again == first
    assert max(map(len, first.input_ids)) == 16
    assert again.cut_tokens > 0
    whole = cache().encode(toy_dataset.train, "train", 64)
    assert whole.cut_tokens == 0
    assert again.whole_mean_tokens == pytest.approx(whole.mean_tokens)
    assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".safetensors"] * 2


def test_what_decides_the_ids_decides_the_file(
    cache: Callable[..., TokenCache], toy_dataset: Dataset, calls: list[int]
) -> None:
    cache().encode(toy_dataset.train, "train", 16)
    cache().encode(toy_dataset.train, "train", 17)
    cache().encode(toy_dataset.test, "test", 16)
    cache("roberta").encode(toy_dataset.train, "train", 16)
    cache(mark="other").encode(toy_dataset.train, "train", 16)
    assert calls == [180, 180, 61, 180, 180]
    used = cache()
    used.encode(toy_dataset.test, "other", 8)  # leaves its truncation in the tokenizer
    used.encode(toy_dataset.train, "train", 16)
    assert calls[5:] == [61]


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "rows"])
def test_a_damaged_file_is_made_anew(
    cache: Callable[..., TokenCache], toy_dataset: Dataset, calls: list[int], tmp_path: Path, harm: str
) -> None:
    first = cache().encode(toy_dataset.train, "train", 16)
    (path,) = (tmp_path / "tokens").iterdir()
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-100] ^= 1
    path.write_bytes({"cut": content[:-100], "flip": content, "empty": b"", "rows": content}[harm])
    rows = toy_dataset.train.take(range(170)) if harm == "rows" else toy_dataset.train
    assert cache().encode(rows, "train", 16).input_ids == first.input_ids[: len(rows)]
    assert calls == [180, len(rows)]
    assert cache().encode(rows, "train", 16).input_ids == first.input_ids[: len(rows)]
    assert calls == [180, len(rows)]


def test_without_a_folder_nothing_is_kept(
    cache: Callable[..., TokenCache], toy_dataset: Dataset, calls: list[int], tmp_path: Path
) -> None:
    for _ in range(2):
        cache(folder=None).encode(toy_dataset.test, "test", 16)
    assert calls == [61, 61]
    assert list(tmp_path.iterdir()) == []
