"""The measures of encoders that a projection is asked about: by name, as `6L-768D`, or from a config.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from deploycost.errors import UserError, nearest
from deploycost.user_path import user_path


@dataclass(frozen=True)
class Shape:
    """What decides the work of one forward pass.

    `virtual_tokens` are prompt tokens that every request carries through all layers, `virtual_keys` the keys and values
    that `keyed_layers` of them are given besides, `adapter_width` the bottleneck of `adapters` adapters in each layer.
    `stored_layers` are those with weights of their own: 1 where all layers share them.
    """

    layers: int
    hidden: int
    heads: int
    ffn_width: int
    vocabulary: int = 30522
    labels: int = 2
    stored_layers: int | None = None
    virtual_tokens: int = 0
    virtual_keys: int = 0
    keyed_layers: int = 0
    adapter_width: int = 0
    adapters: int = 0

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer, adapters included."""
        own = 4 * self.hidden * self.hidden + 2 * self.hidden * self.ffn_width
        return own + self.adapters * 2 * self.hidden * self.adapter_width


def _bert(layers: int, hidden: int, **changes: Any) -> Shape:  # noqa: ANN401 - fields of Shape
    return replace(Shape(layers, hidden, max(1, hidden // 64), 4 * hidden), **changes)


# By the start of the name, longest first, lower case with every separator a hyphen. Sizes as their config.json give.
_NAMED: dict[str, Shape] = {
    "bert-tiny": _bert(2, 128), "bert-mini": _bert(4, 256), "bert-small": _bert(4, 512), "bert-medium": _bert(8, 512),
    "bert-base": _bert(12, 768), "bert-large": _bert(24, 1024),
    "distilbert": _bert(6, 768), "distilroberta": _bert(6, 768, vocabulary=50265),
    "roberta-base": _bert(12, 768, vocabulary=50265), "roberta-large": _bert(24, 1024, vocabulary=50265),
    "xlm-roberta-base": _bert(12, 768, vocabulary=250002), "xlm-roberta-large": _bert(24, 1024, vocabulary=250002),
    "camembert-base": _bert(12, 768, vocabulary=32005), "camembert-large": _bert(24, 1024, vocabulary=32005),
    "albert-base": _bert(12, 768, vocabulary=30000, stored_layers=1),
    "albert-large": _bert(24, 1024, vocabulary=30000, stored_layers=1),
    "electra-small": _bert(12, 256, heads=4), "electra-base": _bert(12, 768), "electra-large": _bert(24, 1024),
    "legal-bert-small": _bert(6, 512), "scibert": _bert(12, 768), "finbert": _bert(12, 768), "biobert": _bert(12, 768),
    "all-mpnet-base": _bert(12, 768), "mpnet-base": _bert(12, 768), "ernie": _bert(12, 768),
    "bge-small": _bert(12, 384, heads=12), "bge-base": _bert(12, 768), "bge-large": _bert(24, 1024),
    "e5-small": _bert(12, 384, heads=12), "e5-base": _bert(12, 768), "e5-large": _bert(24, 1024),
    "gte-small": _bert(12, 384, heads=12), "gte-base": _bert(12, 768), "gte-large": _bert(24, 1024),
    # Attention with relative positions, and gated widths, as the plain ones of the same number of weights.
    "deberta-base": _bert(12, 768), "deberta-large": _bert(24, 1024), "deberta-v3-base": _bert(12, 768),
    "deberta-v3-large": _bert(24, 1024), "deberta-v3-small": _bert(6, 768), "mdeberta-v3-base": _bert(12, 768),
    "deberta-v3-xsmall": _bert(12, 384),
    "modernbert-base": _bert(22, 768, ffn_width=1728), "modernbert-large": _bert(28, 1024, ffn_width=3936),
    "tinybert-l-2": _bert(2, 128), "tinybert-l-4": Shape(4, 312, 12, 1200), "tinybert-l-6": _bert(6, 768),
}  # fmt: skip
# As this product calls the one that it packages; others call one of twelve layers so too.
_MINILM_WIDTH, _ALIASES = 384, {"bert": "bert-base", "minilm": "minilm-l6", "all-minilm": "minilm-l6"}
_MINILM = re.compile(r"(?:^|-)minilm(?:-?v\d)?-(?:l-?(\d{1,2})|(\d{1,2})-?l(?:ayers?)?)(?![a-z0-9])")
_LAYERS_WIDTH = re.compile(
    r"(?<!\d)(\d{1,2})-?l(?:ayers?)?-?(\d{2,4})-?(?:d|h|dim|hidden)?(?![a-z0-9])"
    r"|(?<![a-z0-9])l-?(\d{1,2})-?h-?(\d{2,4})(?![a-z0-9])"
)
# Google's miniatures: what others call small, after a word of their own, has other measures.
_MINIATURES = ("bert-tiny", "bert-mini", "bert-small", "bert-medium")
# A part of a name that tells another size than the part that is known.
_SIZE = re.compile(
    r"(?:^|-)(l-?\d+|\d+-?l(?:ayers?)?|h-?\d+|tiny|nano|micro|mini|x*-?small|medium|base|x*-?large|xx?l|huge)(?=-|$)"
)
# Encoders whose layers are four square matrices and a feed-forward block, by the model_type of their config.json.
_ENCODERS = (
    "albert", "bert", "big_bird", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "markuplm",
    "modernbert", "mpnet", "roberta", "splinter", "xlm-roberta",
)  # fmt: skip
_GATED = ("modernbert",)
_MOST_OF_A_MEASURE = 10_000_000
_EXPECTED = "expected a name such as bert-base, a size such as 6L-768D, a config.json, or a bundle's folder"
# The 312 wide encoder with four layers is TinyBERT's, whose inner width is no multiple of its outer.
_INNER_WIDTHS = {312: 1200}


def find_shape(name: str) -> Shape:
    """The shape that a name means: a model known by name, `6L-768D`, a config.json, an ONNX graph, or a folder of one.

    Raises:
        UserError: it means none, or its file cannot be read.
    """
    if not name.strip():
        raise UserError(f"no model is named; {_EXPECTED}")
    path = _file_of(name)
    if path.suffix == ".onnx":
        return _from_graph(path)
    if path.suffix == ".json":
        return _from_config(path)
    return named_shape(name)


@lru_cache(maxsize=1024)
def named_shape(name: str) -> Shape:
    """The shape of a model known by name, or `6L-768D`, whatever lies in the folders here.

    Raises:
        UserError: the name means none.
    """
    squeezed = re.sub(r"[^a-z0-9]+", "-", name.casefold().rsplit("/", 1)[-1]).strip("-")
    squeezed = _ALIASES.get(squeezed, squeezed)
    sized = _LAYERS_WIDTH.search(squeezed)
    if sized:
        layers, hidden = (int(each) for each in sized.groups() if each)
        return _of_size(layers, hidden, name)
    minilm = _MINILM.search(squeezed)
    if minilm:
        return _of_size(int(minilm.group(1) or minilm.group(2)), _MINILM_WIDTH, name)
    for start in sorted(_NAMED, key=len, reverse=True):
        found = re.search(rf"{'^' if start in _MINIATURES else '(?:^|-)'}{start}", squeezed)
        if found:
            if _tells_another_size(start, squeezed[found.end() :]):
                raise UserError(f"model {name!r} tells another size than that of {start}; {_EXPECTED}")
            return _NAMED[start]
    raise UserError(f"unknown model {name!r}{nearest(squeezed, [*_NAMED, *_ALIASES])}; {_EXPECTED}")


def _file_of(name: str) -> Path:
    """The path that a name may be; of a folder the graph or the config in it."""
    path = user_path(name)
    try:
        is_folder = path.is_dir()
    except OSError:  # too long for a file
        return path
    if not is_folder:
        return path
    return path / ("model.onnx" if (path / "model.onnx").exists() else "config.json")


def _tells_another_size(start: str, rest: str) -> bool:
    """Whether the rest of a name tells a size; `base` is what a start means that tells none itself."""
    shape = _NAMED[start]
    known = {str(shape.layers), str(shape.hidden)} | (set() if _SIZE.search(start) else {"base"})
    # Of `12-layers` the number counts, of `large` the word.
    return any(re.sub(r"\D", "", told) not in known and told not in known for told in _SIZE.findall(rest))


def _of_size(layers: int, hidden: int, name: str) -> Shape:
    if not layers or not hidden:
        raise UserError(f"model {name!r} has no layers or no width; expected a size such as 6L-768D")
    heads = 12 if hidden in (312, 384) else max(1, hidden // 64)
    return Shape(layers, hidden, heads, _INNER_WIDTHS.get(hidden, 4 * hidden))


def _from_graph(path: Path) -> Shape:
    """The shape of a bundle's graph; weights beyond those of plain layers are one adapter in each."""
    from deploycost.projecting.graph_work import work_of_graph

    counted = work_of_graph(path)
    layers, hidden = max(1, counted.attentions), counted.hidden
    plain = Shape(layers, hidden, max(1, hidden // 64), counted.ffn_width)
    # The head's square map is one more matrix than the layers have.
    more = sum(counted.weights.values()) - layers * plain.layer_parameters - hidden * hidden
    width = more // (2 * hidden * layers)
    return replace(plain, adapters=1, adapter_width=width) if width > 0 else plain


def _from_config(path: Path) -> Shape:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the model's {path}: {error}") from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise UserError(f"{path} names no model_type; expected a config.json as transformers writes it")
    return shape_of_config(content, str(path))


def shape_of_config(content: dict[str, Any], name: str) -> Shape:
    """The shape in the content of a config.json, whatever its architecture calls the measures; `name` is for errors.

    Raises:
        UserError: the architecture is no plain encoder, or a measure is missing or no positive number.
    """
    from types import SimpleNamespace

    from optimum.utils import NormalizedConfigManager

    model_type = str(content["model_type"])
    if model_type not in _ENCODERS:
        raise UserError(
            f"{name}: model_type {model_type!r}{nearest(model_type, _ENCODERS)} is no encoder that is projected; those "
            f"are {', '.join(_ENCODERS)}"
        )
    if content.get("is_decoder") or content.get("is_encoder_decoder"):
        raise UserError(f"{name}: a decoder is not projected, only encoders are")
    normalised = NormalizedConfigManager.get_normalized_config_class(model_type)(SimpleNamespace(**content))

    def measure(*names: str) -> int:
        """The first of the names that the configuration gives a whole positive number for."""
        for each in names:
            value = content.get(each)
            if value is None:
                try:
                    value = getattr(normalised, each)
                except (AttributeError, KeyError):
                    continue
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_OF_A_MEASURE:
                return value
        raise UserError(f"{name}: lacks a whole positive number for {' or '.join(names)}")

    hidden = measure("hidden_size")
    layers = measure("num_layers", "num_hidden_layers", "n_layers")
    labels = content.get("id2label")
    ffn_width = measure("intermediate_size", "hidden_dim", "ffn_dim")
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=measure("num_attention_heads"),
        # A gated block has three matrices of its width: as many weights as two of half as much again.
        ffn_width=ffn_width * 3 // 2 if model_type in _GATED else ffn_width,
        vocabulary=measure("vocab_size"),
        labels=len(labels) if isinstance(labels, dict) and labels else 2,
        stored_layers=1 if model_type == "albert" else None,
    )
